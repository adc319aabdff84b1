//! PaddleOCR-VL: every image at its own size, its patches row by row.

use percept_modalities::image::{self, Filter, Normalize};
use percept_modalities::{Aim, Array, Grid, Inputs, Media, MediaKind, Message, Processor, Result, Values};

use super::prompt::{Placeholder, Prompt, insert_i64, mark_tokens, refuse, rows};
use super::qwen_vl::{grown, smart_resize};
use super::settings::{CLIP_NORMALIZE, ProcessorFiles, Size};

/// The processor of PaddleOCR-VL.
pub struct PaddleOcr {
    prompt: Prompt,
    patch: usize,
    merge: usize,
    /// Fewest and most pixels of an image.
    pixels: [usize; 2],
    filter: Filter,
    normalize: Normalize,
    image_token: String,
    image_id: i64,
}

impl PaddleOcr {
    /// Reads the processor's files, for a tower of such patches, of which squares are merged.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks the placeholder.
    pub fn new(files: &ProcessorFiles, [patch, merge]: [usize; 2], prompt: Prompt) -> Result<Self> {
        let s = &files.image;
        let given = [s.count("patch_size", 14)?, s.count("merge_size", 2)?];
        if given != [patch, merge] || s.count("temporal_patch_size", 1)? != 1 {
            return Err(s.fault(format!(
                "`patch_size` and `merge_size` are {given:?}, the model's {:?}, of single images",
                [patch, merge]
            )));
        }
        if !s.get("do_resize", true)? {
            return Err(s.fault("`do_resize` is false; images of any size are no whole number of patches"));
        }
        let (shortest, longest) = match s.size("size", |n| Size::Edges { shortest: n, longest: n })? {
            Some(Size::Edges { shortest, longest }) => (shortest, longest),
            None => (384 * 384, 1536 * 1536),
            Some(other) => {
                return Err(s.fault(format!(
                    "`size` is {other:?}; it needs shortest_edge and longest_edge, the least and most pixels"
                )));
            }
        };
        let pixels = [s.count("min_pixels", shortest)?, s.count("max_pixels", longest)?];
        if pixels[0] > 1 << 22 {
            return Err(s.fault(format!("the smallest size, {} pixels, is more than the largest", pixels[0])));
        }
        let image_token = prompt.token("image_token", "<|IMAGE_PLACEHOLDER|>");
        Ok(Self {
            patch,
            merge,
            pixels,
            filter: s.filter(Filter::Bicubic)?,
            normalize: s.normalize(CLIP_NORMALIZE)?,
            image_id: prompt.id(&image_token)?,
            image_token,
            prompt,
        })
    }
}

impl Processor for PaddleOcr {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "PaddleOCR-VL", true, false, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let (p, [least, most]) = (self.patch, self.pixels);
        let (mut values, mut grids, mut replacements) = (Vec::new(), Vec::new(), Vec::new());
        for image in &media.images {
            let factor = p * self.merge;
            let (height, width) =
                smart_resize(grown((image.height, image.width), factor), factor, least, most)?;
            let planes =
                image::normalize(&image::resize(image, width, height, self.filter)?, &self.normalize);
            let [down, along] = [height / p, width / p];
            for (row, column) in (0..down).flat_map(|r| (0..along).map(move |c| (r, c))) {
                for (c, y) in (0..3).flat_map(|c| (row * p..(row + 1) * p).map(move |y| (c, y))) {
                    let from = (c * height + y) * width + column * p;
                    values.extend_from_slice(&planes[from..from + p]);
                }
            }
            replacements.push(rows(&self.image_token, down * along / self.merge.pow(2))?);
            grids.push([1, down, along]);
        }
        let (kind, token) = (MediaKind::Image, &self.image_token);
        let placeholder = Placeholder { kind, token, feature: token, replacements };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        mark_tokens(&mut inputs, "mm_token_type_ids", &[(self.image_id, 1)]);
        if grids.is_empty() {
            return Ok(inputs);
        }
        let dims = vec![values.len() / (3 * p * p), 3, p, p];
        inputs.arrays.insert("pixel_values".into(), Array { dims, values: Values::F32(values) });
        let all = grids.iter().flatten().map(|&n| n as i64).collect();
        insert_i64(&mut inputs, "image_grid_thw", vec![grids.len(), 3], all);
        for (index, [_, down, along]) in grids.into_iter().enumerate() {
            let grid = Grid { of: "patches", extents: vec![down, along] };
            inputs.attach(kind, index, Some(grid), Vec::new());
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }
}
