//! TIFF pictures that the image crate refuses or rounds otherwise than PIL: palettes, gray with alpha, and inks.

use std::io::Cursor;

use image::ImageFormat;
use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::{Limits, general, pixels};
use crate::error::{Error, Result};
use crate::image::Image;

const WHAT: &str = "TIFF image";
/// Values of the tag that says what samples mean.
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;

fn fault(error: TiffError) -> Error {
    match error {
        TiffError::LimitsExceeded => Error::TooLarge { what: WHAT.into(), why: error.to_string() },
        error => Error::Decode { what: WHAT.into(), why: error.to_string() },
    }
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(fault)?;
    if decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).map_err(fault)? == Some(PALETTE) {
        return palette(bytes, limits);
    }
    let samples = match decoder.colortype().map_err(fault)? {
        ColorType::CMYK(8) => 4,
        ColorType::GrayA(8) | ColorType::Multiband { bit_depth: 8, num_samples: 2 } => 2,
        _ => return general(bytes, ImageFormat::Tiff, limits),
    };
    let (width, height, data) = samples_of(decoder, limits, 8 * samples)?;
    let rgb = match samples {
        4 => pixels::cmyk(&data, |ink| ink),
        _ => pixels::gray(data.iter().copied().step_by(2)),
    };
    Ok(Image { width, height, rgb })
}

/// Size and bytes of a picture of `bits` a pixel whose rows begin at whole bytes.
fn samples_of(
    mut decoder: Decoder<Cursor<&[u8]>>,
    limits: &Limits,
    bits: usize,
) -> Result<(usize, usize, Vec<u8>)> {
    let (width, height) = decoder.dimensions().map_err(fault)?;
    let (width, height) = (width as usize, height as usize);
    limits.check(WHAT, width, height)?;
    let length = (width * bits).div_ceil(8) * height;
    let mut memory = tiff::decoder::Limits::default();
    memory.decoding_buffer_size = length;
    let mut decoder = decoder.with_limits(memory);
    match decoder.read_image().map_err(fault)? {
        DecodingResult::U8(data) if data.len() == length => Ok((width, height, data)),
        _ => {
            Err(Error::Decode { what: WHAT.into(), why: "its samples are not stored pixel by pixel".into() })
        }
    }
}

/// A picture of indices into a colour map of 16-bit values, of which PIL keeps the high bytes. The tiff crate reads the
/// indices when they are declared as gray, so that is what a copy of the file says.
fn palette(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let damaged = |why: &str| Error::Decode { what: WHAT.into(), why: why.into() };
    let mut copy = bytes.to_vec();
    let at = photometric_value(bytes).ok_or_else(|| damaged("its first directory is cut off"))?;
    let gray = if bytes[0] == b'I' { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
    copy[at..at + 2].copy_from_slice(&gray);
    let mut decoder = Decoder::new(Cursor::new(copy.as_slice())).map_err(fault)?;
    let map: Vec<u16> = decoder
        .find_tag_unsigned_vec(Tag::ColorMap)
        .map_err(fault)?
        .ok_or_else(|| damaged("it has no colour map"))?;
    let bits = match decoder.colortype().map_err(fault)? {
        ColorType::Gray(bits @ (1 | 2 | 4 | 8)) => usize::from(bits),
        _ => return Err(damaged("its indices have neither 1, 2, 4 nor 8 bits")),
    };
    let colours = 1 << bits;
    if map.len() != 3 * colours {
        return Err(damaged("its colour map does not fit its indices"));
    }
    let (width, height, data) = samples_of(decoder, limits, bits)?;
    let (per_byte, stride) = (8 / bits, (width * bits).div_ceil(8));
    let mut rgb = Vec::with_capacity(3 * width * height);
    for row in data.chunks_exact(stride) {
        for x in 0..width {
            let shift = 8 - bits * (x % per_byte + 1);
            let index = usize::from(row[x / per_byte] >> shift) & (colours - 1);
            rgb.extend([0, 1, 2].map(|channel| (map[channel * colours + index] >> 8) as u8));
        }
    }
    Ok(Image { width, height, rgb })
}

/// Where in the file the first directory says what samples mean: a 16-bit value, in a classic TIFF or a BigTIFF.
fn photometric_value(bytes: &[u8]) -> Option<usize> {
    let little = bytes.first()? == &b'I';
    let number = |at: usize, length: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(length)?)?;
        let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        let value = if little { field.iter().rev().fold(0, fold) } else { field.iter().fold(0, fold) };
        usize::try_from(value).ok()
    };
    let big = number(2, 2)? == 43;
    let (directory, count, entry, value) =
        if big { (number(8, 8)?, 8, 20, 12) } else { (number(4, 4)?, 2, 12, 8) };
    let first = directory.checked_add(count)?;
    (0..number(directory, count)?)
        .map_while(|i| first.checked_add(i.checked_mul(entry)?))
        .take_while(|at| at.checked_add(entry).is_some_and(|end| end <= bytes.len()))
        .find(|at| number(*at, 2) == Some(usize::from(Tag::PhotometricInterpretation.to_u16())))
        .map(|at| at + value)
}
