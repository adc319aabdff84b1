//! `encode`: images re-encoded in one format.

use serde::Deserialize;

use super::encoding::{ImageFormat, check_quality};
use super::{ImageUse, Settings, Site, Stage};
use crate::error::Result;
use crate::item::Item;

/// Re-encodes all images. Their metadata, transparency and further frames are lost.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encode {
    /// What they are written as: `jpeg`, `png` or `webp`, the last two without loss.
    format: ImageFormat,
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
        Ok(Stage::each(ImageUse::Whole, move |item: &mut Item| {
            for at in item.image_indices() {
                let extension = item.sample.media[at].extension.as_str();
                let is_same =
                    extension == format.extension() || (extension == "jpeg" && format.extension() == "jpg");
                if keep_same && is_same {
                    continue;
                }
                let image = item.whole_image(at)?.clone();
                let bytes = format.encode(&image.pixels, quality)?;
                item.replace_bytes(at, format.extension(), bytes);
            }
            Ok(())
        }))
    }
}
