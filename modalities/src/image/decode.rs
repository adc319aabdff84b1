//! From a file's bytes to upright 8-bit RGB.
//!
//! The rule is `PIL.ImageOps.exif_transpose(image).convert("RGB")`, which is what transformers does with an
//! image it loads: alpha is dropped, not composited, and 16-bit gray is clipped, not scaled. What it does not drop is one
//! colour that a file calls transparent, which the image processors then show as white ([`key`]). Formats that PIL
//! does not read (OpenEXR, Radiance, farbfeld) follow the nearest sensible rule, said where it is applied.

mod bmp;
mod directory;
mod gif;
mod heif;
mod ico;
mod jpeg;
mod key;
mod orientation;
mod pixels;
pub(crate) mod png;
mod tiff;

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use super::{Image, MAX_PIXELS};
use crate::error::{Error, Result};

/// Caps that hold before memory is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Pixels that an image may have.
    pub max_pixels: usize,
}

impl Default for Limits {
    /// What PIL refuses as a decompression bomb: 178 956 970 pixels.
    fn default() -> Limits {
        Limits { max_pixels: MAX_PIXELS }
    }
}

impl Limits {
    /// Refuses a size from a header.
    fn check(&self, what: &str, width: usize, height: usize) -> Result<()> {
        if width.checked_mul(height).is_some_and(|pixels| pixels <= self.max_pixels) {
            return super::check_size(what, width, height);
        }
        Err(Error::TooLarge {
            what: what.into(),
            why: format!(
                "its header says {width}x{height} pixels, beyond the cap of {}; make it smaller or raise the cap",
                self.max_pixels
            ),
        })
    }
}

/// The first image in a file of any format: JPEG, PNG, GIF, WebP, AVIF, HEIC, TIFF, BMP, ICO, TGA, PNM, QOI,
/// DDS, HDR, EXR, farbfeld. It is turned upright as its EXIF or XMP orientation says, or, in AVIF and HEIC,
/// the file's own turns.
///
/// # Errors
/// When the format is unknown, the file is damaged or cut off, or its header says a size beyond the limits.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let format = format(bytes)?;
    let image = match format {
        ImageFormat::Avif => return heif::decode(bytes, limits),
        ImageFormat::Jpeg => jpeg::decode(bytes, limits)?,
        ImageFormat::Gif => gif::decode(bytes, limits)?,
        ImageFormat::Ico => ico::decode(bytes, limits)?,
        ImageFormat::Tiff => tiff::decode(bytes, limits)?,
        ImageFormat::Bmp => bmp::decode(bytes, limits)?,
        ImageFormat::Png => {
            let mut image = general(&png::still(bytes), format, limits)?;
            if let Some(colour) = key::of_png(bytes) {
                key::show(&mut image, colour);
            }
            image
        }
        _ => general(bytes, format, limits)?,
    };
    Ok(upright(image, orientation::of(bytes, format)))
}

/// An image that may have been decoded at a fraction of its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduced {
    /// The decoded pixels, upright.
    pub image: Image,
    /// Width in pixels of the whole image, upright.
    pub width: usize,
    /// Height in pixels of the whole image, upright.
    pub height: usize,
}

/// [`decode`], at a fraction of the size where the format can: a JPEG at the smallest of an eighth, a quarter and a half
/// that leaves its shorter side `side` pixels or more. Damage is found as in the whole image.
///
/// # Errors
/// As [`decode`].
pub fn decode_reduced(bytes: &[u8], limits: &Limits, side: usize) -> Result<Reduced> {
    if format(bytes)? != ImageFormat::Jpeg {
        let image = decode(bytes, limits)?;
        return Ok(Reduced { width: image.width, height: image.height, image });
    }
    let (image, (width, height)) = jpeg::scaled(bytes, limits, side)?;
    let orientation = orientation::of(bytes, ImageFormat::Jpeg);
    let turned = Orientation::from_exif(orientation).is_some_and(|turn| {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        matches!(turn, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
    });
    let (width, height) = if turned { (height, width) } else { (width, height) };
    Ok(Reduced { image: upright(image, orientation), width, height })
}

/// Which format the first bytes announce. TGA announces none, so its header is checked for sense.
fn format(bytes: &[u8]) -> Result<ImageFormat> {
    guess(bytes).ok_or_else(|| Error::Decode {
        what: "image".into(),
        why: "its first bytes are of no known format (JPEG, PNG, GIF, WebP, AVIF, HEIC, TIFF, BMP, ICO, TGA, PNM, QOI, DDS, HDR, \
              EXR, farbfeld)"
            .into(),
    })
}

fn guess(bytes: &[u8]) -> Option<ImageFormat> {
    // The image crate's name for AVIF stands for HEIC too, which it does not know.
    if heif::brand(bytes).is_some() {
        return Some(ImageFormat::Avif);
    }
    // The image crate does not know BigTIFF by its letters.
    if bytes.starts_with(b"II\x2b\0") || bytes.starts_with(b"MM\0\x2b") {
        return Some(ImageFormat::Tiff);
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Avif) => None,
        Ok(ImageFormat::Bmp) if !bmp::has_header(bytes) => None,
        // Two letters of text are not yet an image.
        Ok(ImageFormat::Pnm) if !bytes.get(2).is_some_and(|b| b.is_ascii_whitespace() || *b == b'#') => None,
        Ok(format) => Some(format),
        Err(_) => is_tga(bytes).then_some(ImageFormat::Tga),
    }
}

fn is_tga(bytes: &[u8]) -> bool {
    bytes.len() >= 18
        && matches!(bytes[1..3], [1, 1 | 9] | [0, 2 | 3 | 10 | 11])
        && matches!(bytes[16], 8 | 15 | 16 | 24 | 32)
        && bytes[17] & 0xc0 == 0
        && bytes[12..16] != [0; 4]
}

/// Whether a file is a sequence of images in the boxes of AVIF or HEIC.
pub(crate) fn is_heif_sequence(head: &[u8]) -> bool {
    heif::brand(head).is_some_and(|(_, _, sequence)| sequence)
}

/// The name and the usual extension of the format that a file begins like.
pub(crate) fn format_name(head: &[u8]) -> Option<(&'static str, &'static str)> {
    if let Some((name, extension, _)) = heif::brand(head) {
        return Some((name, extension));
    }
    Some(match guess(head)? {
        ImageFormat::Jpeg => ("JPEG", "jpg"),
        ImageFormat::Png => ("PNG", "png"),
        ImageFormat::Gif => ("GIF", "gif"),
        ImageFormat::WebP => ("WebP", "webp"),
        ImageFormat::Tiff => ("TIFF", "tiff"),
        ImageFormat::Bmp => ("BMP", "bmp"),
        ImageFormat::Ico => ("ICO", "ico"),
        ImageFormat::Tga => ("TGA", "tga"),
        ImageFormat::Pnm => ("PNM", "pnm"),
        ImageFormat::Qoi => ("QOI", "qoi"),
        ImageFormat::Dds => ("DDS", "dds"),
        ImageFormat::Hdr => ("Radiance", "hdr"),
        ImageFormat::OpenExr => ("OpenEXR", "exr"),
        ImageFormat::Farbfeld => ("farbfeld", "ff"),
        _ => return None,
    })
}

/// What a format is called in messages.
fn name(format: ImageFormat) -> String {
    format!("{} image", format.extensions_str().first().unwrap_or(&"unknown").to_uppercase())
}

/// Formats that the image crate reads as PIL does.
fn general(bytes: &[u8], format: ImageFormat, limits: &Limits) -> Result<Image> {
    let what = name(format);
    let fault = |error: ImageError| match error {
        ImageError::Limits(error) => Error::TooLarge { what: what.clone(), why: error.to_string() },
        error => Error::Decode { what: what.clone(), why: error.to_string() },
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The widest pixel is four floats; the decoders' own needs come on top.
    let mut memory = image::Limits::no_limits();
    memory.max_alloc = Some((limits.max_pixels as u64).saturating_mul(16).saturating_add(64 << 20));
    reader.limits(memory);
    let decoder = reader.into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    limits.check(&what, width as usize, height as usize)?;
    let depth = decoder.original_color_type();
    let image = DynamicImage::from_decoder(decoder).map_err(fault)?;
    Ok(Image {
        width: width as usize,
        height: height as usize,
        rgb: pixels::to_rgb(image, depth, format).map_err(|why| Error::Decode { what, why })?,
    })
}

/// The image turned upright by its EXIF orientation.
fn upright(image: Image, orientation: u8) -> Image {
    let turn = match Orientation::from_exif(orientation) {
        None | Some(Orientation::NoTransforms) => return image,
        Some(turn) => turn,
    };
    // The caps keep both sides far below 2^32, and the buffer is theirs, so the image is made.
    let (width, height) = (image.width as u32, image.height as u32);
    match RgbImage::from_raw(width, height, image.rgb) {
        Some(buffer) => {
            let mut buffer = DynamicImage::ImageRgb8(buffer);
            buffer.apply_orientation(turn);
            Image {
                width: buffer.width() as usize,
                height: buffer.height() as usize,
                rgb: buffer.into_bytes(),
            }
        }
        None => Image { width: 0, height: 0, rgb: Vec::new() },
    }
}
