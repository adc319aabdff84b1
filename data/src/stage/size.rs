//! `filter-size`: images by their pixels, shape and bytes.

use serde::Deserialize;

use super::{ImageUse, Settings, Site, Stage};
use crate::error::Result;
use crate::item::Item;
use crate::reject::Reject;

/// Rejects samples with an image out of bounds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Size {
    /// The fewest pixels in a row.
    min_width: usize,
    /// The fewest rows.
    min_height: usize,
    /// The most pixels in a row.
    max_width: usize,
    /// The most rows.
    max_height: usize,
    /// The fewest pixels in all.
    min_pixels: usize,
    /// The most pixels in all.
    max_pixels: usize,
    /// The most that the longer side may be of the shorter one.
    max_aspect: f64,
    /// The fewest bytes of the file.
    min_bytes: usize,
    /// The most bytes of the file.
    max_bytes: usize,
}

impl Default for Size {
    fn default() -> Self {
        let most = usize::MAX;
        Self {
            min_width: 0,
            min_height: 0,
            max_width: most,
            max_height: most,
            min_pixels: 0,
            max_pixels: most,
            max_aspect: f64::INFINITY,
            min_bytes: 0,
            max_bytes: most,
        }
    }
}

impl Settings for Size {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let Self { min_width, min_height, max_width, max_height, .. } = *self;
        let Self { min_pixels, max_pixels, max_aspect, min_bytes, max_bytes, .. } = *self;
        Ok(Stage::each(ImageUse::Reduced, move |item: &mut Item| {
            for at in item.image_indices() {
                let bytes = item.sample.media[at].bytes.len();
                if !(min_bytes..=max_bytes).contains(&bytes) {
                    return Err(Reject::new("bytes", format!("image {at} has {bytes} bytes")));
                }
                let image = item.image(at)?;
                let (width, height) = (image.width, image.height);
                let pixels = width * height;
                let size = || format!("image {at} is {width}x{height}");
                if width < min_width || height < min_height || pixels < min_pixels {
                    return Err(Reject::new("too-small", size()));
                }
                if width > max_width || height > max_height || pixels > max_pixels {
                    return Err(Reject::new("too-large", size()));
                }
                if width.max(height) as f64 > max_aspect * width.min(height) as f64 {
                    return Err(Reject::new("aspect", size()));
                }
            }
            Ok(())
        }))
    }
}
