//! The largest image of an icon, the one of most colours among equals, as PIL picks it.

use image::ImageFormat;

use super::{Limits, general, png};
use crate::error::{Error, Result};
use crate::image::Image;

/// Bytes of the file's header, and of one image's entry.
const HEADER: usize = 6;
const ENTRY: usize = 16;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let cut_off = || Error::Decode { what: "ICO image".into(), why: "its list of images is cut off".into() };
    let count = bytes.get(4..HEADER).map_or(0, |count| u16::from_le_bytes([count[0], count[1]]));
    let entries = bytes.get(HEADER..HEADER + ENTRY * usize::from(count)).ok_or_else(cut_off)?;
    let side = |byte: u8| if byte == 0 { 256 } else { u32::from(byte) };
    let rank = |entry: &&[u8]| (side(entry[0]) * side(entry[1]), u16::from_le_bytes([entry[6], entry[7]]));
    // The first of equals, and `max_by_key` takes the last.
    let entry = entries.chunks_exact(ENTRY).rev().max_by_key(rank).ok_or_else(cut_off)?;
    let number =
        |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]) as usize;
    let (length, start) = (number(8), number(12));
    let data = start.checked_add(length).and_then(|end| bytes.get(start..end)).ok_or_else(cut_off)?;
    if data.starts_with(b"\x89PNG") {
        return general(&png::still(data), ImageFormat::Png, limits);
    }
    // An icon of this image alone.
    let mut icon = vec![0, 0, 1, 0, 1, 0];
    icon.extend_from_slice(&entry[..12]);
    icon.extend_from_slice(&((HEADER + ENTRY) as u32).to_le_bytes());
    icon.extend_from_slice(data);
    general(&icon, ImageFormat::Ico, limits)
}
