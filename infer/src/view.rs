//! The input of a model: the rendered prompt, its tokens, and for each medium its position and the numbers made of it.
//! Two runs with equal views gave the same model the same input.

use std::ops::Range;

use percept_modalities::image::Image;
use percept_modalities::text::Tokenizer;
use percept_modalities::{Array, ArrayPart, Grid, Inputs, Media, MediaKind, Message, Shown, Values};
use percept_model::family::Whisper;

use percept_model::{CausalModel, Contrastive, FrameModel, ImageEncoder, ImagePreparation, TextEncoder};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::transcribe::{Task, TranscribeOptions};

/// The input of a model, as one JSON document.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// The conversation as the chat template writes it, before placeholders are repeated; for models without a template
    /// the text itself.
    pub prompt: String,
    /// Every token of the sequence.
    pub tokens: Vec<Token>,
    /// The media in the order of the prompt.
    pub media: Vec<Medium>,
    /// All arrays of the inputs, whole, by name.
    pub tensors: Vec<Tensor>,
    /// What is not shown, and why.
    pub notes: Vec<String>,
    /// What previews are made of.
    #[serde(skip)]
    inputs: Inputs,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Token {
    /// Its id.
    pub id: i64,
    /// The vocabulary's spelling of it; `None` for an id that the vocabulary lacks.
    pub piece: Option<String>,
}

/// A medium of the prompt. Fields that a kind of medium does not have are `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Medium {
    /// `image`, `video` or `audio`.
    pub kind: &'static str,
    /// Tokens from its first placeholder to behind its last; `None` for models that keep media out of the sequence.
    pub range: Option<[usize; 2]>,
    /// Placeholders in the range: rows of features.
    pub features: usize,
    /// The extents of what it is cut into, in time (where there is one), height and width.
    pub grid: Option<Vec<usize>>,
    /// What the grid counts: `patches`, `tiles` or `features`.
    pub grid_of: Option<&'static str>,
    /// Indices of a video's sampled frames, in order of presentation.
    pub frames: Option<Vec<usize>>,
    /// Seconds at which these frames are shown.
    pub times: Option<Vec<f64>>,
    /// Width and height of the image, or of a frame, before it is resized.
    pub size: Option<[usize; 2]>,
    /// Seconds of the audio, or of the video.
    pub seconds: Option<f64>,
    /// Its own part of each array.
    pub tensors: Vec<Tensor>,
    #[serde(skip)]
    parts: Vec<ArrayPart>,
}

/// An array, and the SHA-256 of its values: row-major, little-endian, f32 or i64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// The name that transformers gives it.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// `f32` or `i64`.
    pub dtype: &'static str,
    /// In lower-case hexadecimal.
    pub sha256: String,
}

impl Tensor {
    /// The description of an array.
    pub fn of(name: &str, shape: &[usize], values: &Values) -> Self {
        let mut hash = Sha256::new();
        let dtype = match values {
            Values::F32(values) => {
                values.iter().for_each(|v| hash.update(v.to_le_bytes()));
                "f32"
            }
            Values::I64(values) => {
                values.iter().for_each(|v| hash.update(v.to_le_bytes()));
                "i64"
            }
        };
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name: name.into(), shape: shape.to_vec(), dtype, sha256 }
    }
}

impl View {
    /// The input of a language model for a conversation.
    ///
    /// # Errors
    /// When its processor refuses the conversation.
    pub fn of_chat(model: &dyn CausalModel, messages: &[Message], media: &Media) -> Result<Self> {
        let inputs = model.processor().chat(messages, media)?;
        Ok(Self::of_inputs(inputs, media, model.processor().tokenizer()))
    }

    /// The input of CLIP or SigLIP: texts one after the other, each padded to the model's length, and images.
    ///
    /// # Errors
    /// When a text or an image cannot be prepared.
    pub fn of_contrastive(model: &Contrastive, texts: &[String], images: &[Image]) -> Result<Self> {
        let mut inputs = Inputs { prompt: texts.join("\n"), ..Inputs::default() };
        if !texts.is_empty() {
            inputs.arrays.insert("input_ids".into(), model.tokens(texts)?);
        }
        if !images.is_empty() {
            inputs.arrays.extend(model.prepare(images)?);
        }
        inputs.shown = (0..images.len()).map(|index| outside(MediaKind::Image, index)).collect();
        let grid = |i: usize| {
            let extents = match (&model.images, images.get(i)) {
                (ImagePreparation::NaFlex(naflex), Some(image)) => naflex.grid(image.height, image.width),
                _ => [model.vision.side(); 2],
            };
            Some(Grid { of: "patches", extents: extents.to_vec() })
        };
        let pixels = match &model.images {
            ImagePreparation::Still(still) => Some(&still.normalize),
            ImagePreparation::NaFlex(_) => None,
        };
        inputs.attach_rows(MediaKind::Image, "pixel_values", pixels, grid);
        let media = Media { images: images.to_vec(), ..Media::default() };
        Ok(Self::of_inputs(inputs, &media, &model.tokenizer))
    }

    /// The input of an encoder of images.
    ///
    /// # Errors
    /// When an image cannot be prepared.
    pub fn of_image_encoder(model: &ImageEncoder, images: &[Image]) -> Result<Self> {
        let pixels = model.prepare(images)?;
        let grid = model.grid(&pixels);
        let shown = (0..images.len()).map(|index| outside(MediaKind::Image, index)).collect();
        let mut inputs = Inputs { shown, ..Inputs::default() };
        inputs.arrays.insert("pixel_values".into(), pixels);
        let grid = |_| Some(Grid { of: "patches", extents: grid.to_vec() });
        inputs.attach_rows(MediaKind::Image, "pixel_values", Some(&model.still.normalize), grid);
        let media = Media { images: images.to_vec(), ..Media::default() };
        Ok(Self::of_arrays(inputs, &media, None))
    }

    /// The input of an encoder of texts for one text.
    ///
    /// # Errors
    /// When it cannot be cut into tokens.
    pub fn of_text_encoder(model: &TextEncoder, text: &str) -> Result<Self> {
        let ids: Vec<i64> = model.tokens(text)?.into_iter().map(i64::from).collect();
        let mut inputs = Inputs { prompt: format!("{}{text}", model.instruction), ..Inputs::default() };
        inputs
            .arrays
            .insert("input_ids".into(), Array { dims: vec![1, ids.len()], values: Values::I64(ids) });
        Ok(Self::of_inputs(inputs, &Media::default(), &model.tokenizer))
    }

    /// The input of Whisper for the first window of an audio file.
    ///
    /// # Errors
    /// When the audio cannot be prepared, or the options do not fit the model.
    pub fn of_speech(model: &Whisper, media: &Media, options: &TranscribeOptions) -> Result<Self> {
        let [audio] = &media.audios[..] else {
            return Err(Error::Setting(format!(
                "this model transcribes one audio file at a time, and {} were given",
                media.audios.len()
            )));
        };
        let task = Task::new(model, options)?;
        let mut notes = Vec::new();
        let ids = task.opening().unwrap_or_else(|| {
            notes.push(
                "the tokens of the language and the task follow the first token: the model detects \
                        the language from that one alone"
                    .into(),
            );
            vec![task.first()]
        });
        let features = model.features();
        let window = features.samples();
        if audio.samples.len() > window {
            notes.push(format!(
                "only the first {} s are shown: where the next window starts depends on the transcript of this one",
                features.seconds()
            ));
        }
        let shown = percept_modalities::audio::Waveform {
            samples: audio.samples[..audio.samples.len().min(window)].to_vec(),
            rate: audio.rate,
        };
        let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
        let pieces = ids.iter().filter_map(|&id| model.tokenizer().token(u32::try_from(id).ok()?));
        let mut inputs = Inputs { prompt: pieces.collect(), ..Inputs::default() };
        inputs.arrays.insert("input_features".into(), features.features(&shown)?);
        inputs
            .arrays
            .insert("decoder_input_ids".into(), Array { dims: vec![1, ids.len()], values: Values::I64(ids) });
        inputs.shown = vec![outside(MediaKind::Audio, 0)];
        inputs.attach_rows(MediaKind::Audio, "input_features", None, |_| None);
        let mut view = Self::of_inputs(inputs, media, model.tokenizer());
        view.notes = notes;
        Ok(view)
    }

    /// The view of a clip that a model of frames transcribes.
    ///
    /// # Errors
    /// When there is not one clip, or it is too short.
    pub fn of_frames(model: &FrameModel, media: &Media) -> Result<Self> {
        let [audio] = &media.audios[..] else {
            return Err(Error::Setting(format!(
                "this model transcribes one audio file at a time, and {} were given",
                media.audios.len()
            )));
        };
        let features = model.features.features(audio)?;
        let (frames, heard) = (features.dims[1], model.features.heard(audio.samples.len()));
        let mask = (0..frames).map(|frame| i64::from(frame < heard)).collect();
        let mut inputs = Inputs::default();
        inputs.arrays.insert("input_features".into(), features);
        inputs
            .arrays
            .insert("attention_mask".into(), Array { dims: vec![1, frames], values: Values::I64(mask) });
        inputs.shown = vec![outside(MediaKind::Audio, 0)];
        inputs.attach_rows(MediaKind::Audio, "input_features", None, |_| None);
        Ok(Self::of_inputs(inputs, media, &model.tokenizer))
    }

    /// The view of inputs that are prepared.
    pub fn of_inputs(inputs: Inputs, media: &Media, tokenizer: &Tokenizer) -> Self {
        Self::of_arrays(inputs, media, Some(tokenizer))
    }

    /// The same of a model that may read no tokens.
    fn of_arrays(inputs: Inputs, media: &Media, tokenizer: Option<&Tokenizer>) -> Self {
        let ids = ["input_ids", "decoder_input_ids"].iter().find_map(|name| inputs.arrays.get(*name));
        let ids: &[i64] = match ids.map(|a| &a.values) {
            Some(Values::I64(ids)) => ids,
            _ => &[],
        };
        let piece = |id: i64| tokenizer?.token(u32::try_from(id).ok()?);
        let token = |&id: &i64| Token { id, piece: piece(id) };
        Self {
            prompt: inputs.prompt.clone(),
            tokens: ids.iter().map(token).collect(),
            media: inputs.shown.iter().map(|shown| Medium::of(shown, &inputs, media)).collect(),
            tensors: inputs.arrays.iter().map(|(name, a)| Tensor::of(name, &a.dims, &a.values)).collect(),
            notes: Vec::new(),
            inputs,
        }
    }

    /// The inputs themselves.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The inputs themselves, without the view.
    pub fn into_inputs(self) -> Inputs {
        self.inputs
    }

    /// A medium as the model sees it, by its index in [`View::media`]: images, tiles or frames, made of the very
    /// numbers that the model reads. Audio has none.
    pub fn images(&self, medium: usize) -> Vec<Image> {
        let parts = self.media.get(medium).map_or(&[][..], |m| &m.parts);
        parts.iter().flat_map(|part| self.inputs.images_of(part)).collect()
    }
}

impl Medium {
    fn of(shown: &Shown, inputs: &Inputs, media: &Media) -> Self {
        let Range { start, end } = shown.range;
        let clip = media.videos.get(shown.index).filter(|_| shown.kind == MediaKind::Video);
        let audio = media.audios.get(shown.index).filter(|_| shown.kind == MediaKind::Audio);
        let image = match shown.kind {
            MediaKind::Image => media.images.get(shown.index),
            MediaKind::Video => clip.and_then(|c| c.frames.first()),
            MediaKind::Audio => None,
        };
        let tensor = |part: &ArrayPart| Some(Tensor::of(&part.array, &part.dims, &inputs.part(part)?));
        Self {
            kind: shown.kind.name(),
            range: (end > start).then_some([start, end]),
            features: shown.features,
            grid: shown.grid.as_ref().map(|g| g.extents.clone()),
            grid_of: shown.grid.as_ref().map(|g| g.of),
            frames: clip.map(|c| c.indices.clone()),
            times: clip.map(|c| c.times.clone()),
            size: image.map(|p| [p.width, p.height]),
            seconds: audio
                .map(|s| s.samples.len() as f64 / f64::from(s.rate))
                .or_else(|| clip.map(percept_modalities::video::Clip::seconds)),
            tensors: shown.parts.iter().filter_map(tensor).collect(),
            parts: shown.parts.clone(),
        }
    }
}

/// A medium that has no placeholders among the tokens.
fn outside(kind: MediaKind, index: usize) -> Shown {
    Shown { kind, index, range: 0..0, features: 0, grid: None, parts: Vec::new() }
}
