//! Bitmaps of 16 bits a pixel, whose channels PIL widens to 8 bits by a division that rounds down, and masks
//! that PIL does not know.

use image::ImageFormat;

use super::{Limits, general};
use crate::error::{Error, Result};
use crate::image::Image;

const WHAT: &str = "BMP image";
const BITFIELDS: u32 = 3;

/// The masks of red, green and blue that are understood, and of alpha for 32 bits.
const MASKS_16: [[u32; 3]; 2] = [[0xf800, 0x7e0, 0x1f], [0x7c00, 0x3e0, 0x1f]];
const MASKS_32: [[u32; 4]; 8] = [
    [0xff_0000, 0xff00, 0xff, 0],
    [0xff00_0000, 0xff_0000, 0xff00, 0],
    [0xff00_0000, 0xff00, 0xff, 0],
    [0xff00_0000, 0xff_0000, 0xff00, 0xff],
    [0xff, 0xff00, 0xff_0000, 0xff00_0000],
    [0xff_0000, 0xff00, 0xff, 0xff00_0000],
    [0xff00_0000, 0xff00, 0xff, 0xff_0000],
    [0; 4],
];

/// Whether the header behind the first letters has one of the lengths that there are.
pub(super) fn has_header(bytes: &[u8]) -> bool {
    bytes
        .get(14..18)
        .is_some_and(|four| four[1..] == [0; 3] && matches!(four[0], 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let damaged = |why: String| Error::Decode { what: WHAT.into(), why };
    let number = |at: usize| {
        let four = bytes.get(at..at + 4).ok_or_else(|| damaged("its header is cut off".into()))?;
        Ok::<u32, Error>(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    };
    let header = number(14)? as usize;
    if header < 40 {
        return general(bytes, ImageFormat::Bmp, limits);
    }
    let (bits, compression) = (number(26)? >> 16, number(30)?);
    let mut masks = [0x7c00, 0x3e0, 0x1f, 0];
    if compression == BITFIELDS {
        for (i, mask) in masks.iter_mut().enumerate() {
            // The mask of alpha is part of longer headers only.
            *mask = if i == 3 && header < 56 { 0 } else { number(54 + 4 * i)? };
        }
        let rgb = [masks[0], masks[1], masks[2]];
        let known = match bits {
            16 => MASKS_16.contains(&rgb),
            24 => rgb == MASKS_32[0][..3],
            32 => MASKS_32.contains(&masks),
            _ => false,
        };
        if !known {
            let why = format!("its masks for red, green, blue and alpha, {masks:x?}, are of no known layout");
            return Err(damaged(why));
        }
    }
    if bits != 16 || !matches!(compression, 0 | BITFIELDS) {
        return general(bytes, ImageFormat::Bmp, limits);
    }

    let (width, height) = (number(18)? as usize, number(22)? as i32);
    let rows = height.unsigned_abs() as usize;
    limits.check(WHAT, width, rows)?;
    let stride = (2 * width).next_multiple_of(4);
    let start = match number(10)? as usize {
        0 => 14 + header + if header == 40 && compression == BITFIELDS { 12 } else { 0 },
        start => start,
    };
    let data = start.checked_add(stride * rows).and_then(|end| bytes.get(start..end));
    let data = data.ok_or_else(|| damaged("its rows are cut off".into()))?;
    let green = if masks[1] == 0x7e0 { 63 } else { 31 };
    let wide = |value: u32, most: u32| (value * 255 / most) as u8;
    let mut rgb = Vec::with_capacity(3 * width * rows);
    for y in 0..rows {
        // Rows go upwards unless the height is negative.
        let row = &data[stride * if height < 0 { y } else { rows - 1 - y }..][..2 * width];
        for pixel in row.chunks_exact(2) {
            let pixel = u32::from(u16::from_le_bytes([pixel[0], pixel[1]]));
            let (red, after) =
                if green == 63 { (pixel >> 11, pixel >> 5) } else { (pixel >> 10 & 31, pixel >> 5) };
            rgb.extend([wide(red, 31), wide(after & green, green), wide(pixel & 31, 31)]);
        }
    }
    Ok(Image { width, height: rows, rgb })
}
