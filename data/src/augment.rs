//! Images changed a little at random, so that a small corpus teaches more than its images.

use percept_modalities::image::Image;
use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// How far images are changed; what is left out of a configuration is not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
    /// Degrees of rotation either way.
    pub rotation: f64,
    /// The smallest and the largest scale.
    pub scale: (f64, f64),
    /// Shift either way, in parts of a side.
    pub shift: f64,
    /// Each channel is multiplied by 1 plus or minus up to this.
    pub gains: f64,
    /// Differences from the mean are multiplied by 1 plus or minus up to this.
    pub contrast: f64,
}

impl Default for Augmentation {
    /// No change, so that a setting that is left out changes nothing.
    fn default() -> Self {
        Self::none()
    }
}

impl Augmentation {
    /// Settings that change nothing.
    pub const fn none() -> Self {
        Self { flip: false, rotation: 0.0, scale: (1.0, 1.0), shift: 0.0, gains: 0.0, contrast: 0.0 }
    }

    /// What suits images of single things.
    pub const fn of_things() -> Self {
        Self { flip: true, rotation: 20.0, scale: (0.7, 1.15), shift: 0.08, gains: 0.2, contrast: 0.2 }
    }

    /// The same without a change of hue, where colour is requested.
    pub const fn keeping_colours(self) -> Self {
        Self { gains: 0.0, ..self }
    }
}

/// An image changed as `chance` has it. What comes into view at the edges is the nearest pixel that there is.
pub fn augment(image: &Image, settings: &Augmentation, chance: &mut Chance) -> Image {
    let flipped = settings.flip && chance.coin();
    let angle = chance.between(-1.0, 1.0) * settings.rotation.to_radians();
    let scale = chance.between(settings.scale.0, settings.scale.1).max(1e-3);
    let (width, height) = (image.width as f64, image.height as f64);
    let shift = [width, height].map(|side| chance.between(-1.0, 1.0) * settings.shift * side);
    let (sine, cosine) = (libm::sin(angle) / scale, libm::cos(angle) / scale);

    let mut rgb = Vec::with_capacity(image.rgb.len());
    for y in 0..image.height {
        for x in 0..image.width {
            // From the new pixel's middle back to the old image.
            let (dx, dy) =
                (x as f64 + 0.5 - width / 2.0 - shift[0], y as f64 + 0.5 - height / 2.0 - shift[1]);
            let along = cosine * dx + sine * dy;
            let along = if flipped { -along } else { along };
            rgb.extend(bilinear(
                image,
                along + width / 2.0 - 0.5,
                cosine * dy - sine * dx + height / 2.0 - 0.5,
            ));
        }
    }
    let mut out = Image { width: image.width, height: image.height, rgb };
    tint(&mut out, settings, chance);
    out
}

/// Change channels and contrast alone.
pub(crate) fn tint(image: &mut Image, settings: &Augmentation, chance: &mut Chance) {
    let gains = [(); 3].map(|()| 1.0 + chance.between(-1.0, 1.0) * settings.gains);
    let contrast = 1.0 + chance.between(-1.0, 1.0) * settings.contrast;
    if settings.gains == 0.0 && settings.contrast == 0.0 {
        return;
    }
    let sum: u64 = image.rgb.iter().map(|&value| u64::from(value)).sum();
    let mean = sum as f64 / image.rgb.len().max(1) as f64;
    for pixel in image.rgb.chunks_exact_mut(3) {
        for (value, gain) in pixel.iter_mut().zip(gains) {
            *value = to_byte(((f64::from(*value) - mean) * contrast + mean) * gain);
        }
    }
}

/// The nearest value of a byte, from 0 to 255.
pub(crate) fn to_byte(value: f64) -> u8 {
    // `as` saturates.
    (value + 0.5) as u8
}

fn bilinear(image: &Image, x: f64, y: f64) -> [u8; 3] {
    let (x, y) = (x.clamp(0.0, (image.width - 1) as f64), y.clamp(0.0, (image.height - 1) as f64));
    let (left, top) = (x as usize, y as usize);
    let (right, below) = ((left + 1).min(image.width - 1), (top + 1).min(image.height - 1));
    let (fx, fy) = (x - left as f64, y - top as f64);
    std::array::from_fn(|channel| {
        let at = |x: usize, y: usize| f64::from(image.rgb[3 * (y * image.width + x) + channel]);
        let upper = at(left, top) * (1.0 - fx) + at(right, top) * fx;
        let lower = at(left, below) * (1.0 - fx) + at(right, below) * fx;
        to_byte(upper * (1.0 - fy) + lower * fy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let rgb = (0..12 * 8).flat_map(|at| [(at * 2) as u8, 200 - at as u8, (at % 12 * 20) as u8]).collect();
        Image { width: 12, height: 8, rgb }
    }

    #[test]
    fn nothing_asked_for_is_nothing_changed() {
        let image = image();
        assert_eq!(augment(&image, &Augmentation::none(), &mut Chance::new(1, 2, 3)), image);
    }

    #[test]
    fn a_setting_that_is_left_out_changes_nothing() {
        let read: Augmentation = serde_json::from_str(r#"{"rotation": 20}"#).unwrap();
        assert_eq!(read, Augmentation { rotation: 20.0, ..Augmentation::none() });
        assert!(serde_json::from_str::<Augmentation>(r#"{"rotate": 20}"#).is_err());
    }

    #[test]
    fn things_are_changed_and_reproduced() {
        let (image, settings) = (image(), Augmentation::of_things());
        let changed = |index| augment(&image, &settings, &mut Chance::new(1, 2, index));
        assert_eq!(changed(3), changed(3));
        assert!((0..20).all(|index| changed(index) != image && changed(index) != changed(index + 1)));
    }

    #[test]
    fn a_flip_mirrors_exactly_and_half_of_the_time() {
        let image = image();
        let mirrored: Vec<u8> =
            image.rgb.chunks(36).flat_map(|row| row.chunks(3).rev().flatten()).copied().collect();
        let settings = Augmentation { flip: true, ..Augmentation::none() };
        let flips = (0..200).filter(|&index| {
            let changed = augment(&image, &settings, &mut Chance::new(1, 0, index));
            assert!(changed == image || changed.rgb == mirrored);
            changed != image
        });
        assert!((70..130).contains(&flips.count()));
    }

    #[test]
    fn a_quarter_turn_moves_pixels_where_geometry_says() {
        // The angle is even between plus and minus 90 degrees; take the first that is nearly 90.
        let side = 9;
        let mut image = Image::filled(side, side, [0; 3]).unwrap();
        image.rgb[3 * (4 * side + 7)] = 255;
        let settings = Augmentation { rotation: 90.0, ..Augmentation::none() };
        let is_quarter = |&index: &u64| Chance::new(0, 0, index).between(-1.0, 1.0) > 0.995;
        let index = (0..10_000).find(is_quarter).unwrap();
        let turned = augment(&image, &settings, &mut Chance::new(0, 0, index));
        let brightest = (0..side * side).max_by_key(|&at| turned.rgb[3 * at]).unwrap();
        assert_eq!((brightest % side, brightest / side), (4, 7), "clockwise: from the right to the bottom");
    }

    #[test]
    fn gains_and_contrast_stay_within_their_bounds() {
        let grey = Image::filled(4, 4, [100; 3]).unwrap();
        let settings = Augmentation { gains: 0.2, contrast: 0.5, ..Augmentation::none() };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..300 {
            let changed = augment(&grey, &settings, &mut Chance::new(5, 0, index));
            assert!(changed.rgb.iter().all(|value| (80..=120).contains(value)));
            seen.insert(changed.rgb[0]);
            let kept = augment(&grey, &settings.keeping_colours(), &mut Chance::new(5, 0, index));
            assert_eq!(kept, grey);
        }
        assert!(seen.len() > 30 && seen.first() < Some(&84) && seen.last() > Some(&116));
    }
}
