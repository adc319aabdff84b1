//! Images in their own aspect ratio, cut into at most so many patches (NaFlex, SigLIP 2).

use percept_modalities::image::{self, Filter, Image, Normalize};
use percept_modalities::{Array, Result, Values};

use super::settings::{HALF_NORMALIZE, Settings};

/// Patches of an image, at most; published models read 256 to 1,024.
const MOST_PATCHES: usize = 1 << 14;
/// Pixels of a patch's edge, at most.
const MOST_PATCH: usize = 256;

/// How images become rows of patches.
#[derive(Debug, Clone)]
pub struct NaFlex {
    /// Patches of an image, at most; images with fewer are filled up with rows of zeros.
    pub most: usize,
    /// Pixels of a patch's edge.
    pub patch: usize,
    filter: Filter,
    normalize: Normalize,
}

impl NaFlex {
    /// Reads `max_num_patches`, `patch_size`, `resample` and the keys of normalization.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn read(s: &Settings) -> Result<Self> {
        if !s.get("do_resize", true)? {
            return Err(s.fault("`do_resize` is false; images of any size are no whole number of patches"));
        }
        let (most, patch) = (s.count("max_num_patches", 256)?, s.count("patch_size", 16)?);
        if most > MOST_PATCHES || patch > MOST_PATCH {
            return Err(s.fault(format!(
                "`max_num_patches` is {most} and `patch_size` {patch}; no tower reads more than {MOST_PATCHES} patches of \
                 {MOST_PATCH} pixels an edge"
            )));
        }
        let (filter, normalize) = (s.filter(Filter::Bilinear)?, s.normalize(HALF_NORMALIZE)?);
        Ok(Self { most, patch, filter, normalize })
    }

    /// Numbers of a patch.
    pub fn numbers(&self) -> usize {
        3 * self.patch.pow(2)
    }

    /// Rows and columns of patches of an image: the largest scale at which they are not too many, found by
    /// bisection as the original finds it.
    pub fn grid(&self, height: usize, width: usize) -> [usize; 2] {
        let patches =
            |scale: f64, edge: usize| ((edge as f64 * scale / self.patch as f64).ceil() as usize).max(1);
        let (mut low, mut high) = (1e-6, 100.0);
        while high - low >= 1e-5 {
            let scale = (low + high) / 2.0;
            let count = patches(scale, height).saturating_mul(patches(scale, width));
            if count <= self.most { low = scale } else { high = scale }
        }
        [patches(low, height), patches(low, width)]
    }

    /// Images as `pixel_values` f32[n,most,3 patch^2], each patch row by row with its colours side by side,
    /// `pixel_attention_mask` i64[n,most] and `spatial_shapes` i64[n,2].
    ///
    /// # Errors
    /// When an image's size is beyond any image's.
    pub fn batch(&self, images: &[Image]) -> Result<[(&'static str, Array); 3]> {
        let (n, p) = (images.len(), self.patch);
        let mut pixels = Vec::with_capacity(n * self.most * self.numbers());
        let (mut mask, mut shapes) = (Vec::with_capacity(n * self.most), Vec::with_capacity(2 * n));
        for (i, image) in images.iter().enumerate() {
            let [rows, columns] = self.grid(image.height, image.width);
            let (height, width) = (rows * p, columns * p);
            let sized = image::resize(image, width, height, self.filter)?;
            patches(&sized, p, &self.normalize, &mut pixels);
            pixels.resize((i + 1) * self.most * self.numbers(), 0.0);
            mask.extend((0..self.most).map(|i| i64::from(i < rows * columns)));
            shapes.extend([rows as i64, columns as i64]);
        }
        Ok([
            ("pixel_values", Array { dims: vec![n, self.most, self.numbers()], values: Values::F32(pixels) }),
            ("pixel_attention_mask", Array { dims: vec![n, self.most], values: Values::I64(mask) }),
            ("spatial_shapes", Array { dims: vec![n, 2], values: Values::I64(shapes) }),
        ])
    }
}

/// Appends the patches of an image whose edges are multiples of a patch's, row by row, each row by row with its colours
/// side by side; gives how many rows and columns of them there are.
pub(super) fn patches(image: &Image, patch: usize, normalize: &Normalize, out: &mut Vec<f32>) -> [usize; 2] {
    let (height, width) = (image.height, image.width);
    let (rows, columns) = (height / patch, width / patch);
    let planes = image::normalize(image, normalize);
    for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
        for (y, x) in (0..patch).flat_map(|y| (0..patch).map(move |x| (y, x))) {
            let at = (row * patch + y) * width + column * patch + x;
            out.extend((0..3).map(|c| planes[c * height * width + at]));
        }
    }
    [rows, columns]
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of get_image_size_for_max_num_patches, transformers 5.24.
    #[test]
    fn grids_are_those_of_the_original() {
        let of = |most, height, width| {
            let s = Settings::new("f", serde_json::Map::new());
            NaFlex { most, ..NaFlex::read(&s).unwrap() }.grid(height, width)
        };
        assert_eq!(of(256, 208, 324), [13, 19]);
        assert_eq!(of(256, 1, 900), [1, 256]);
        assert_eq!(of(1024, 3000, 2000), [39, 26]);
        assert_eq!(of(36, 50, 60), [5, 6]);
        assert_eq!(of(256, 640, 480), [18, 14]);
    }
}
