//! Qwen2-Audio: Whisper's encoder, pairs of its rows averaged before the last norm, and a Qwen2 decoder.

use percept_graph::{HostTensor, PoolKind};
use percept_modalities::audio::LogMel;
use percept_modalities::{Aim, Array, ArrayPart, Inputs, Media, MediaKind, Message, Processor, Values};
use serde_json::{Map, json};

use crate::audio_tower::AudioTower;
use crate::block::Context;
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, text_config, token};
use crate::family::{DecoderNames, Model, decoder};
use crate::processor::{Placeholder, ProcessorFiles, Prompt, insert_i64, refuse, rows};
use crate::vision::{encoder_run, floats, integers};
use crate::weights::Weights;

/// A Qwen2-Audio checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let audio = c.section(
        "audio_config",
        json!({
            "num_mel_bins": 128, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
            "d_model": 1280,
        }),
    )?;
    let tower = weights.prefix(&["audio_tower.", "model.audio_tower."], "conv1.weight");
    let mut tower = AudioTower::read(&audio, tower)?;
    tower.stack.blocks.iter_mut().for_each(|b| b.attention.segments = Some(0));
    let projectors = ["multi_modal_projector.linear", "model.multi_modal_projector.linear"];
    let projector = weights.prefix(&projectors, ".weight").to_string();
    let models = ["language_model.model.", "model.language_model.", "language_model."];
    let names = DecoderNames::find(&weights, &models, &["language_model.lm_head.weight", "lm_head.weight"]);
    let decoder = decoder(&text_config(c, "qwen2")?, &names)?;
    let processor = AudioProcessor::read(&processor_files(&weights)?, prompt(&weights)?)?;
    tower.check(&processor.features)?;
    let reader = AudioReader { tower, projector, hidden: decoder.hidden, token: token(c, "audio", 151_646)? };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

/// The tower's rows for so many frames of audio, before and after pairs are averaged.
fn lengths(frames: usize) -> (usize, usize) {
    let rows = frames.div_ceil(2);
    (rows, rows / 2)
}

/// Turns each audio clip into features: rows of the tower, without those of the padding, through the
/// projector.
struct AudioReader {
    tower: AudioTower,
    projector: String,
    /// Width of the features.
    hidden: usize,
    token: i32,
}

impl AudioReader {
    /// The frames of each audio clip that are not padding.
    fn valid_frames(&self, inputs: &Inputs) -> Result<Vec<usize>> {
        let Some(([_, frames], mask)) = integers::<2>(inputs, "feature_attention_mask")? else {
            return Ok(Vec::new());
        };
        if frames != self.tower.frames() {
            let why =
                format!("feature_attention_mask has {frames} frames, the tower {}", self.tower.frames());
            return Err(Error::Inputs(why));
        }
        Ok(mask.chunks_exact(frames).map(|m| m.iter().filter(|&&m| m != 0).count()).collect())
    }
}

impl Reader for AudioReader {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some((dims, features)) = floats::<3>(inputs, "input_features")? else { return Ok(Vec::new()) };
        let (valid, tower) = (self.valid_frames(inputs)?, &self.tower);
        let expected = [valid.len(), tower.bands, tower.frames()];
        if dims != expected {
            return Err(Error::Inputs(format!("input_features are {dims:?}, the model reads {expected:?}")));
        }
        let run = |(&frames, features): (&usize, &[f32])| {
            // Audio attends to itself alone; the rows of the padding are never read.
            let segments: Vec<i32> = (0..tower.rows).map(|r| i32::from(r >= lengths(frames).0)).collect();
            let arguments = vec![
                ("input_features", HostTensor::from_f32([1, tower.bands, tower.frames()], features)?),
                ("segments", HostTensor::from_i32([1, tower.rows], &segments)?),
            ];
            encoder_run("qwen2_audio", weights, arguments, |p, x| {
                let cx = Context { segments: vec![x[1].clone()], ..Context::default() };
                let rows = tower.trace(p, &x[0], &cx).transpose([0, 2, 1]);
                let pairs = rows.pool(PoolKind::Avg, [2], [2]).transpose([0, 2, 1]);
                let pairs = tower.normalize(p, &pairs).reshape([tower.rows / 2, tower.hidden]);
                vec![("features".into(), p.linear(&pairs, &self.projector, self.hidden, true, None))]
            })
        };
        valid.iter().zip(features.chunks_exact(tower.bands * tower.frames())).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let valid = self.valid_frames(inputs)?;
        // Each run gives the features of a whole window, of which the first are read.
        let rows: Vec<usize> = (valid.iter().enumerate())
            .flat_map(|(i, &frames)| (0..lengths(frames).1).map(move |r| i * (self.tower.rows / 2) + r))
            .collect();
        let mut layout = Layout::with_features(inputs, rows.len(), |id| id == self.token)?;
        for slot in layout.features.iter_mut().flatten() {
            *slot = rows[*slot];
        }
        Ok(layout)
    }
}

/// The processor of Qwen2-Audio: prompts with a placeholder for each feature row of every audio clip.
struct AudioProcessor {
    prompt: Prompt,
    features: LogMel,
    token: String,
}

impl AudioProcessor {
    fn read(files: &ProcessorFiles, prompt: Prompt) -> Result<Self> {
        let defaults = Map::from_iter([("feature_size".to_string(), json!(128))]);
        let features = LogMel::from_json(files.audio.file(), &files.audio.json(defaults))?;
        let usual: String = files.processor.get("audio_token", "<|AUDIO|>".into())?;
        let token = prompt.token("audio_token", &usual);
        prompt.id(&token)?;
        Ok(Self { prompt, features, token })
    }
}

impl Processor for AudioProcessor {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> percept_modalities::Result<Inputs> {
        refuse(media, "Qwen2-Audio", false, false, true)?;
        let (n, bands, frames) = (media.audios.len(), self.features.bands(), self.features.frames());
        let (mut features, mut mask, mut replacements) = (Vec::new(), Vec::new(), Vec::new());
        for audio in &media.audios {
            if let Array { values: Values::F32(values), .. } = self.features.features(audio)? {
                features.extend(values);
            }
            if let Array { values: Values::I64(values), .. } = self.features.mask(audio.samples.len()) {
                let valid = values.iter().filter(|&&m| m != 0).count();
                replacements.push(rows(&self.token, lengths(valid).1)?);
                mask.extend(values);
            }
        }
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let (kind, token) = (MediaKind::Audio, &self.token);
        let placeholder = Placeholder { kind, token, feature: token, replacements };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        if n > 0 {
            let features = Array { dims: vec![n, bands, frames], values: Values::F32(features) };
            inputs.arrays.insert("input_features".into(), features);
            insert_i64(&mut inputs, "feature_attention_mask", vec![n, frames], mask);
            for index in 0..n {
                let part = |array: &str, dims: Vec<usize>| ArrayPart {
                    array: array.into(),
                    start: index * dims.iter().product::<usize>(),
                    dims,
                    pixels: None,
                };
                let parts = vec![
                    part("input_features", vec![1, bands, frames]),
                    part("feature_attention_mask", vec![1, frames]),
                ];
                inputs.attach(kind, index, None, parts);
            }
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &percept_modalities::text::Tokenizer {
        self.prompt.tokenizer()
    }

    fn audio_rate(&self) -> Option<u32> {
        Some(self.features.rate())
    }
}
