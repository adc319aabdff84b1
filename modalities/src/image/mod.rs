//! Images: decoding, resizing and normalizing as PIL does.

mod crop;
mod decode;
mod normalize;
mod resize;

pub use crop::{center_crop, crop, pad};
pub use decode::{Limits, Reduced, decode, decode_reduced};
pub(crate) use decode::{format_name, is_heif_sequence, png};
pub use normalize::{Normalize, normalize};
pub use resize::{Filter, resize, resize_floats, resize_tensor, windows};

use crate::error::{Error, Result};

/// An image: 8-bit RGB, row-major, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

/// Pixels that any image may have, where PIL too refuses what it calls a decompression bomb.
const MAX_PIXELS: usize = 178_956_970;

impl Image {
    /// An image of one colour.
    ///
    /// # Errors
    /// When it has no pixels, or more than 178 million.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Result<Image> {
        check_size("image", width, height)?;
        let rgb = if colour[0] == colour[1] && colour[1] == colour[2] {
            vec![colour[0]; 3 * width * height]
        } else {
            colour.repeat(width * height)
        };
        Ok(Image { width, height, rgb })
    }

    /// The bytes of one row.
    fn row(&self, y: usize) -> &[u8] {
        &self.rgb[3 * self.width * y..3 * self.width * (y + 1)]
    }
}

/// Refuses a size that no image has.
fn check_size(what: &str, width: usize, height: usize) -> Result<()> {
    match width.checked_mul(height) {
        Some(0) => {
            Err(Error::Decode { what: format!("{what} of {width}x{height}"), why: "it has no pixels".into() })
        }
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(Error::TooLarge {
            what: what.into(),
            why: format!("{width}x{height} is beyond {MAX_PIXELS} pixels"),
        }),
    }
}
