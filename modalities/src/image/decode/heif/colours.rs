//! From luma and chroma to RGB as libavif does it, which uses libyuv, and libheif.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::util::color;
use ffmpeg_next::{ffi, frame};

use crate::image::Image;

/// What colours mean: the matrix by its number in ISO 23091-2, and whether they span their whole range.
pub(super) type Meaning = (u16, bool);

/// One plane, a byte a sample.
struct Plane {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

/// An image as luma and chroma, or as gray. Of samples of more than eight bits the high ones are kept, as
/// libavif does.
pub(super) struct Planes {
    width: usize,
    height: usize,
    /// Whether there are half as many columns and rows of chroma.
    halved: (bool, bool),
    planes: Vec<Plane>,
    /// What its colours mean, by the file or else by the video itself.
    meaning: Meaning,
}

/// Bits of a sample, whether there are half as many columns and rows of chroma, and the number of planes.
fn layout(format: Pixel) -> Option<(u32, (bool, bool), usize)> {
    use Pixel::{
        GBRP, GBRP10LE, GBRP12LE, GRAY8, GRAY10LE, GRAY12LE, YUV420P, YUV420P10LE, YUV420P12LE, YUV422P,
        YUV422P10LE, YUV422P12LE, YUV444P, YUV444P10LE, YUV444P12LE, YUVJ420P, YUVJ422P, YUVJ444P,
    };
    Some(match format {
        GRAY8 => (8, (false, false), 1),
        GRAY10LE => (10, (false, false), 1),
        GRAY12LE => (12, (false, false), 1),
        YUV420P | YUVJ420P => (8, (true, true), 3),
        YUV420P10LE => (10, (true, true), 3),
        YUV420P12LE => (12, (true, true), 3),
        YUV422P | YUVJ422P => (8, (true, false), 3),
        YUV422P10LE => (10, (true, false), 3),
        YUV422P12LE => (12, (true, false), 3),
        YUV444P | YUVJ444P | GBRP => (8, (false, false), 3),
        YUV444P10LE | GBRP10LE => (10, (false, false), 3),
        YUV444P12LE | GBRP12LE => (12, (false, false), 3),
        _ => return None,
    })
}

/// The shares of red and blue in luma, by the matrix; where the file does not say, BT.601's.
fn weights(matrix: u16) -> Option<(f32, f32)> {
    Some(match matrix {
        1 => (0.2126, 0.0722),
        2 | 5 | 6 => (0.299, 0.114),
        4 => (0.30, 0.11),
        7 => (0.212, 0.087),
        9 => (0.2627, 0.0593),
        _ => return None,
    })
}

impl Planes {
    /// A frame's samples; `said` is what the file says of its colours, before what the video itself says.
    pub(super) fn of(frame: &frame::Video, said: Option<Meaning>) -> Result<Self, String> {
        let format = frame.format();
        let unknown = || format!("its pixels of kind {format:?} are not supported");
        let (bits, halved, count) = layout(format).ok_or_else(unknown)?;
        let full = frame.color_range() == color::Range::JPEG
            || matches!(format, Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P);
        let own = (ffi::AVColorSpace::from(frame.color_space()) as u16, full);
        let meaning = said.unwrap_or(own);
        let mut this = Self::empty(frame.width() as usize, frame.height() as usize, halved, count, meaning);
        for (i, plane) in this.planes.iter_mut().enumerate() {
            for (y, row) in plane.data.chunks_exact_mut(plane.width).enumerate() {
                let stored = &frame.data(i)[y * frame.stride(i)..];
                if bits == 8 {
                    row.copy_from_slice(&stored[..row.len()]);
                    continue;
                }
                for (byte, two) in row.iter_mut().zip(stored.chunks_exact(2)) {
                    *byte = (u16::from_le_bytes([two[0], two[1]]) >> (bits - 8)) as u8;
                }
            }
        }
        Ok(this)
    }

    fn empty(width: usize, height: usize, halved: (bool, bool), count: usize, meaning: Meaning) -> Self {
        let half = |halved: bool, length: usize| if halved { length.div_ceil(2) } else { length };
        let plane = |i: usize| {
            let (width, height) =
                if i == 0 { (width, height) } else { (half(halved.0, width), half(halved.1, height)) };
            Plane { width, height, data: vec![0; width * height] }
        };
        Self { width, height, halved, planes: (0..count).map(plane).collect(), meaning }
    }

    /// An empty image whose samples are stored like this one's.
    pub(super) fn like(&self, width: usize, height: usize) -> Self {
        Self::empty(width, height, self.halved, self.planes.len(), self.meaning)
    }

    /// Puts a part in its place; what reaches over the edge is cut off. False when it is stored otherwise, or
    /// its place lies between samples of chroma.
    pub(super) fn put(&mut self, part: &Self, left: usize, top: usize) -> bool {
        let odd = self.halved.0 && !left.is_multiple_of(2) || self.halved.1 && !top.is_multiple_of(2);
        if odd || (part.halved, part.planes.len()) != (self.halved, self.planes.len()) {
            return false;
        }
        for (i, (plane, part)) in self.planes.iter_mut().zip(&part.planes).enumerate() {
            let half = |halved: bool, length: usize| if i > 0 && halved { length / 2 } else { length };
            let (left, top) = (half(self.halved.0, left), half(self.halved.1, top));
            let wide = part.width.min(plane.width.saturating_sub(left));
            for y in 0..part.height.min(plane.height.saturating_sub(top)) {
                let start = (top + y) * plane.width + left;
                plane.data[start..start + wide].copy_from_slice(&part.data[y * part.width..][..wide]);
            }
        }
        true
    }

    /// RGB; `said` is what the file says of the whole image's colours. `smooth`: chroma is interpolated.
    pub(super) fn to_rgb(&self, said: Option<Meaning>, smooth: bool) -> Result<Image, String> {
        let (matrix, full) = said.unwrap_or(self.meaning);
        let (width, height) = (self.width, self.height);
        let [luma, chroma @ ..] = self.planes.as_slice() else { return Err("it has no samples".into()) };
        let gray = chroma.len() < 2;
        let identity = matrix == 0 && !gray && self.halved == (false, false);
        let (kr, kb) = weights(if gray || identity { 2 } else { matrix }).ok_or_else(|| {
            format!("its colours have the matrix of number {matrix}, which is not supported")
        })?;
        let kg = 1.0 - kr - kb;
        let (low, luma_span, chroma_span) = if full { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
        // What blue gains by its chroma; in the integers of libyuv it is twice as much at most.
        let blue_gain = (2.0 * (1.0 - kb) * 255.0 / chroma_span).min(2.0);
        let byte = |value: f32| (255.0 * value.clamp(0.0, 1.0) + 0.5) as u8;

        let mut rgb = Vec::with_capacity(3 * width * height);
        for y in 0..height {
            for x in 0..width {
                let first = (f32::from(luma.data[y * width + x]) - low) / luma_span;
                if gray {
                    rgb.extend([byte(first); 3]);
                    continue;
                }
                let [u, v] = [0, 1].map(|i| chroma[i].between(self.halved, smooth, (x, y), (width, height)));
                rgb.extend(if identity {
                    // The planes are green, blue and red.
                    [byte((v - low) / luma_span), byte(first), byte((u - low) / luma_span)]
                } else {
                    let (cb, cr) = ((u - 128.0) / chroma_span, (v - 128.0) / chroma_span);
                    let red = first + 2.0 * (1.0 - kr) * cr;
                    let blue = first + blue_gain * (u - 128.0) / 255.0;
                    let green = first - 2.0 * (kr * (1.0 - kr) * cr + kb * (1.0 - kb) * cb) / kg;
                    [byte(red), byte(green), byte(blue)]
                });
            }
        }
        Ok(Image { width, height, rgb })
    }
}

impl Plane {
    /// The chroma of a pixel. Where there is less of it than of luma, libavif takes three parts of the
    /// nearest sample and one of the next, each way, but at the right edge; libheif takes the nearest.
    fn between(
        &self,
        halved: (bool, bool),
        smooth: bool,
        (x, y): (usize, usize),
        (width, height): (usize, usize),
    ) -> f32 {
        let ends = |halved: bool, at: usize, length: usize| {
            let near = at / 2;
            match (halved, at % 2) {
                (false, _) => (at, at),
                _ if !smooth => (near, near),
                (true, 0) => (near, near.saturating_sub(1)),
                (true, _) => (near, (near + 1).min(length.div_ceil(2) - 1)),
            }
        };
        let at = |x: usize, y: usize| f32::from(self.data[y * self.width + x]);
        let ((x0, x1), (y0, y1)) = (ends(halved.0, x, width), ends(halved.1, y, height));
        let x1 = if x + 1 == width { x0 } else { x1 };
        let across = |y: usize| if x0 == x1 { at(x0, y) } else { 0.75 * at(x0, y) + 0.25 * at(x1, y) };
        if y0 == y1 { across(y0) } else { 0.75 * across(y0) + 0.25 * across(y1) }
    }
}
