//! Encoding of images.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder as _};
use percept_modalities::image::Image;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::reject::Reject;

/// The formats that images are encoded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ImageFormat {
    /// JPEG with halved colour, by libjpeg-turbo.
    Jpeg,
    /// PNG, which is lossless.
    Png,
    /// WebP in its lossless form.
    Webp,
}

impl ImageFormat {
    /// The format that keeps what a file of this extension had, as far as one can be written.
    pub fn like(extension: &str) -> Self {
        match extension {
            "jpg" | "jpeg" => Self::Jpeg,
            "webp" => Self::Webp,
            _ => Self::Png,
        }
    }

    /// The usual file extension of the format.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// The bytes of a file, the same on every machine; `quality` is a JPEG's.
    pub fn encode(self, image: &Image, quality: u8) -> Result<Vec<u8>, Reject> {
        let fault = |why: String| Reject::new("encoding", why);
        let (width, height) = (image.width as u32, image.height as u32);
        let mut out = Vec::new();
        match self {
            Self::Jpeg => {
                let pixels = turbojpeg::Image {
                    pixels: image.rgb.as_slice(),
                    width: image.width,
                    pitch: 3 * image.width,
                    height: image.height,
                    format: turbojpeg::PixelFormat::RGB,
                };
                let written = turbojpeg::compress(pixels, i32::from(quality), turbojpeg::Subsamp::Sub2x2);
                out = written.map_err(|e| fault(e.to_string()))?.to_vec();
            }
            Self::Png => image::codecs::png::PngEncoder::new(Cursor::new(&mut out))
                .write_image(&image.rgb, width, height, ExtendedColorType::Rgb8)
                .map_err(|e| fault(e.to_string()))?,
            Self::Webp => image::codecs::webp::WebPEncoder::new_lossless(Cursor::new(&mut out))
                .write_image(&image.rgb, width, height, ExtendedColorType::Rgb8)
                .map_err(|e| fault(e.to_string()))?,
        }
        Ok(out)
    }
}

/// Refuses a quality that no JPEG has.
pub(super) fn check_quality(stage: &str, quality: u8) -> Result<()> {
    match quality {
        1..=100 => Ok(()),
        _ => Err(Error::Config(format!("stage {stage}: quality lies between 1 and 100"))),
    }
}
