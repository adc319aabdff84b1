//! The rows of a table as samples.

use std::path::Path;
use std::sync::Arc;

use super::table::{Table, TableRead};
use crate::error::Result;
use crate::format::read::{Draw, Draws, row_key};
use crate::format::rows::{Columns, LONGEST};
use crate::reject::Reject;

/// The rows of a table. A row group that does not decode is one reject, and the rest of the table is read. A row of more
/// than `cap` bytes and a text is refused.
pub(crate) fn read(path: &Path, columns: Columns, cap: u64) -> Result<Draws> {
    let mut table = Table::open(path, |_| true)?;
    columns.note_renamed(path, table.renamed.as_ref());
    columns.check(path, &table.names(), true)?;
    let (columns, path) = (Arc::new(columns), path.to_path_buf());
    let most = usize::try_from(cap).unwrap_or(usize::MAX).saturating_add(LONGEST);
    let (mut number, mut ready) = (0, Vec::new().into_iter());
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            if let Some(draw) = ready.next() {
                return Some(draw);
            }
            match table.next()? {
                TableRead::Rows(batch) => {
                    let draw = |record: usize| {
                        let (columns, batch) = (Arc::clone(&columns), Arc::clone(&batch));
                        let key = row_key(&path, number + record as u64);
                        let weight = batch.weight(record);
                        if weight > most {
                            let why = format!("its row has {weight} bytes, and {most} are allowed");
                            return Draw::refused(key, Reject::new("too-large", why));
                        }
                        Draw::new(weight, move || columns.sample(batch.row(record), &key))
                    };
                    ready = (0..batch.len()).map(draw).collect::<Vec<_>>().into_iter();
                    number += batch.len() as u64;
                }
                TableRead::Lost(why, rows) => {
                    let key = row_key(&path, number);
                    number += rows;
                    let why = format!("{}: {why}", path.display());
                    return Some(Draw::refused(key, Reject::new("damaged-file", why)));
                }
            }
        }
    })))
}
