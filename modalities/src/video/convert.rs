//! From a decoder's frames to upright RGB.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling;
use ffmpeg_next::util::color;
use ffmpeg_next::{Error as Fault, ffi, frame};

use crate::image::Image;

/// Converts decoded frames to 8-bit RGB as `ffmpeg -pix_fmt rgb24` does: swscale with `SWS_BICUBIC` alone
/// among its flags (its fast, not its accurate rounding), the frame's own matrix (BT.601 where it states
/// none) and range. Transparency is dropped. A frame of another size than the first is scaled to that.
#[derive(Default)]
pub(super) struct Converter {
    scaler: Option<(Key, scaling::Context)>,
    size: Option<(u32, u32)>,
    rgb: Option<frame::Video>,
}

/// What a scaler is made for.
#[derive(Clone, Copy, PartialEq)]
struct Key {
    format: Pixel,
    width: u32,
    height: u32,
    space: color::Space,
    range: color::Range,
}

impl Converter {
    /// One upright image.
    pub(super) fn convert(&mut self, frame: &frame::Video, orientation: Orientation) -> Result<Image, Fault> {
        let key = Key {
            format: frame.format(),
            width: frame.width(),
            height: frame.height(),
            space: frame.color_space(),
            range: frame.color_range(),
        };
        let (width, height) = *self.size.get_or_insert((key.width, key.height));
        if self.scaler.as_ref().is_none_or(|(made_for, _)| *made_for != key) {
            self.scaler = Some((key, scaler(key, width, height)?));
        }
        let rgb = self.rgb.get_or_insert_with(|| frame::Video::new(Pixel::RGB24, width, height));
        let Some((_, scaler)) = &mut self.scaler else { return Err(Fault::Bug) };
        scaler.run(frame, rgb)?;
        Ok(orientation.upright(rgb.data(0), rgb.stride(0), width as usize, height as usize))
    }
}

fn scaler(key: Key, width: u32, height: u32) -> Result<scaling::Context, Fault> {
    let flags = scaling::Flags::BICUBIC;
    let mut scaler =
        scaling::Context::get(key.format, key.width, key.height, Pixel::RGB24, width, height, flags)?;
    // SAFETY: the context is live and owned here, the out-pointers are to locals, and the tables that swscale
    // hands out are its own static ones (`sws_getCoefficients` answers unknown spaces with its default).
    unsafe {
        let (mut from, mut to) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (mut from_full, mut to_full, mut brightness, mut contrast, mut saturation) = (0, 0, 0, 0, 0);
        let known = ffi::sws_getColorspaceDetails(
            scaler.as_mut_ptr(),
            &raw mut from,
            &raw mut from_full,
            &raw mut to,
            &raw mut to_full,
            &raw mut brightness,
            &raw mut contrast,
            &raw mut saturation,
        );
        if known >= 0 {
            let matrix = ffi::sws_getCoefficients(ffi::AVColorSpace::from(key.space) as i32);
            match key.range {
                color::Range::JPEG => from_full = 1,
                color::Range::MPEG => from_full = 0,
                _ => {}
            }
            ffi::sws_setColorspaceDetails(
                scaler.as_mut_ptr(),
                matrix,
                from_full,
                to,
                to_full,
                brightness,
                contrast,
                saturation,
            );
        }
    }
    Ok(scaler)
}

/// How a stored image is turned to stand upright: mirrored left to right or top to bottom, after rows and
/// columns are exchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    transpose: bool,
    mirror: bool,
    flip: bool,
}

impl Orientation {
    /// Reads a display matrix: nine 32-bit numbers in the machine's byte order, the first five of which take
    /// a stored pixel at (x, y) to (a x + c y, b x + d y). Quarter turns and mirrors are followed; other
    /// angles stay as stored.
    pub(super) fn of_matrix(bytes: &[u8]) -> Self {
        let mut numbers =
            bytes.chunks_exact(4).map(|four| i32::from_ne_bytes([four[0], four[1], four[2], four[3]]));
        let mut next = || numbers.next().unwrap_or(0);
        let (a, b, _, c, d) = (next(), next(), next(), next(), next());
        if a == 0 && d == 0 && b != 0 && c != 0 {
            Self { transpose: true, mirror: c < 0, flip: b < 0 }
        } else if b == 0 && c == 0 {
            Self { transpose: false, mirror: a < 0, flip: d < 0 }
        } else {
            Self::default()
        }
    }

    /// The size of the upright image.
    pub(super) fn turned(self, width: usize, height: usize) -> (usize, usize) {
        if self.transpose { (height, width) } else { (width, height) }
    }

    /// The upright image of stored rows, `stride` bytes apart.
    fn upright(self, rows: &[u8], stride: usize, width: usize, height: usize) -> Image {
        let (out_width, out_height) = self.turned(width, height);
        let mut rgb = Vec::with_capacity(3 * width * height);
        for y in 0..out_height {
            if !self.transpose && !self.mirror {
                let row = if self.flip { height - 1 - y } else { y };
                rgb.extend_from_slice(&rows[row * stride..][..3 * width]);
                continue;
            }
            for x in 0..out_width {
                let x = if self.mirror { out_width - 1 - x } else { x };
                let y = if self.flip { out_height - 1 - y } else { y };
                let (column, row) = if self.transpose { (y, x) } else { (x, y) };
                rgb.extend_from_slice(&rows[row * stride + 3 * column..][..3]);
            }
        }
        Image { width: out_width, height: out_height, rgb }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_matrix_turns_and_mirrors() {
        // An image of two rows and three columns, numbered in reading order.
        let rows: Vec<u8> = (0..6).flat_map(|n| [n, n, n]).collect();
        let upright = |a: i32, b: i32, c: i32, d: i32| {
            let matrix: Vec<u8> = [a, b, 0, c, d, 0, 0, 0, 1].iter().flat_map(|n| n.to_ne_bytes()).collect();
            let image = Orientation::of_matrix(&matrix).upright(&rows, 9, 3, 2);
            assert_eq!(image.rgb.len(), 18);
            (image.width, image.rgb.iter().copied().step_by(3).collect::<Vec<_>>())
        };
        let one = 1 << 16;
        assert_eq!(upright(one, 0, 0, one), (3, vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(upright(-one, 0, 0, one), (3, vec![2, 1, 0, 5, 4, 3]));
        assert_eq!(upright(one, 0, 0, -one), (3, vec![3, 4, 5, 0, 1, 2]));
        assert_eq!(upright(-one, 0, 0, -one), (3, vec![5, 4, 3, 2, 1, 0]));
        // x' = -y, y' = x: a quarter turn clockwise.
        assert_eq!(upright(0, one, -one, 0), (2, vec![3, 0, 4, 1, 5, 2]));
        assert_eq!(upright(0, -one, one, 0), (2, vec![2, 5, 1, 4, 0, 3]));
        assert_eq!(upright(0, one, one, 0), (2, vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(upright(46341, 46341, -46341, 46341), (3, vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(Orientation::of_matrix(&[]), Orientation::default());
    }
}
