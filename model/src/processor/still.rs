//! Resizing, cropping and normalizing one image, in the order of transformers' image processors.

use percept_modalities::image::{self, Filter, Image, Normalize};
use percept_modalities::{Array, Result, Values};

use super::settings::{Settings, Size};

/// Pixels of the edge of an image that a tower reads, at most; published ones have up to 1024.
const MOST_EDGE: usize = 4096;

/// What a family does where its file is silent.
#[derive(Debug, Clone, Copy)]
pub struct StillDefaults {
    /// The size to resize to.
    pub size: Size,
    /// How a bare number is read as a size.
    pub bare: fn(usize) -> Size,
    /// How pixels are weighted.
    pub filter: Filter,
    /// Whether the middle is cut out.
    pub crop: bool,
    /// Mean and standard deviation of each channel.
    pub normalize: ([f64; 3], [f64; 3]),
}

/// How an image becomes a tower's input.
#[derive(Debug, Clone)]
pub struct Still {
    /// Where it is resized to; `None` leaves its size.
    pub size: Option<Size>,
    /// How pixels are weighted.
    pub filter: Filter,
    /// Height and width of the middle that is cut out.
    pub crop: Option<(usize, usize)>,
    /// The normalization, which is applied last.
    pub normalize: Normalize,
    /// How images are resized: like PIL, or like torchvision, which prepares videos.
    pub resize: Resize,
    /// [`Still::batch`] resizes in floating point instead, and rounds nothing to bytes.
    pub precise: bool,
}

/// A way of resizing to a width and a height.
pub type Resize = fn(&Image, usize, usize, Filter) -> Result<Image>;

impl Still {
    /// Reads `do_resize`, `size`, `resample`, `do_center_crop`, `crop_size` and the keys of normalization.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn read(s: &Settings, defaults: StillDefaults) -> Result<Self> {
        let size = s.size("size", defaults.bare)?.unwrap_or(defaults.size);
        if !matches!(size, Size::Exact { .. } | Size::Shortest(_)) {
            return Err(s.fault(format!(
                "`size` is {size:?}; this model needs height and width, or shortest_edge alone"
            )));
        }
        let crop = match s.size("crop_size", Size::square)? {
            _ if !s.get("do_center_crop", defaults.crop)? => None,
            Some(Size::Exact { height, width }) => Some((height, width)),
            None => match size {
                Size::Shortest(edge) => Some((edge, edge)),
                Size::Exact { height, width } => Some((height, width)),
                _ => return Err(s.fault("`do_center_crop` needs a `crop_size` with height and width")),
            },
            Some(_) => return Err(s.fault("`crop_size` needs a height and a width")),
        };
        let edges = match size {
            Size::Exact { height, width } => (height, width),
            Size::Shortest(edge) | Size::Longest(edge) | Size::Edges { shortest: edge, .. } => (edge, edge),
        };
        for (key, (height, width)) in [("size", edges), ("crop_size", crop.unwrap_or(edges))] {
            if height.max(width) > MOST_EDGE {
                let why = format!(
                    "`{key}` is {height}x{width}; no tower reads more than {MOST_EDGE} pixels an edge"
                );
                return Err(s.fault(why));
            }
        }
        Ok(Self {
            size: s.get("do_resize", true)?.then_some(size),
            filter: s.filter(defaults.filter)?,
            crop,
            normalize: s.normalize(defaults.normalize)?,
            resize: image::resize,
            precise: false,
        })
    }

    /// The image at the size that the tower reads.
    ///
    /// # Errors
    /// When the size is beyond any image's.
    pub fn fit(&self, image: &Image) -> Result<Image> {
        let resized = match self.size {
            Some(size) => {
                let (height, width) = target(size, image.height, image.width);
                (self.resize)(image, width, height, self.filter)?
            }
            None => image.clone(),
        };
        match self.crop {
            Some((height, width)) => image::center_crop(&resized, width, height),
            None => Ok(resized),
        }
    }

    /// Images as `pixel_values` f32[n,3,h,w].
    ///
    /// # Errors
    /// When they do not come out at one size, or one is beyond any image's.
    pub fn batch(&self, images: &[Image]) -> Result<Array> {
        if let (true, Some(Size::Exact { height, width }), None) = (self.precise, self.size, self.crop) {
            let mut values = Vec::with_capacity(images.len() * 3 * height * width);
            for image in images {
                let planes = image::resize_floats(image, width, height, self.filter)?;
                let of_channel = |(c, plane): (usize, &[f32])| self.normalize.values(c, plane);
                values.extend(planes.chunks_exact(height * width).enumerate().flat_map(of_channel));
            }
            return Ok(Array { dims: vec![images.len(), 3, height, width], values: Values::F32(values) });
        }
        let fitted = images.iter().map(|p| self.fit(p)).collect::<Result<Vec<_>>>()?;
        stack(&fitted, &self.normalize, vec![fitted.len()])
    }
}

/// Normalized images of one size as f32[lead.., 3, h, w].
///
/// # Errors
/// When their sizes differ.
pub fn stack(images: &[Image], normalize: &Normalize, lead: Vec<usize>) -> Result<Array> {
    let (h, w) = images.first().map_or((0, 0), |p| (p.height, p.width));
    if let Some(other) = images.iter().find(|p| (p.height, p.width) != (h, w)) {
        return Err(percept_modalities::Error::Prompt(format!(
            "images of {w}x{h} and {}x{} cannot share a prompt of this model: its processor does not bring them to one size",
            other.width, other.height
        )));
    }
    let mut values = Vec::with_capacity(images.len() * 3 * h * w);
    for p in images {
        values.extend(image::normalize(p, normalize));
    }
    Ok(Array { dims: [lead, vec![3, h, w]].concat(), values: Values::F32(values) })
}

/// Height and width of an image resized to `size`. The longer edge is truncated, like in
/// `get_resize_output_image_size` of transformers.
fn target(size: Size, height: usize, width: usize) -> (usize, usize) {
    let (short, long) = (height.min(width), height.max(width));
    match size {
        Size::Exact { height, width } => (height, width),
        Size::Shortest(edge) | Size::Longest(edge) | Size::Edges { shortest: edge, .. } => {
            let other = (edge as f64 * long as f64 / short as f64) as usize;
            if width <= height { (other, edge) } else { (edge, other) }
        }
    }
}

/// The image in the middle of a square of one colour.
///
/// # Errors
/// When the square is beyond any image's size.
pub fn pad_to_square(image: &Image, colour: [u8; 3]) -> Result<Image> {
    let edge = image.width.max(image.height);
    let (left, top) = ((edge - image.width) / 2, (edge - image.height) / 2);
    image::pad(image, left, top, edge - image.width - left, edge - image.height - top, colour)
}

/// The mean colour as bytes, rounded down.
pub fn mean_colour(normalize: &Normalize) -> [u8; 3] {
    normalize.mean.map(|m| (m * 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_truncated_like_the_original() {
        assert_eq!(target(Size::Shortest(56), 208, 324), (56, 87));
        assert_eq!(target(Size::Shortest(56), 267, 190), (78, 56));
        assert_eq!(target(Size::square(7), 1, 90), (7, 7));
    }

    #[test]
    fn a_square_has_the_image_in_its_middle() {
        let p = Image { width: 3, height: 1, rgb: vec![9; 9] };
        let s = pad_to_square(&p, [1, 2, 3]).unwrap();
        assert_eq!((s.width, s.height), (3, 3));
        assert_eq!(
            (&s.rgb[..3], &s.rgb[9..12], &s.rgb[18..21]),
            (&[1, 2, 3][..], &[9, 9, 9][..], &[1, 2, 3][..])
        );
    }
}
