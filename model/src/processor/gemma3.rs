//! Gemma 3: every image at one size and a fixed number of feature rows, set apart by blank lines.

use percept_modalities::image::Filter;
use percept_modalities::{Aim, Inputs, Media, MediaKind, Message, Processor, Result};

use super::prompt::{Placeholder, Prompt, mark_tokens, refuse, rows};
use super::settings::{HALF_NORMALIZE, ProcessorFiles, Size};
use super::still::{Still, StillDefaults};

/// The processor of Gemma 3.
pub struct Gemma3 {
    prompt: Prompt,
    still: Still,
    begin_token: String,
    image_token: String,
    /// The text that replaces the placeholder of an image.
    image: String,
    image_id: i64,
}

impl Gemma3 {
    /// Reads the processor's files; `rows` is the number of feature rows that the model has of an image.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks the placeholder.
    pub fn new(files: &ProcessorFiles, rows: usize, prompt: Prompt) -> Result<Self> {
        let defaults = StillDefaults {
            size: Size::square(224),
            bare: Size::square,
            filter: Filter::Bilinear,
            crop: false,
            normalize: HALF_NORMALIZE,
        };
        let begin_token = prompt.token("boi_token", "<start_of_image>");
        let usual: String = files.processor.get("image_token", "<image_soft_token>".into())?;
        let image_token = prompt.token("image_token", &usual);
        let end_token = prompt.token("eoi_token", "<end_of_image>");
        let given = files.processor.count("image_seq_length", rows)?;
        if given > rows {
            return Err(files.processor.fault(format!(
                "`image_seq_length` is {given}, the model has {rows} rows of features an image"
            )));
        }
        let rows = self::rows(&image_token, given)?;
        Ok(Self {
            still: Still::read(&files.image, defaults)?,
            image: format!("\n\n{begin_token}{rows}{end_token}\n\n"),
            image_id: prompt.id(&image_token)?,
            begin_token,
            image_token,
            prompt,
        })
    }
}

impl Processor for Gemma3 {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "Gemma 3", true, false, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let replacements = vec![self.image.clone(); media.images.len()];
        let placeholder = Placeholder {
            kind: MediaKind::Image,
            token: &self.begin_token,
            feature: &self.image_token,
            replacements,
        };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        mark_tokens(&mut inputs, "token_type_ids", &[(self.image_id, 1)]);
        if !media.images.is_empty() {
            inputs.arrays.insert("pixel_values".into(), self.still.batch(&media.images)?);
            inputs.attach_rows(MediaKind::Image, "pixel_values", Some(&self.still.normalize), |_| None);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }
}
