//! The media of a prompt: which tokens each takes, and which values of the inputs are its own.

use std::ops::Range;

use crate::image::{Image, Normalize};
use crate::inputs::{Inputs, Values};

/// A kind of medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum MediaKind {
    Image,
    Video,
    Audio,
}

impl MediaKind {
    /// Its name, as messages spell it: `image`, `video`, `audio`.
    pub fn name(self) -> &'static str {
        match self {
            MediaKind::Image => "image",
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
        }
    }
}

/// A medium of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Whether it is an image, a video or audio.
    pub kind: MediaKind,
    /// Which of its kind, counted from 0 in the order in which the messages mention them.
    pub index: usize,
    /// Tokens from its first placeholder to its last; other tokens may lie between them.
    pub range: Range<usize>,
    /// Placeholders in the range, one for each row of features.
    pub features: usize,
    /// What it is cut into.
    pub grid: Option<Grid>,
    /// Its parts of the arrays.
    pub parts: Vec<ArrayPart>,
}

/// What a medium is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// What there are so many of: `patches`, `tiles` or `features`.
    pub of: &'static str,
    /// Their number in time (where there is one), height and width.
    pub extents: Vec<usize>,
}

/// The part of an array that is one medium's: values that lie together.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayPart {
    /// The array's name.
    pub array: String,
    /// Its first value in the array.
    pub start: usize,
    /// Its extents; their product is the number of values.
    pub dims: Vec<usize>,
    /// How pixels became these values; `None` for other numbers.
    pub pixels: Option<Pixels>,
}

/// How pixels became numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// What was done to each value.
    pub normalize: Normalize,
    /// How planes were cut up; `None` when they are whole, [.., 3, height, width].
    pub patches: Option<Patches>,
}

/// How frames of one size were cut into the rows of an array, in the order in which Qwen's towers merge them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Patches in time, height and width.
    pub grid: [usize; 3],
    /// Pixels of a patch's edge.
    pub patch: usize,
    /// Frames of a patch.
    pub temporal: usize,
    /// Patches along the edge of a block whose rows follow one another.
    pub merge: usize,
}

impl Inputs {
    /// Notes what a medium of the prompt was cut into and which parts of the arrays are its own.
    pub fn attach(&mut self, kind: MediaKind, index: usize, grid: Option<Grid>, parts: Vec<ArrayPart>) {
        if let Some(shown) = self.shown.iter_mut().find(|s| s.kind == kind && s.index == index) {
            shown.grid = grid;
            shown.parts = parts;
        }
    }

    /// Notes that each row along the first axis of an array belongs to one medium of a kind, in order.
    pub fn attach_rows(
        &mut self,
        kind: MediaKind,
        array: &str,
        pixels: Option<&Normalize>,
        grid: impl Fn(usize) -> Option<Grid>,
    ) {
        let Some(dims) = self.arrays.get(array).map(|a| a.dims.clone()) else { return };
        let Some((&count, each)) = dims.split_first() else { return };
        for index in 0..count {
            let part = ArrayPart {
                array: array.to_string(),
                start: index * each.iter().product::<usize>(),
                dims: [&[1], each].concat(),
                pixels: pixels.map(|normalize| Pixels { normalize: normalize.clone(), patches: None }),
            };
            self.attach(kind, index, grid(index), vec![part]);
        }
    }

    /// The values of a part; `None` when the array is not there or has not so many.
    pub fn part(&self, part: &ArrayPart) -> Option<Values> {
        let end = part.start + part.dims.iter().product::<usize>();
        match &self.arrays.get(&part.array)?.values {
            Values::F32(values) => Some(Values::F32(values.get(part.start..end)?.to_vec())),
            Values::I64(values) => Some(Values::I64(values.get(part.start..end)?.to_vec())),
        }
    }

    /// The images that a part was made of, as the model is given them: resized, cut, and rounded to 8 bits
    /// again. None for numbers that are no pixels.
    pub fn images_of(&self, part: &ArrayPart) -> Vec<Image> {
        let (Some(pixels), Some(Values::F32(values))) = (&part.pixels, self.part(part)) else {
            return Vec::new();
        };
        match pixels.patches {
            Some(patches) => patches.frames(&values, &pixels.normalize),
            None => match part.dims[..] {
                [.., 3, height, width] if height * width > 0 => {
                    let planes = values.chunks_exact(3 * height * width);
                    planes.map(|plane| to_image(plane, width, height, &pixels.normalize)).collect()
                }
                _ => Vec::new(),
            },
        }
    }
}

/// Values f32[3,height,width] as an image.
fn to_image(planes: &[f32], width: usize, height: usize, normalize: &Normalize) -> Image {
    let area = width * height;
    let mut rgb = vec![0; 3 * area];
    for (c, plane) in planes.chunks_exact(area).enumerate() {
        for (i, &value) in plane.iter().enumerate() {
            rgb[3 * i + c] = normalize.byte(value, c);
        }
    }
    Image { width, height, rgb }
}

impl Patches {
    /// The frames that were cut up. Where the last one was repeated to fill a patch, it is there again.
    fn frames(&self, values: &[f32], normalize: &Normalize) -> Vec<Image> {
        let Patches { grid: [times, rows, columns], patch, temporal, merge } = *self;
        let (height, width) = (rows * patch, columns * patch);
        let area = height * width;
        if area == 0 || merge == 0 || values.len() != times * temporal * 3 * area {
            return Vec::new();
        }
        let mut frames = vec![Image { width, height, rgb: vec![0; 3 * area] }; times * temporal];
        let mut lines = values.chunks_exact(patch);
        for time in 0..times {
            for (block_row, block_column) in
                (0..rows / merge).flat_map(|r| (0..columns / merge).map(move |c| (r, c)))
            {
                for (r, c) in (0..merge).flat_map(|r| (0..merge).map(move |c| (r, c))) {
                    let (row, column) = (block_row * merge + r, block_column * merge + c);
                    for channel in 0..3 {
                        for t in 0..temporal {
                            for y in row * patch..(row + 1) * patch {
                                let line = lines.next().unwrap_or_default();
                                let rgb = &mut frames[time * temporal + t].rgb;
                                for (x, &value) in line.iter().enumerate() {
                                    let pixel = y * width + column * patch + x;
                                    rgb[3 * pixel + channel] = normalize.byte(value, channel);
                                }
                            }
                        }
                    }
                }
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::normalize;
    use crate::inputs::Array;

    fn gradient(width: usize, height: usize) -> Image {
        Image { width, height, rgb: (0..3 * width * height).map(|i| (i * 7 % 256) as u8).collect() }
    }

    #[test]
    fn pixels_come_back_from_planes_as_they_were() {
        let settings = Normalize {
            rescale_factor: Some(1.0 / 255.0),
            mean: [0.48145466, 0.4578275, 0.40821073],
            std: [0.26862954, 0.26130258, 0.27577711],
        };
        let images = [gradient(5, 4), gradient(5, 4)];
        let values: Vec<f32> = images.iter().flat_map(|p| normalize(p, &settings)).collect();
        let mut inputs = Inputs::default();
        let array = Array { dims: vec![2, 3, 4, 5], values: Values::F32(values) };
        inputs.arrays.insert("pixel_values".into(), array);
        inputs.shown = (0..2)
            .map(|index| Shown {
                kind: MediaKind::Image,
                index,
                range: 0..0,
                features: 0,
                grid: None,
                parts: Vec::new(),
            })
            .collect();
        inputs.attach_rows(MediaKind::Image, "pixel_values", Some(&settings), |_| None);
        for (shown, image) in inputs.shown.iter().zip(&images) {
            assert_eq!(shown.parts[0].dims, [1, 3, 4, 5]);
            assert_eq!(inputs.images_of(&shown.parts[0]), std::slice::from_ref(image));
        }
        let outside = ArrayPart { start: 100, ..inputs.shown[0].parts[0].clone() };
        assert_eq!((inputs.part(&outside), inputs.images_of(&outside)), (None, Vec::new()));
    }
}
