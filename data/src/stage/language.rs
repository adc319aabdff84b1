//! `filter-language`: texts by the language they are in.

use serde::Deserialize;
use whatlang::Lang;

use super::captions::whole_text;
use super::{ImageUse, Settings, Site, Stage};
use crate::error::{Error, Result};
use crate::item::Item;
use crate::reject::Reject;

/// Rejects samples in other languages. Short texts are often taken for a neighbour's language: ask for
/// confidence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Language {
    /// Languages that are kept, as ISO 639-3 codes: `eng`, `deu`, `cmn`.
    languages: Vec<String>,
    /// Below this confidence, between 0 and 1, it is not known which language it is.
    #[serde(default)]
    min_confidence: f64,
    /// Whether samples stay whose language is not known, those without text among them.
    #[serde(default)]
    keep_unknown: bool,
}

impl Settings for Language {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let code = |code: &String| {
            Lang::from_code(code.as_str()).ok_or_else(|| {
                let known = Lang::all().iter().map(|lang| lang.code()).collect::<Vec<_>>().join(", ");
                Error::Config(format!(
                    "stage filter-language: no language '{code}'; the known ones are {known}"
                ))
            })
        };
        let languages: Vec<Lang> = self.languages.iter().map(code).collect::<Result<_>>()?;
        let (min_confidence, keep_unknown) = (self.min_confidence, self.keep_unknown);
        Ok(Stage::each(ImageUse::Unseen, move |item: &mut Item| {
            let found = whatlang::detect(&whole_text(&item.sample));
            match found.filter(|found| found.confidence() >= min_confidence) {
                Some(found) if languages.contains(&found.lang()) => Ok(()),
                Some(found) => {
                    let why = format!("it is {}, confidence {:.2}", found.lang().code(), found.confidence());
                    Err(Reject::new("language", why))
                }
                None if keep_unknown => Ok(()),
                None => Err(Reject::new("unknown-language", "its language cannot be determined")),
            }
        }))
    }
}
