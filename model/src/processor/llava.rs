//! LLaVA: every image at one size, a placeholder for each of its patches.

use percept_modalities::image::Filter;
use percept_modalities::{Aim, Grid, Inputs, Media, MediaKind, Message, Processor, Result};

use super::prompt::{Placeholder, Prompt, refuse, rows};
use super::settings::{CLIP_NORMALIZE, ProcessorFiles, Size};
use super::still::{Still, StillDefaults, mean_colour, pad_to_square};

/// Settings of the tower from the model's configuration, for processor files that do not repeat them.
#[derive(Debug, Clone)]
pub struct Tower {
    /// Pixels of a patch's edge.
    pub patch: usize,
    /// Pixels of an image's edge.
    pub image: usize,
    /// Rows of features besides those of patches.
    pub additional: usize,
    /// `default` drops the first row of features, `full` keeps it.
    pub strategy: String,
}

impl Tower {
    /// Rows of features of an image of so many pixels.
    pub fn features(&self, height: usize, width: usize) -> usize {
        let dropped = usize::from(self.strategy == "default");
        ((height / self.patch) * (width / self.patch)).saturating_add(self.additional).saturating_sub(dropped)
    }

    /// The same with the values of the processor's file where it has them.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn or(self, files: &ProcessorFiles) -> Result<Self> {
        let p = &files.processor;
        Ok(Self {
            patch: p.count("patch_size", self.patch)?,
            additional: p.get("num_additional_image_tokens", self.additional)?,
            strategy: p.get("vision_feature_select_strategy", self.strategy)?,
            ..self
        })
    }
}

/// What CLIP's image processor does where its file is silent.
pub const CLIP_STILL: StillDefaults = StillDefaults {
    size: Size::Shortest(224),
    bare: Size::Shortest,
    filter: Filter::Bicubic,
    crop: true,
    normalize: CLIP_NORMALIZE,
};

/// The processor of LLaVA.
pub struct Llava {
    prompt: Prompt,
    still: Still,
    /// Padded to a square of this colour first.
    square: Option<[u8; 3]>,
    tower: Tower,
    image_token: String,
}

impl Llava {
    /// Reads the processor's files.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks the placeholder.
    pub fn new(files: &ProcessorFiles, tower: Tower, prompt: Prompt) -> Result<Self> {
        let still = Still::read(&files.image, CLIP_STILL)?;
        let usual: String = files.processor.get("image_token", "<image>".into())?;
        let image_token = prompt.token("image_token", &usual);
        prompt.id(&image_token)?;
        Ok(Self {
            square: files.image.get("do_pad", false)?.then(|| mean_colour(&still.normalize)),
            tower: tower.or(files)?,
            still,
            image_token,
            prompt,
        })
    }
}

impl Processor for Llava {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "LLaVA", true, false, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let images = media
            .images
            .iter()
            .map(|p| match self.square {
                Some(colour) => self.still.fit(&pad_to_square(p, colour)?),
                None => self.still.fit(p),
            })
            .collect::<Result<Vec<_>>>()?;
        let replacements = images
            .iter()
            .map(|p| rows(&self.image_token, self.tower.features(p.height, p.width)))
            .collect::<Result<_>>()?;
        let (kind, token) = (MediaKind::Image, &self.image_token);
        let placeholder = Placeholder { kind, token, feature: token, replacements };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        if !images.is_empty() {
            let pixels = super::still::stack(&images, &self.still.normalize, vec![images.len()])?;
            inputs.arrays.insert("pixel_values".into(), pixels);
            let patches = |i: usize| {
                let extents = [images[i].height, images[i].width].map(|edge| edge / self.tower.patch);
                Some(Grid { of: "patches", extents: extents.to_vec() })
            };
            inputs.attach_rows(kind, "pixel_values", Some(&self.still.normalize), patches);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }
}
