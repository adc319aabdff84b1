//! Qwen2-Audio: Whisper's encoder, pairs of its rows averaged before the last norm, and a Qwen2 decoder.

use percept_graph::{HostTensor, PoolKind};
use percept_modalities::Inputs;
use serde_json::json;

use crate::audio::AudioTower;
use crate::block::Context;
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, text_config, token};
use crate::family::{DecoderNames, Model, decoder};
use crate::processor::{ClipLength, Sound, SoundPrompt};
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
    let (files, prompt) = (processor_files(&weights)?, prompt(&weights)?);
    let usual: String = files.processor.get("audio_token", "<|AUDIO|>".into())?;
    let spoken = prompt.token("audio_token", &usual);
    prompt.id(&spoken)?;
    let sound = Sound {
        features: Sound::extractor(&files)?,
        token: spoken,
        mask: "feature_attention_mask",
        length: ClipLength::Fixed,
        rows: Box::new(|frames| lengths(frames).1),
    };
    tower.check(&sound.features)?;
    let processor = SoundPrompt { model: "Qwen2-Audio", prompt, sound };
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
