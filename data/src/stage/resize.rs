//! `resize`: pictures brought to a size, as PIL does it, and written anew.

use percept_modalities::image::{Filter, resize};
use serde::Deserialize;

use super::encoding::{PictureFormat, check_quality};
use super::{Pictures, Settings, Site, Stage};
use crate::error::{Error, Result};
use crate::item::Item;
use crate::reject::Reject;

/// Resizes pictures. One of `longest`, `shortest`, or both of `width` and `height` is given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Resize {
    /// Pixels that the longer side gets.
    longest: Option<usize>,
    /// Pixels that the shorter side gets.
    shortest: Option<usize>,
    /// Pixels in a row, whatever the shape was.
    width: Option<usize>,
    /// Rows, whatever the shape was.
    height: Option<usize>,
    /// Whether smaller pictures are enlarged; otherwise they stay as they are.
    enlarge: bool,
    /// How pixels are weighted: `lanczos`, `bicubic`, `bilinear`, `hamming`, `box` or `nearest`.
    filter: Weights,
    /// What resized pictures are written as; as what they were where it is left out.
    format: Option<PictureFormat>,
    /// The quality of a JPEG, from 1 to 100.
    quality: u8,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Weights {
    Lanczos,
    Bicubic,
    Bilinear,
    Hamming,
    Box,
    Nearest,
}

impl Default for Resize {
    fn default() -> Self {
        Self {
            longest: None,
            shortest: None,
            width: None,
            height: None,
            enlarge: false,
            filter: Weights::Lanczos,
            format: None,
            quality: 92,
        }
    }
}

#[derive(Clone, Copy)]
enum Target {
    Longest(usize),
    Shortest(usize),
    Size(usize, usize),
}

impl Target {
    fn of(self, width: usize, height: usize) -> (usize, usize) {
        let scaled = |side: usize, from: usize| {
            let scale = |length: usize| ((length as f64 * side as f64 / from as f64).round() as usize).max(1);
            (scale(width), scale(height))
        };
        match self {
            Self::Longest(side) => scaled(side, width.max(height)),
            Self::Shortest(side) => scaled(side, width.min(height)),
            Self::Size(width, height) => (width, height),
        }
    }
}

impl Settings for Resize {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let target = match (self.longest, self.shortest, self.width, self.height) {
            (Some(side), None, None, None) => Target::Longest(side),
            (None, Some(side), None, None) => Target::Shortest(side),
            (None, None, Some(width), Some(height)) => Target::Size(width, height),
            _ => {
                let why = "stage resize: give longest, or shortest, or width and height";
                return Err(Error::Config(why.into()));
            }
        };
        if target.of(1, 1).0 == 0
            || matches!(target, Target::Longest(0) | Target::Shortest(0) | Target::Size(_, 0))
        {
            return Err(Error::Config("stage resize: a side has one pixel or more".into()));
        }
        check_quality("resize", self.quality)?;
        let filter = match self.filter {
            Weights::Lanczos => Filter::Lanczos,
            Weights::Bicubic => Filter::Bicubic,
            Weights::Bilinear => Filter::Bilinear,
            Weights::Hamming => Filter::Hamming,
            Weights::Box => Filter::Box,
            Weights::Nearest => Filter::Nearest,
        };
        let (enlarge, format, quality) = (self.enlarge, self.format, self.quality);
        Ok(Stage::each(Pictures::Whole, move |item: &mut Item| {
            for at in item.image_places() {
                let picture = item.whole_picture(at)?.clone();
                let (width, height) = target.of(picture.width, picture.height);
                let is_larger = width > picture.width || height > picture.height;
                if (width, height) == (picture.width, picture.height) || (is_larger && !enlarge) {
                    continue;
                }
                let resized =
                    resize(&picture.image, width, height, filter).map_err(|e| Reject::medium(at, &e))?;
                let format = format.unwrap_or_else(|| PictureFormat::like(&item.sample.media[at].extension));
                let bytes = format.encode(&resized, quality)?;
                item.replace_bytes(at, format.extension(), bytes);
            }
            Ok(())
        }))
    }
}
