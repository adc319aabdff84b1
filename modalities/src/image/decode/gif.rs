//! The first frame of a GIF, as PIL has it: around a frame that does not cover the canvas lies the transparent index, or
//! else index 0. The colour of the transparent index is shown as white, wherever it is.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::{Limits, key};
use crate::error::{Error, Result};
use crate::image::Image;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Image> {
    let what = "GIF image";
    let damaged = |why: String| Error::Decode { what: what.into(), why };
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(
        NonZeroU64::new(limits.max_pixels as u64).unwrap_or(NonZeroU64::MIN),
    ));
    let mut decoder = options.read_info(bytes).map_err(|error| damaged(error.to_string()))?;
    let (mut width, mut height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    limits.check(what, width, height)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder
        .read_next_frame()
        .map_err(|error| damaged(error.to_string()))?
        .ok_or_else(|| damaged("it has no frame".into()))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let columns = usize::from(frame.width);
    // A first frame beyond the canvas enlarges it.
    width = width.max(left + columns);
    height = height.max(top + usize::from(frame.height));
    limits.check(what, width, height)?;
    let palette = frame.palette.as_ref().or(global.as_ref());
    let palette = palette.map_or(&[][..], Vec::as_slice);
    // Indices past a short palette are black.
    let mut table = [[0; 3]; 256];
    for (entry, rgb) in table.iter_mut().zip(palette.chunks_exact(3)) {
        entry.copy_from_slice(rgb);
    }
    let mut image = Image::filled(width, height, table[usize::from(frame.transparent.unwrap_or(0))])?;
    if columns > 0 {
        for (y, row) in frame.buffer.chunks_exact(columns).enumerate() {
            let start = 3 * (width * (top + y) + left);
            for (pixel, index) in image.rgb[start..].chunks_exact_mut(3).zip(row) {
                pixel.copy_from_slice(&table[usize::from(*index)]);
            }
        }
    }
    if let Some(index) = frame.transparent {
        key::show(&mut image, table[usize::from(index)]);
    }
    Ok(image)
}
