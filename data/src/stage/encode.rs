//! `encode`: pictures written anew in one format.

use serde::Deserialize;

use super::encoding::{PictureFormat, check_quality};
use super::{Pictures, Settings, Site, Stage};
use crate::error::Result;
use crate::item::Item;

/// Writes all pictures anew. Their metadata, transparency and further frames go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encode {
    /// What they are written as: `jpeg`, `png` or `webp`, the last two without loss.
    format: PictureFormat,
    /// The quality of a JPEG, from 1 to 100.
    #[serde(default = "quality")]
    quality: u8,
    /// Leave those as they are that have the format already.
    #[serde(default)]
    keep_same: bool,
}

fn quality() -> u8 {
    92
}

impl Settings for Encode {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        check_quality("encode", self.quality)?;
        let Self { format, quality, keep_same } = *self;
        Ok(Stage::each(Pictures::Whole, move |item: &mut Item| {
            for at in item.image_places() {
                let extension = item.sample.media[at].extension.as_str();
                let is_same =
                    extension == format.extension() || (extension == "jpeg" && format.extension() == "jpg");
                if keep_same && is_same {
                    continue;
                }
                let picture = item.whole_picture(at)?.clone();
                let bytes = format.encode(&picture.image, quality)?;
                item.replace_bytes(at, format.extension(), bytes);
            }
            Ok(())
        }))
    }
}
