//! PaliGemma: the images, then a prefix of text, with no template of a conversation.

use percept_modalities::image::Filter;
use percept_modalities::text::{ChatTemplate, Tokenizer};
use percept_modalities::{Aim, Inputs, Media, MediaKind, Message, Processor, Result, Values};

use super::prompt::{Placeholder, Prompt, insert_i64, refuse, rows};
use super::settings::{HALF_NORMALIZE, ProcessorFiles, Size};
use super::still::{Still, StillDefaults};

/// What the processor of transformers writes: all images, the first token, the text, and a line's end; an answer ends in
/// the last token. There is one question and at most one answer.
const TEMPLATE: &str = "{% for message in messages %}\
{% if message['role'] == 'user' and loop.first %}\
{% if message['content'] is string %}{{ bos_token }}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}{{ bos_token }}\
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '\n' }}\
{% elif message['role'] == 'assistant' and loop.index == 2 %}\
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ eos_token }}\
{% else %}{{ raise_exception('this model takes one message of the user, and one answer to it') }}{% endif %}{% endfor %}";

/// The placeholder of an image, which the processor of transformers fixes.
const IMAGE_TOKEN: &str = "<image>";

/// The processor of PaliGemma.
pub struct PaliGemma {
    prompt: Prompt,
    still: Still,
    /// What stands for an image.
    image: String,
}

impl PaliGemma {
    /// Reads the processor's files; `rows` is the number of feature rows that the model has of an image.
    ///
    /// # Errors
    /// When a setting cannot be used, or the vocabulary lacks the placeholder.
    pub fn new(files: &ProcessorFiles, rows: usize, tokenizer: Tokenizer) -> Result<Self> {
        let defaults = StillDefaults {
            size: Size::square(224),
            bare: Size::square,
            filter: Filter::Bicubic,
            crop: false,
            normalize: HALF_NORMALIZE,
        };
        let given = files.image.count("image_seq_length", rows)?;
        if given != rows {
            return Err(files.image.fault(format!(
                "`image_seq_length` is {given}, the model has {rows} rows of features an image"
            )));
        }
        let template = ChatTemplate::new(TEMPLATE, tokenizer.settings().tokens.clone())?;
        let prompt = Prompt::new(tokenizer, template).without_more_tokens();
        prompt.id(IMAGE_TOKEN)?;
        Ok(Self {
            still: Still::read(&files.image, defaults)?,
            image: self::rows(IMAGE_TOKEN, rows)?,
            prompt,
        })
    }
}

impl Processor for PaliGemma {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, "PaliGemma", true, false, false)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let placeholder = Placeholder {
            kind: MediaKind::Image,
            token: IMAGE_TOKEN,
            feature: IMAGE_TOKEN,
            replacements: vec![self.image.clone(); media.images.len()],
        };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        // Tokens of the answer are seen one after the other, those of the prompt all at once.
        let kinds = match inputs.arrays.get("answers").or(inputs.arrays.get("input_ids")).map(|a| &a.values) {
            Some(Values::I64(learnt)) if inputs.arrays.contains_key("answers") => learnt.clone(),
            Some(Values::I64(ids)) => vec![0; ids.len()],
            _ => Vec::new(),
        };
        insert_i64(&mut inputs, "token_type_ids", vec![1, kinds.len()], kinds);
        if !media.images.is_empty() {
            inputs.arrays.insert("pixel_values".into(), self.still.batch(&media.images)?);
            inputs.attach_rows(MediaKind::Image, "pixel_values", Some(&self.still.normalize), |_| None);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.prompt.tokenizer()
    }
}
