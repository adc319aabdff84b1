//! Pixtral and Mistral 3: every image at its own size, a placeholder for each feature and a break behind each row of
//! them.

use percept_modalities::image::{self, Filter, Image, Normalize};
use percept_modalities::{Aim, Array, Grid, Inputs, Media, MediaKind, Message, Processor, Result, Values};

use super::prompt::{Placeholder, Prompt, insert_i64, refuse, rows};
use super::settings::{CLIP_NORMALIZE, ProcessorFiles, Size};

/// Longest edge that an image may be given.
const MOST_EDGE: usize = 8192;

/// The processor of Pixtral and Mistral 3.
pub struct Pixtral {
    prompt: Prompt,
    /// Height and width that no image exceeds.
    most: [usize; 2],
    /// Pixels along the edge of a feature.
    unit: usize,
    filter: Filter,
    normalize: Normalize,
    image_token: String,
    break_token: String,
    end_token: String,
}

impl Pixtral {
    /// Reads the processor's files; `unit` is the number of pixels along the edge of one of the model's features.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks a token.
    pub fn new(files: &ProcessorFiles, unit: usize, prompt: Prompt) -> Result<Self> {
        let (own, s) = (&files.processor, &files.image);
        let [patch, merge] = [own.count("patch_size", 16)?, own.count("spatial_merge_size", 1)?];
        if patch.saturating_mul(merge) != unit {
            return Err(own.fault(format!(
                "`patch_size` is {patch} and `spatial_merge_size` {merge}; a feature of the model stands for {unit} pixels"
            )));
        }
        let most = match s.size("size", Size::Longest)?.unwrap_or(Size::Longest(1024)) {
            Size::Longest(edge) => [edge, edge],
            Size::Exact { height, width } => [height, width],
            other => return Err(s.fault(format!("`size` is {other:?}; this model needs longest_edge"))),
        };
        if most.iter().any(|edge| *edge > MOST_EDGE) {
            return Err(s.fault(format!(
                "`size` is {most:?}; no image is given more than {MOST_EDGE} pixels an edge"
            )));
        }
        for (key, usual) in [("do_resize", true), ("do_pad", true), ("do_center_crop", false)] {
            if s.get(key, usual)? != usual {
                return Err(s.fault(format!("`{key}` is {}; this model's images are whole patches", !usual)));
            }
        }
        let token = |key: &str, usual: &str| -> Result<String> {
            let token: String = own.get(key, usual.into())?;
            prompt.id(&token)?;
            Ok(token)
        };
        Ok(Self {
            most,
            unit,
            filter: s.filter(Filter::Bicubic)?,
            normalize: s.normalize(CLIP_NORMALIZE)?,
            image_token: token("image_token", "[IMG]")?,
            break_token: token("image_break_token", "[IMG_BREAK]")?,
            end_token: token("image_end_token", "[IMG_END]")?,
            prompt,
        })
    }

    /// The image no larger than it may be, grown to whole features.
    fn fit(&self, image: &Image) -> Result<Image> {
        let [most_height, most_width] = self.most.map(|edge| edge as f64);
        let ratio = (image.height as f64 / most_height).max(image.width as f64 / most_width);
        let to = |edge: usize| {
            let edge = if ratio > 1.0 { (edge as f64 / ratio).floor() as usize } else { edge };
            edge.max(1).next_multiple_of(self.unit)
        };
        image::resize(image, to(image.width), to(image.height), self.filter)
    }

    /// What stands for an image: its rows of features, each with its end.
    fn text(&self, image: &Image) -> Result<String> {
        let (down, along) = (image.height / self.unit, image.width / self.unit);
        // Checked for the whole image.
        rows(&self.image_token, down.saturating_mul(along))?;
        let row = rows(&self.image_token, along)?;
        let lines = vec![row; down];
        Ok(lines.join(&self.break_token) + &self.end_token)
    }
}

impl Processor for Pixtral {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "Pixtral", true, false, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let images = media.images.iter().map(|p| self.fit(p)).collect::<Result<Vec<_>>>()?;
        let replacements = images.iter().map(|p| self.text(p)).collect::<Result<_>>()?;
        let (kind, token) = (MediaKind::Image, &self.image_token);
        let placeholder = Placeholder { kind, token, feature: token, replacements };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        if images.is_empty() {
            return Ok(inputs);
        }
        // All have the extent of the largest, filled up with zeros on the right and below.
        let longest = |edge: fn(&Image) -> usize| images.iter().map(edge).max().unwrap_or(0);
        let [height, width] = [longest(|p| p.height), longest(|p| p.width)];
        let mut values = vec![0.0; images.len() * 3 * height * width];
        for (image, planes) in images.iter().zip(values.chunks_exact_mut(3 * height * width)) {
            let own = image::normalize(image, &self.normalize);
            let own = own.chunks_exact(image.height * image.width);
            for (plane, own) in planes.chunks_exact_mut(height * width).zip(own) {
                let lines = plane.chunks_exact_mut(width).zip(own.chunks_exact(image.width));
                lines.for_each(|(to, from)| to[..image.width].copy_from_slice(from));
            }
        }
        let dims = vec![images.len(), 3, height, width];
        inputs.arrays.insert("pixel_values".into(), Array { dims, values: Values::F32(values) });
        let sizes = images.iter().flat_map(|p| [p.height as i64, p.width as i64]).collect();
        insert_i64(&mut inputs, "image_sizes", vec![images.len(), 2], sizes);
        let features = |i: usize| {
            let extents = [images[i].height, images[i].width].map(|edge| edge / self.unit);
            Some(Grid { of: "features", extents: extents.to_vec() })
        };
        inputs.attach_rows(kind, "pixel_values", Some(&self.normalize), features);
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }
}
