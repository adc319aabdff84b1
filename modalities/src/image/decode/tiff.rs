//! TIFF and BigTIFF, for the kinds of pixels that PIL takes (`OPEN_INFO` in its `TiffImagePlugin.py`).
//!
//! The tiff crate gives samples; what they mean is decided here. It is therefore shown a copy of the file
//! that declares them as gray, which leaves them as they are stored.

use std::io::Cursor;

use image::ImageFormat;
use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult};

use super::directory::Directory;
use super::{Limits, general, pixels};
use crate::error::{Error, Result};
use crate::image::Image;

const WHAT: &str = "TIFF image";

/// Tags.
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const OFFSETS: [u16; 2] = [273, 324];
const SAMPLES: u16 = 277;
const LENGTHS: [u16; 2] = [279, 325];
const PLANES: u16 = 284;
const COLOURS: u16 = 320;
const EXTRAS: u16 = 338;
const FORMAT: u16 = 339;
const SUBSAMPLING: u16 = 530;

/// Values of the tag that says what samples mean.
const WHITE_IS_ZERO: usize = 0;
const BLACK_IS_ZERO: usize = 1;
const RGB: usize = 2;
const PALETTE: usize = 3;
const INKS: usize = 5;
const YCBCR: usize = 6;

/// Values of the tag that says how a sample is stored.
const UNSIGNED: usize = 1;
const SIGNED: usize = 2;
const FLOAT: usize = 3;

const JPEG: usize = 7;
/// An extra sample by which the others are multiplied.
const PREMULTIPLIED: usize = 1;

fn fault(error: TiffError) -> Error {
    match error {
        TiffError::LimitsExceeded => Error::TooLarge { what: WHAT.into(), why: error.to_string() },
        error => Error::Decode { what: WHAT.into(), why: error.to_string() },
    }
}

fn damaged(why: impl Into<String>) -> Error {
    Error::Decode { what: WHAT.into(), why: why.into() }
}

/// What the first directory says of the samples.
struct Layout {
    meaning: usize,
    format: usize,
    /// Bits of each sample, which are equal.
    bits: usize,
    /// Samples of a pixel.
    samples: usize,
    /// What the samples are that are not colours.
    extras: Vec<usize>,
}

impl Layout {
    fn read(directory: &Directory<'_>) -> Result<Self> {
        let first = |tag: u16, default: usize| directory.first_of(tag).unwrap_or(default);
        let meaning = first(PHOTOMETRIC, WHITE_IS_ZERO);
        let (mut samples, mut extras) = (first(SAMPLES, 1), directory.numbers(EXTRAS));
        let mut bits = directory.numbers(BITS);
        if bits.is_empty() {
            bits.push(1);
        }
        // Samples that the file does not describe are stored at the end, in planes of their own.
        let ignored =
            if first(PLANES, 1) == 2 && extras.iter().all(|extra| *extra == 0) { extras.len() } else { 0 };
        if bits.len() > 1 && bits.len() == samples {
            bits.truncate(bits.len().saturating_sub(ignored).max(1));
        }
        samples = samples.saturating_sub(ignored);
        extras.truncate(extras.len() - ignored);
        bits.truncate(samples.max(1));
        let formats = directory.numbers(FORMAT);
        let format = formats.first().copied().unwrap_or(UNSIGNED);
        if bits.iter().any(|other| *other != bits[0]) || formats.iter().any(|other| *other != format) {
            return Err(damaged("its samples are stored in different ways"));
        }
        Ok(Self { meaning, format, bits: bits[0], samples, extras })
    }

    /// Refuses what PIL refuses.
    fn check(&self, little: bool) -> Result<()> {
        let Self { meaning, format, bits, samples, ref extras } = *self;
        let colours = match meaning {
            RGB | YCBCR => 3,
            INKS => 4,
            _ => 1,
        };
        // The fourth sample of RGB is alpha where the file does not say what it is.
        let spare = if meaning == RGB && extras.is_empty() && samples == 4 { 1 } else { extras.len() };
        let unused = |from: usize| extras.len() <= 3 && extras.iter().skip(from).all(|extra| *extra == 0);
        let known = samples == colours + spare
            && match (meaning, format, bits) {
                (WHITE_IS_ZERO, UNSIGNED, 1 | 2 | 4 | 8) => spare == 0,
                (WHITE_IS_ZERO, UNSIGNED, 16) => spare == 0 && little,
                (BLACK_IS_ZERO, UNSIGNED, 1 | 2 | 4 | 16) => spare == 0,
                (BLACK_IS_ZERO, UNSIGNED, 8) => spare == 0 || matches!(extras[..], [0 | 2]),
                (BLACK_IS_ZERO, UNSIGNED, 32) => spare == 0 && little,
                (BLACK_IS_ZERO, SIGNED, 8 | 16 | 32) => spare == 0,
                (WHITE_IS_ZERO | BLACK_IS_ZERO, FLOAT, 32) => spare == 0,
                (RGB, UNSIGNED, 8) => unused(1) && matches!(extras.first(), None | Some(0..=2 | 999)),
                (RGB, UNSIGNED, 16) => matches!(extras[..], [] | [0..=2]),
                (PALETTE, UNSIGNED, 1 | 2 | 4) => spare == 0,
                (PALETTE, UNSIGNED, 8) => spare == 0 || matches!(extras[..], [0 | 2]),
                (INKS, UNSIGNED, 8) => extras.len() <= 2 && unused(0),
                (INKS, UNSIGNED, 16) => spare == 0,
                (YCBCR, UNSIGNED, 8) => spare == 0,
                _ => false,
            };
        if known {
            return Ok(());
        }
        let format = match format {
            UNSIGNED => "unsigned",
            SIGNED => "signed",
            FLOAT => "floating-point",
            _ => "unknown",
        };
        let meaning = match meaning {
            WHITE_IS_ZERO | BLACK_IS_ZERO => "gray".to_owned(),
            RGB => "RGB".to_owned(),
            PALETTE => "a palette".to_owned(),
            INKS => "CMYK".to_owned(),
            YCBCR => "YCbCr".to_owned(),
            8 => "CIE L*a*b*".to_owned(),
            other => format!("kind {other}"),
        };
        let extras =
            if extras.is_empty() { String::new() } else { format!(" and extra samples of kinds {extras:?}") };
        Err(damaged(format!(
            "pixels of {samples} {format} samples of {bits} bits for {meaning}{extras} are not supported; save it as 8-bit RGB"
        )))
    }
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let directory = Directory::first(bytes).ok_or_else(|| damaged("its first directory is cut off"))?;
    if directory.first_of(COMPRESSION) == Some(JPEG) {
        return general(bytes, ImageFormat::Tiff, limits);
    }
    let layout = Layout::read(&directory)?;
    layout.check(directory.little)?;
    if layout.meaning == YCBCR && directory.numbers(SUBSAMPLING).iter().any(|step| *step != 1) {
        return Err(damaged("its chroma has fewer samples than its luma, without JPEG; save it as RGB"));
    }

    let mut decoder = Decoder::new(Cursor::new(as_gray(bytes, &directory)?)).map_err(fault)?;
    let (width, height) = decoder.dimensions().map_err(fault)?;
    let (width, height) = (width as usize, height as usize);
    limits.check(WHAT, width, height)?;
    // What is stored for a pixel may be more than its colours.
    let stored = directory.first_of(SAMPLES).unwrap_or(1);
    if stored > 64 {
        return Err(damaged(format!("its pixels have {stored} samples")));
    }
    let (row, pixel) = ((width * stored * layout.bits).div_ceil(8), stored * layout.bits.div_ceil(8));
    let mut memory = tiff::decoder::Limits::default();
    memory.decoding_buffer_size = (row * height).max(width * height * pixel);
    decoder = decoder.with_limits(memory);
    let mut samples = DecodingResult::U8(Vec::new());
    decoder.read_image_to_buffer(&mut samples).map_err(fault)?;

    let bytes = narrow(samples, &layout);
    let pixels = width * height;
    let planar = directory.first_of(PLANES) == Some(2) && stored > 1;
    let rgb = match layout.bits {
        1 | 2 | 4 => unpack(&bytes, &layout, width, height, row),
        _ if bytes.len() < pixels * stored => return Err(damaged("its samples end early")),
        _ if planar => (0..pixels)
            .flat_map(|p| (0..stored).map(move |s| (p, s)))
            .map(|(p, s)| bytes[s * pixels + p])
            .collect(),
        _ => bytes,
    };
    Ok(Image { width, height, rgb: colours(&rgb, &layout, stored, &directory)? })
}

/// The file with its samples declared as gray, and with the bits of its bytes in the usual order.
fn as_gray(bytes: &[u8], directory: &Directory<'_>) -> Result<Vec<u8>> {
    let mut copy = bytes.to_vec();
    let at = directory.place(PHOTOMETRIC).filter(|at| at + 2 <= copy.len());
    let at = at.ok_or_else(|| damaged("its first directory does not say what samples mean"))?;
    let gray = BLACK_IS_ZERO as u16;
    copy[at..at + 2].copy_from_slice(&if directory.little { gray.to_le_bytes() } else { gray.to_be_bytes() });
    if directory.first_of(FILL_ORDER) == Some(2) {
        for (offsets, lengths) in OFFSETS.into_iter().zip(LENGTHS) {
            for (offset, length) in directory.numbers(offsets).into_iter().zip(directory.numbers(lengths)) {
                let end = offset.saturating_add(length).min(copy.len());
                copy[offset.min(end)..end].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            }
        }
    }
    Ok(copy)
}

/// One byte a sample: wide gray is clipped, as PIL clips it on the way to RGB, and of wide colours the high
/// byte counts. Samples of less than eight bits stay packed.
fn narrow(samples: DecodingResult, layout: &Layout) -> Vec<u8> {
    let gray = matches!(layout.meaning, WHITE_IS_ZERO | BLACK_IS_ZERO);
    let clip = |value: i64| value.clamp(0, 255) as u8;
    match samples {
        DecodingResult::U8(data) => data,
        DecodingResult::I8(data) => data.into_iter().map(|value| value as u8).collect(),
        DecodingResult::U16(data) if gray => data.into_iter().map(|value| clip(value.into())).collect(),
        DecodingResult::U16(data) => data.into_iter().map(|value| (value >> 8) as u8).collect(),
        DecodingResult::I16(data) => data.into_iter().map(|value| clip(value.into())).collect(),
        // PIL reads these as signed.
        DecodingResult::U32(data) => data.into_iter().map(|value| clip((value as i32).into())).collect(),
        DecodingResult::I32(data) => data.into_iter().map(|value| clip(value.into())).collect(),
        DecodingResult::F32(data) => data.into_iter().map(|value| value as u8).collect(),
        _ => Vec::new(),
    }
}

/// Samples of less than eight bits, one a byte; gray over the whole range.
fn unpack(bytes: &[u8], layout: &Layout, width: usize, height: usize, row: usize) -> Vec<u8> {
    let (bits, most) = (layout.bits, (1_u16 << layout.bits) - 1);
    let scale = if layout.meaning == PALETTE { 1 } else { 255 / most };
    let mut out = Vec::with_capacity(width * height);
    for row in bytes.chunks_exact(row).take(height) {
        out.extend((0..width).map(|x| {
            let shift = 8 - bits * (x % (8 / bits) + 1);
            ((u16::from(row[x / (8 / bits)] >> shift) & most) * scale) as u8
        }));
    }
    out
}

/// RGB from one byte a sample.
fn colours(bytes: &[u8], layout: &Layout, stored: usize, directory: &Directory<'_>) -> Result<Vec<u8>> {
    let pixels = bytes.chunks_exact(stored);
    Ok(match layout.meaning {
        WHITE_IS_ZERO if layout.format == UNSIGNED && layout.bits <= 8 => {
            pixels::gray(pixels.map(|p| 255 - p[0]))
        }
        WHITE_IS_ZERO | BLACK_IS_ZERO => pixels::gray(pixels.map(|p| p[0])),
        PALETTE => {
            let map = directory.numbers(COLOURS);
            let colours = 1 << layout.bits;
            if map.len() != 3 * colours {
                return Err(damaged("its colour map does not fit its indices"));
            }
            // Of the map's 16 bits PIL keeps the high ones.
            let colour =
                |p: &[u8]| [0, 1, 2].map(|channel| (map[channel * colours + usize::from(p[0])] >> 8) as u8);
            pixels.flat_map(colour).collect()
        }
        INKS => pixels::cmyk(&pixels.flat_map(|p| [p[0], p[1], p[2], p[3]]).collect::<Vec<_>>(), |ink| ink),
        YCBCR => pixels.flat_map(|p| pixels::from_ycbcr([p[0], p[1], p[2]])).collect(),
        _ if layout.extras.first() == Some(&PREMULTIPLIED) => pixels
            .flat_map(|p| {
                let whole = |value: u8| match p[3] {
                    0 => 0,
                    alpha => (255 * u32::from(value) / u32::from(alpha)).min(255) as u8,
                };
                [whole(p[0]), whole(p[1]), whole(p[2])]
            })
            .collect(),
        _ => pixels.flat_map(|p| [p[0], p[1], p[2]]).collect(),
    })
}
