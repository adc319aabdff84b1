//! From luma and chroma to RGB as libavif does it.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::util::color;
use ffmpeg_next::{ffi, frame};

use crate::image::Image;

/// How a frame's samples are stored.
struct Layout {
    bits: u32,
    /// Whether there are half as many columns and rows of chroma.
    halved: (bool, bool),
    gray: bool,
}

fn layout(format: Pixel) -> Option<Layout> {
    use Pixel::{
        GBRP, GBRP10LE, GBRP12LE, GRAY8, GRAY10LE, GRAY12LE, YUV420P, YUV420P10LE, YUV420P12LE, YUV422P,
        YUV422P10LE, YUV422P12LE, YUV444P, YUV444P10LE, YUV444P12LE, YUVJ420P, YUVJ422P, YUVJ444P,
    };
    let (bits, halved, gray) = match format {
        GRAY8 => (8, (false, false), true),
        GRAY10LE => (10, (false, false), true),
        GRAY12LE => (12, (false, false), true),
        YUV420P | YUVJ420P => (8, (true, true), false),
        YUV420P10LE => (10, (true, true), false),
        YUV420P12LE => (12, (true, true), false),
        YUV422P | YUVJ422P => (8, (true, false), false),
        YUV422P10LE => (10, (true, false), false),
        YUV422P12LE => (12, (true, false), false),
        YUV444P | YUVJ444P | GBRP => (8, (false, false), false),
        YUV444P10LE | GBRP10LE => (10, (false, false), false),
        YUV444P12LE | GBRP12LE => (12, (false, false), false),
        _ => return None,
    };
    Some(Layout { bits, halved, gray })
}

/// Rows of one plane, as numbers.
struct Plane<'f> {
    data: &'f [u8],
    stride: usize,
    wide: bool,
}

impl Plane<'_> {
    fn at(&self, x: usize, y: usize) -> f32 {
        let start = y * self.stride;
        match self.wide {
            true => f32::from(u16::from_le_bytes([self.data[start + 2 * x], self.data[start + 2 * x + 1]])),
            false => f32::from(self.data[start + x]),
        }
    }
}

/// The shares of red and blue in luma, by the numbers of ISO 23091-2; where nobody says, BT.601's.
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

/// RGB of a frame; `said` is what the file says of its colours, before what the frame itself says.
pub(super) fn to_rgb(frame: &frame::Video, said: Option<(u16, bool)>) -> Result<Image, String> {
    let format = frame.format();
    let Layout { bits, halved, gray } =
        layout(format).ok_or_else(|| format!("its pixels of kind {format:?} are not supported"))?;
    let own_matrix = ffi::AVColorSpace::from(frame.color_space()) as u16;
    let own_full = frame.color_range() == color::Range::JPEG
        || matches!(format, Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P);
    let (matrix, full) = said.unwrap_or((own_matrix, own_full));
    let identity = matrix == 0 && !gray && halved == (false, false);
    let weights = weights(if gray || identity { 2 } else { matrix })
        .ok_or_else(|| format!("its colours have the matrix of number {matrix}, which is not supported"))?;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let plane = |i: usize| Plane { data: frame.data(i), stride: frame.stride(i), wide: bits > 8 };

    let most = ((1_u32 << bits) - 1) as f32;
    let step = (1_u32 << (bits - 8)) as f32;
    let (low, luma_span, chroma_span) =
        if full { (0.0, most, most) } else { (16.0 * step, 219.0 * step, 224.0 * step) };
    let middle = (1_u32 << (bits - 1)) as f32;
    let byte = |value: f32| (255.0 * value.clamp(0.0, 1.0) + 0.5) as u8;
    let (kr, kb) = weights;
    let kg = 1.0 - kr - kb;

    let luma = plane(0);
    let chroma = (!gray).then(|| [plane(1), plane(2)]);
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            let first = ((luma.at(x, y) - low) / luma_span).clamp(0.0, 1.0);
            let Some(chroma) = &chroma else {
                rgb.extend([byte(first); 3]);
                continue;
            };
            let [u, v] = [0, 1].map(|i| between(&chroma[i], halved, (x, y), (width, height)));
            rgb.extend(if identity {
                // FFmpeg's planes of GBR are in this order, as those of AV1 with this matrix are.
                [byte((v - low) / luma_span), byte(first), byte((u - low) / luma_span)]
            } else {
                let (cb, cr) = ((u - middle) / chroma_span, (v - middle) / chroma_span);
                let red = first + 2.0 * (1.0 - kr) * cr;
                let blue = first + 2.0 * (1.0 - kb) * cb;
                let green = first - 2.0 * (kr * (1.0 - kr) * cr + kb * (1.0 - kb) * cb) / kg;
                [byte(red), byte(green), byte(blue)]
            });
        }
    }
    Ok(Image { width, height, rgb })
}

/// Chroma at a pixel: where there is less of it, three parts of the nearest sample and one of the next, each way.
fn between(
    plane: &Plane<'_>,
    halved: (bool, bool),
    (x, y): (usize, usize),
    (width, height): (usize, usize),
) -> f32 {
    let ends = |halved: bool, at: usize, length: usize| {
        let near = at / 2;
        match (halved, at % 2) {
            (false, _) => (at, at),
            (true, 0) => (near, near.saturating_sub(1)),
            (true, _) => (near, (near + 1).min(length.div_ceil(2) - 1)),
        }
    };
    let ((x0, x1), (y0, y1)) = (ends(halved.0, x, width), ends(halved.1, y, height));
    let across =
        |y: usize| if x0 == x1 { plane.at(x0, y) } else { 0.75 * plane.at(x0, y) + 0.25 * plane.at(x1, y) };
    if y0 == y1 { across(y0) } else { 0.75 * across(y0) + 0.25 * across(y1) }
}
