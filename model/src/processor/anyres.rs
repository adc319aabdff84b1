//! The geometry of LLaVA-NeXT and LLaVA-OneVision: an image is fitted into the best of several resolutions,
//! cut into squares, and the features of its border are dropped again. Processor and model must agree on all
//! of it.

/// Height and width.
pub type Extent = (usize, usize);

/// The resolution that keeps the most of an image's pixels and, of those, wastes the least.
pub fn best_resolution((height, width): Extent, resolutions: &[Extent]) -> Option<Extent> {
    let mut best = None;
    let (mut most, mut least_waste) = (0, usize::MAX);
    for &(h, w) in resolutions {
        let scale = (w as f64 / width as f64).min(h as f64 / height as f64);
        let scaled = (width as f64 * scale) as usize * (height as f64 * scale) as usize;
        let kept = scaled.min(width * height);
        let waste = h * w - kept.min(h * w);
        if kept > most || (kept == most && waste < least_waste) {
            (most, least_waste, best) = (kept, waste, Some((h, w)));
        }
    }
    best
}

/// The size of an image that fills `target` in one direction and fits in the other.
pub fn fitted((height, width): Extent, target: Extent) -> Extent {
    let (by_width, by_height) = (target.1 as f64 / width as f64, target.0 as f64 / height as f64);
    if by_width < by_height {
        (((height as f64 * by_width).ceil() as usize).min(target.0), target.1)
    } else {
        (target.0, ((width as f64 * by_height).ceil() as usize).min(target.1))
    }
}

/// The rows and columns of features that stand for an image within a grid of features: what lies in the
/// border that fitting left is cut off, equally on both sides.
pub fn unpadded((height, width): Extent, grid: Extent) -> [std::ops::Range<usize>; 2] {
    let seven = |x: f64| (x * 1e7).round_ties_even() / 1e7;
    let cut = |extent: usize, kept: f64| {
        let padding = extent.saturating_sub(seven(kept) as usize) / 2;
        padding..extent - padding
    };
    if width as f64 / height as f64 > grid.1 as f64 / grid.0 as f64 {
        [cut(grid.0, height as f64 * (grid.1 as f64 / width as f64)), 0..grid.1]
    } else {
        [0..grid.0, cut(grid.1, width as f64 * (grid.0 as f64 / height as f64))]
    }
}

/// The extent to which features are shrunk when there are more than `most` squares of `side` x `side` of
/// them.
pub fn shrunk(extent: Extent, side: usize, most: Option<usize>) -> Option<Extent> {
    let most = most?;
    let ratio = ((extent.0 * extent.1) as f64 / (most * side * side) as f64).sqrt();
    (ratio > 1.1)
        .then(|| ((extent.0 as f64 / ratio).floor() as usize, (extent.1 as f64 / ratio).floor() as usize))
}

/// Number of squares in "anyres_max_9", of which more are shrunk; `None` when the text names no number.
pub fn most_squares(aspect: &str) -> Option<usize> {
    aspect.strip_prefix("anyres_max_")?.parse().ok()
}

/// How one image is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiling {
    /// Rows and columns of squares; the small copy of the whole image comes before them.
    pub squares: Extent,
    /// The kept rows and columns of the squares' features.
    pub kept: [std::ops::Range<usize>; 2],
    /// The extent to which these are resized.
    pub resized: Option<Extent>,
}

impl Tiling {
    /// The layout of an image of `size` in squares of `square` pixels with `side` x `side` features each.
    pub fn new(size: Extent, resolution: Extent, square: usize, side: usize, most: Option<usize>) -> Self {
        let squares = (resolution.0 / square, resolution.1 / square);
        let kept = unpadded(size, (squares.0 * side, squares.1 * side));
        Self { resized: shrunk((kept[0].len(), kept[1].len()), side, most), squares, kept }
    }

    /// Rows and columns of features that are kept in the end.
    pub fn extent(&self) -> Extent {
        self.resized.unwrap_or((self.kept[0].len(), self.kept[1].len()))
    }

    /// Feature rows after those of the small copy: the kept ones, and a newline after each of their rows.
    pub fn features(&self) -> usize {
        let (rows, columns) = self.extent();
        rows * (columns + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values from transformers 5.23: select_best_resolution, get_patch_output_size, unpad_image and
    // LlavaOnevisionProcessor._get_number_of_features.
    #[test]
    fn images_are_laid_out_like_the_original() {
        let pins = [(56, 112), (112, 56), (112, 112)];
        assert_eq!(best_resolution((208, 324), &pins), Some((112, 112)));
        assert_eq!(best_resolution((40, 100), &pins), Some((56, 112)));
        assert_eq!(fitted((208, 324), (112, 112)), (72, 112));
        let tiling = Tiling::new((208, 324), (112, 112), 56, 4, Some(9));
        assert_eq!((tiling.squares, tiling.kept.clone(), tiling.resized), ((2, 2), [1..7, 0..8], None));
        // With the 16 features of the small copy that is the case's 70 placeholders.
        assert_eq!(tiling.features(), 54);
        let large = Tiling::new((3000, 2900), (2304, 2304), 384, 27, Some(9));
        assert_eq!((large.extent(), large.features()), ((82, 79), 6478 + 82));
        assert_eq!(Tiling::new((500, 2000), (384, 1536), 384, 27, Some(9)).features(), 2916 + 27);
    }

    #[test]
    fn aspect_names_its_most_squares() {
        assert_eq!((most_squares("anyres_max_9"), most_squares("anyres")), (Some(9), None));
    }
}
