//! Sound in prompts: clips become log-mel features with a mask, and a placeholder for each row of features.

use percept_modalities::audio::{LogMel, Waveform};
use percept_modalities::text::Tokenizer;
use percept_modalities::{
    Aim, Array, ArrayPart, Inputs, Media, MediaKind, Message, Processor, Result, Values,
};
use serde_json::{Map, json};

use super::prompt::{Placeholder, Prompt, insert_i64, refuse, rows};
use super::settings::ProcessorFiles;

/// How long the features of a clip are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipLength {
    /// Clips are cut or padded to what the feature extractor says.
    Fixed,
    /// Clips are padded to the longest of the prompt.
    Longest {
        /// Samples of the shortest clip, to which others are padded.
        samples: usize,
        /// Zeros follow up to a multiple of so many frames.
        frames: usize,
    },
}

/// What makes features of a family's audio clips.
pub struct Sound {
    /// The feature extractor.
    pub features: LogMel,
    /// The token that stands for a clip in a rendered prompt, and for each of its rows.
    pub token: String,
    /// The name of the array that tells frames from padding.
    pub mask: &'static str,
    /// How long the features of a clip are.
    pub length: ClipLength,
    /// Rows of features of so many frames.
    pub rows: Box<dyn Fn(usize) -> usize + Send + Sync>,
}

/// The clips of a prompt.
#[derive(Default)]
pub struct Heard {
    features: Vec<f32>,
    mask: Vec<i64>,
    clips: usize,
    frames: usize,
    /// What stands for each clip in the prompt.
    pub replacements: Vec<String>,
}

impl Sound {
    /// The extractor of 128 bands that a checkpoint's files describe.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn extractor(files: &ProcessorFiles) -> Result<LogMel> {
        let defaults = Map::from_iter([("feature_size".to_string(), json!(128))]);
        LogMel::from_json(files.audio.file(), &files.audio.json(defaults))
    }

    /// The features of clips.
    ///
    /// # Errors
    /// When a clip has another rate, or is too short.
    pub fn hear(&self, clips: &[Waveform]) -> Result<Heard> {
        let mut heard = Heard { clips: clips.len(), ..Heard::default() };
        let longest = clips.iter().map(|clip| clip.samples.len()).max().unwrap_or(0);
        for clip in clips {
            let (array, samples, multiple) = match self.length {
                ClipLength::Fixed => (self.features.features(clip)?, clip.samples.len(), 1),
                ClipLength::Longest { samples, frames } => (
                    self.features.whole(clip, longest.max(samples))?,
                    clip.samples.len().max(samples),
                    frames.max(1),
                ),
            };
            let (own, all) = (array.dims[2], array.dims[2].next_multiple_of(multiple));
            if let Values::F32(values) = array.values {
                for band in values.chunks_exact(own.max(1)) {
                    heard.features.extend_from_slice(band);
                    heard.features.resize(heard.features.len() + all - own, 0.0);
                }
            }
            let valid = self.features.heard(samples).min(own);
            heard.mask.extend((0..all).map(|frame| i64::from(frame < valid)));
            heard.replacements.push(rows(&self.token, (self.rows)(valid))?);
            heard.frames = all;
        }
        Ok(heard)
    }

    /// The placeholders of clips.
    pub fn placeholder(&self, heard: &Heard) -> Placeholder<'_> {
        let replacements = heard.replacements.clone();
        Placeholder { kind: MediaKind::Audio, token: &self.token, feature: &self.token, replacements }
    }

    /// Adds the arrays of clips.
    pub fn insert(&self, heard: Heard, inputs: &mut Inputs) {
        let (n, bands, frames) = (heard.clips, self.features.bands(), heard.frames);
        if n == 0 {
            return;
        }
        let features = Array { dims: vec![n, bands, frames], values: Values::F32(heard.features) };
        inputs.arrays.insert("input_features".into(), features);
        insert_i64(inputs, self.mask, vec![n, frames], heard.mask);
        for index in 0..n {
            let part = |array: &str, dims: Vec<usize>| ArrayPart {
                array: array.into(),
                start: index * dims.iter().product::<usize>(),
                dims,
                pixels: None,
            };
            let parts =
                vec![part("input_features", vec![1, bands, frames]), part(self.mask, vec![1, frames])];
            inputs.attach(MediaKind::Audio, index, None, parts);
        }
    }
}

/// The processor of a model that takes text and sound alone.
pub struct SoundPrompt {
    /// What the model is called in errors.
    pub model: &'static str,
    /// Its prompts.
    pub prompt: Prompt,
    /// Its sound.
    pub sound: Sound,
}

impl Processor for SoundPrompt {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs> {
        refuse(media, self.model, false, false, true)?;
        let heard = self.sound.hear(&media.audios)?;
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let mut inputs = self.prompt.encode(&text, &[self.sound.placeholder(&heard)])?;
        self.sound.insert(heard, &mut inputs);
        Ok(inputs)
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.prompt.tokenizer()
    }

    fn audio_rate(&self) -> Option<u32> {
        Some(self.sound.features.rate())
    }
}
