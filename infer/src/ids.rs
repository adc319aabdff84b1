//! Token ids against the embedding table.

use percept_modalities::text::Tokenizer;

use crate::error::{Error, Result};

/// Refuses tokens that an embedding table of `rows` rows has none for.
pub(crate) fn check_ids(
    mut ids: impl Iterator<Item = i32>,
    rows: usize,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let Some(id) = ids.find(|id| usize::try_from(*id).map_or(true, |id| id >= rows)) else { return Ok(()) };
    let token = u32::try_from(id).ok().and_then(|id| tokenizer.token(id)).unwrap_or_default();
    Err(Error::Setting(format!(
        "token {id} {token:?} is beyond the {rows} rows of the model's embedding table; its tokenizer has more tokens \
         than the model: leave the token out, or use the files that belong together"
    )))
}
