//! `resize`: images resized as PIL does it, and encoded again.

use percept_modalities::image::{Filter, resize};
use serde::Deserialize;

use super::encoding::{ImageFormat, check_quality};
use super::{ImageUse, Settings, Site, Stage};
use crate::error::{Error, Result};
use crate::item::Item;
use crate::reject::Reject;

/// Resizes images. One of `longest`, `shortest`, or both of `width` and `height` is given.
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
    /// Whether smaller images are enlarged; otherwise they stay as they are.
    enlarge: bool,
    /// How pixels are weighted: `lanczos`, `bicubic`, `bilinear`, `hamming`, `box` or `nearest`.
    filter: ResizeFilter,
    /// What resized images are written as; as what they were where it is left out.
    format: Option<ImageFormat>,
    /// The quality of a JPEG, from 1 to 100.
    quality: u8,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ResizeFilter {
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
            filter: ResizeFilter::Lanczos,
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
            ResizeFilter::Lanczos => Filter::Lanczos,
            ResizeFilter::Bicubic => Filter::Bicubic,
            ResizeFilter::Bilinear => Filter::Bilinear,
            ResizeFilter::Hamming => Filter::Hamming,
            ResizeFilter::Box => Filter::Box,
            ResizeFilter::Nearest => Filter::Nearest,
        };
        let (enlarge, format, quality) = (self.enlarge, self.format, self.quality);
        Ok(Stage::each(ImageUse::Whole, move |item: &mut Item| {
            for at in item.image_indices() {
                let image = item.whole_image(at)?.clone();
                let (width, height) = target.of(image.width, image.height);
                let is_larger = width > image.width || height > image.height;
                if (width, height) == (image.width, image.height) || (is_larger && !enlarge) {
                    continue;
                }
                let resized =
                    resize(&image.pixels, width, height, filter).map_err(|e| Reject::medium(at, &e))?;
                let format = format.unwrap_or_else(|| ImageFormat::like(&item.sample.media[at].extension));
                let bytes = format.encode(&resized, quality)?;
                item.replace_bytes(at, format.extension(), bytes);
            }
            Ok(())
        }))
    }
}
