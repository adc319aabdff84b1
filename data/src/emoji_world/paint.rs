//! Emoji painted onto images.

use percept_modalities::image::Image;

use super::sheet::{Emoji, SIDE};
use crate::augment::to_byte;
use crate::chance::Chance;

/// Where and how an emoji is painted, in pixels of the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    /// Where its middle is.
    pub middle: (f64, f64),
    /// How long a side of its 64x64 image is.
    pub side: f64,
    /// The rotation, in radians clockwise.
    pub angle: f64,
    /// Mirrored left to right.
    pub flipped: bool,
}

impl Placement {
    /// An emoji that is not rotated.
    pub fn upright(middle: (f64, f64), side: f64) -> Self {
        Self { middle, side, angle: 0.0, flipped: false }
    }
}

/// Paint an emoji over what is there: each pixel is the mean of points within it, so that small emoji stay
/// whole.
pub(super) fn paint(canvas: &mut Image, emoji: &Emoji, placement: &Placement) {
    let brush = Brush::of(emoji);
    let scale = SIDE as f64 / placement.side.max(1.0);
    let points = (scale.ceil() as usize).clamp(2, 8);
    let (sine, cosine) = (libm::sin(placement.angle) * scale, libm::cos(placement.angle) * scale);
    let middle = SIDE as f64 / 2.0;
    // Half the upright box around the turned square, and a pixel for what lies between.
    let reach = (sine.abs() + cosine.abs()) / scale * placement.side / 2.0 + 1.0;
    // `as` saturates.
    let within =
        |middle: f64, end: usize| (middle - reach) as usize..((middle + reach).ceil() as usize).min(end);
    let part: Vec<f64> = (0..points).map(|at| (at as f64 + 0.5) / points as f64).collect();
    let count = (points * points) as f32;
    for y in within(placement.middle.1, canvas.height) {
        for x in within(placement.middle.0, canvas.width) {
            let mut sum = [0.0f32; 4];
            for below in &part {
                for right in &part {
                    let dx = x as f64 + right - placement.middle.0;
                    let dy = y as f64 + below - placement.middle.1;
                    let across = cosine * dx + sine * dy;
                    let across = if placement.flipped { -across } else { across };
                    let value = brush.at(across + middle, cosine * dy - sine * dx + middle);
                    for (sum, value) in sum.iter_mut().zip(value) {
                        *sum += value;
                    }
                }
            }
            let bare = 1.0 - sum[3] / count;
            let pixel = &mut canvas.rgb[3 * (y * canvas.width + x)..][..3];
            for (value, sum) in pixel.iter_mut().zip(sum) {
                *value = to_byte(f64::from(f32::from(*value) * bare + sum / count));
            }
        }
    }
}

/// An emoji's colours times their coverage, and the coverage from 0 to 1, with a border of nothing.
struct Brush(Vec<[f32; 4]>);

/// Pixels of a side of a brush.
const BRUSH: usize = SIDE + 2;

impl Brush {
    fn of(emoji: &Emoji) -> Self {
        let mut all = vec![[0.0; 4]; BRUSH * BRUSH];
        for (at, pixel) in emoji.rgba.chunks_exact(4).enumerate() {
            let coverage = f32::from(pixel[3]) / 255.0;
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(|value| f32::from(value) * coverage);
            all[(at / SIDE + 1) * BRUSH + at % SIDE + 1] = [r, g, b, coverage];
        }
        Self(all)
    }

    /// Its value at a point of the emoji's image, between pixels.
    fn at(&self, x: f64, y: f64) -> [f32; 4] {
        // From the middle of the border's pixel.
        let (x, y) = (x + 0.5, y + 0.5);
        let end = (SIDE + 1) as f64;
        if !(x >= 0.0 && x < end && y >= 0.0 && y < end) {
            return [0.0; 4];
        }
        let (left, top) = (x as usize, y as usize);
        let (right, down) = ((x - left as f64) as f32, (y - top as f64) as f32);
        let upper = &self.0[top * BRUSH + left..][..2];
        let lower = &self.0[(top + 1) * BRUSH + left..][..2];
        std::array::from_fn(|channel| {
            let above = upper[0][channel] * (1.0 - right) + upper[1][channel] * right;
            let below = lower[0][channel] * (1.0 - right) + lower[1][channel] * right;
            above * (1.0 - down) + below * down
        })
    }
}

/// A background of any hue, pale or dark, never as strong as an emoji's own colours.
pub(super) fn background(chance: &mut Chance) -> [u8; 3] {
    let value = chance.between(0.35, 1.0);
    let saturation = chance.between(0.0, 0.4);
    let hue = chance.between(0.0, 6.0);
    std::array::from_fn(|channel| {
        // The usual way from hue, saturation and value; red, green and blue are two sixths apart.
        let k = (hue + [5.0, 3.0, 1.0][channel]) % 6.0;
        to_byte(255.0 * (value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)))
    })
}

/// A one-pixel blur of a strength between 0 and 1: the mean of a pixel and its blurred self by rows and
/// columns.
pub(super) fn blur(image: &mut Image, strength: f64) {
    let (width, height) = (image.width, image.height);
    for (length, lines, step, line_step) in [(width, height, 3, 3 * width), (height, width, 3 * width, 3)] {
        let before = image.rgb.clone();
        for at in 0..lines * length * 3 {
            let (channel, place, line) = (at % 3, at / 3 % length, at / 3 / length);
            let value = |place: usize| f64::from(before[line * line_step + place * step + channel]);
            let around =
                value(place.saturating_sub(1)) + 2.0 * value(place) + value((place + 1).min(length - 1));
            let mixed = value(place) * (1.0 - strength) + around / 4.0 * strength;
            image.rgb[line * line_step + place * step + channel] = to_byte(mixed);
        }
    }
}

/// Add normal noise of a deviation in parts of 255.
pub(super) fn noise(image: &mut Image, deviation: f64, chance: &mut Chance) {
    for value in &mut image.rgb {
        *value = to_byte(f64::from(*value) + deviation * chance.normal());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emoji(rgba: impl Fn(usize, usize) -> [u8; 4]) -> Emoji {
        let rgba = (0..SIDE * SIDE).flat_map(|at| rgba(at % SIDE, at / SIDE)).collect();
        Emoji { name: String::new(), category: "", also: Vec::new(), rgba, hash: [0; 32] }
    }

    #[test]
    fn an_emoji_of_full_size_is_painted_as_it_is() {
        let emoji = emoji(|x, y| [x as u8 * 3, y as u8 * 3, 7, if x < 32 { 255 } else { 0 }]);
        let mut canvas = Image::filled(64, 64, [9, 9, 9]).unwrap();
        paint(&mut canvas, &emoji, &Placement::upright((32.0, 32.0), 64.0));
        let at = |x: usize, y: usize| &canvas.rgb[3 * (64 * y + x)..][..3];
        // The mean of four points of a smooth image is its middle's value; what is not covered stays.
        assert_eq!(at(10, 20), [30, 60, 7]);
        assert_eq!(at(40, 20), [9, 9, 9]);
    }

    #[test]
    fn a_small_emoji_keeps_its_mean_colour_and_place() {
        let emoji = emoji(|x, _| if x % 2 == 0 { [255, 0, 0, 255] } else { [0, 0, 255, 255] });
        let mut canvas = Image::filled(32, 32, [0; 3]).unwrap();
        paint(&mut canvas, &emoji, &Placement::upright((10.0, 20.0), 8.0));
        let at = |x: usize, y: usize| &canvas.rgb[3 * (32 * y + x)..][..3];
        assert_eq!(at(10, 20), [128, 0, 128]);
        assert_eq!(at(10, 13), [0; 3]);
        assert_eq!(at(20, 20), [0; 3]);
    }

    #[test]
    fn blur_keeps_the_mean_and_spreads_a_point() {
        let mut image = Image::filled(9, 9, [0; 3]).unwrap();
        image.rgb[3 * (4 * 9 + 4)] = 160;
        blur(&mut image, 1.0);
        let row: Vec<_> = (0..9).map(|x| image.rgb[3 * (4 * 9 + x)]).collect();
        assert_eq!(row, [0, 0, 0, 20, 40, 20, 0, 0, 0]);
    }
}
