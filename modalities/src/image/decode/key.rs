//! One colour that a file calls transparent.
//!
//! PIL keeps it as a note beside the RGB pixels (`info["transparency"]`), by which the image processors of transformers
//! know the pixels that they composite on white: all that have this colour. Where a file makes several colours
//! transparent, or some of them by half, PIL drops the note, and the pixels are shown as they are.

use super::png::chunks;
use crate::image::Image;

/// Show a transparent colour as white.
pub(super) fn show(image: &mut Image, colour: [u8; 3]) {
    for pixel in image.rgb.chunks_exact_mut(3).filter(|pixel| **pixel == colour) {
        pixel.fill(255);
    }
}

/// The transparent colour of a PNG, as PIL compares it with its 8-bit pixels: of values of 16 bits the low byte, and gray of
/// two and four bits before it is scaled.
pub(super) fn of_png(bytes: &[u8]) -> Option<[u8; 3]> {
    let (mut head, mut palette, mut found) = (None, &[][..], None);
    for (kind, data, _) in chunks(bytes) {
        match &kind {
            b"IHDR" => head = Some((*data.get(8)?, *data.get(9)?)),
            b"PLTE" => palette = data,
            b"tRNS" => found = Some(data),
            b"IDAT" => break,
            _ => {}
        }
    }
    match (head?, found?) {
        // Of one bit, and of sixteen, PIL keeps a note that fits no pixel.
        ((2 | 4 | 8, 0), &[high, low, ..]) => Some([if high > 0 { 255 } else { low }; 3]),
        ((_, 2), &[_, red, _, green, _, blue, ..]) => Some([red, green, blue]),
        ((_, 3), alphas) => {
            let mut clear = alphas.iter().enumerate().filter(|(_, alpha)| **alpha < 255);
            let (index, alpha) = clear.next()?;
            // Indices past a short palette are black.
            let colour = palette.get(3 * index..3 * index + 3).map_or([0; 3], |c| [c[0], c[1], c[2]]);
            (*alpha == 0 && clear.next().is_none()).then_some(colour)
        }
        _ => None,
    }
}
