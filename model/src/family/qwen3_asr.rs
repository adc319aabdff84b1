//! Qwen3-ASR: the audio tower of Qwen3-Omni and a Qwen3 decoder, which answers `language X<asr_text>...`.

use percept_modalities::Inputs;
use serde_json::json;

use crate::audio::{Qwen3Tower, qwen3_asr_defaults};
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, token};
use crate::family::{DecoderNames, Model, decoder};
use crate::processor::{ClipLength, Sound, SoundPrompt};
use crate::vision::{floats, integers};
use crate::weights::Weights;

/// A Qwen3-ASR checkpoint: those of transformers, or the first ones, which have all of it under `thinker`.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let thinker = c.get("thinker_config").is_some();
    let c = if thinker { c.section("thinker_config", json!({}))? } else { c.clone() };
    let text = c.section(
        "text_config",
        json!({
            "model_type": "qwen3", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 65536,
        }),
    )?;
    let models = ["model.language_model.", "thinker.model."];
    let names = DecoderNames::find(&weights, &models, &["lm_head.weight", "thinker.lm_head.weight"]);
    let decoder = decoder(&text, &names)?;

    let audio = c.section("audio_config", qwen3_asr_defaults())?;
    let prefix =
        weights.prefix(&["model.audio_tower.", "thinker.audio_tower."], "conv2d1.weight").to_string();
    let tower = Qwen3Tower::read(&audio, &prefix)?;
    if tower.out != decoder.hidden {
        return Err(audio
            .error("output_dim", &format!("is {}, the decoder's rows have {}", tower.out, decoder.hidden)));
    }
    let projector = match weights.has("model.multi_modal_projector.linear_1.weight") {
        true => ["1", "2"].map(|i| format!("model.multi_modal_projector.linear_{i}")),
        false => ["1", "2"].map(|i| format!("{prefix}proj{i}")),
    };

    let (files, prompt) = (processor_files(&weights)?, prompt(&weights)?);
    let spoken = prompt.token("audio_token", "<|audio_pad|>");
    prompt.id(&spoken)?;
    let features = Sound::extractor(&files)?;
    if features.bands() != tower.bands {
        let why = format!("is {}, the feature extractor gives {} bands", tower.bands, features.bands());
        return Err(audio.error("num_mel_bins", &why));
    }
    let length = ClipLength::Longest {
        samples: files.audio.get("min_length", 8000)?,
        frames: files.audio.get("n_window", tower.chunk / 2)?.max(1).saturating_mul(2).min(1 << 16),
    };
    let counted = tower.clone();
    let mask = if thinker { "feature_attention_mask" } else { "input_features_mask" };
    let rows = Box::new(move |frames| counted.rows(frames));
    let sound = Sound { features, token: spoken, mask, length, rows };
    let processor = Box::new(SoundPrompt { model: "Qwen3-ASR", prompt, sound });
    let hearing = Hearing { tower, projector, mask, token: token(&c, "audio", 151_676)? };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor, reader: hearing })))
}

/// Turns clips of sound into features.
struct Hearing {
    tower: Qwen3Tower,
    /// The layers behind it.
    projector: [String; 2],
    /// The array that tells frames from padding.
    mask: &'static str,
    /// The placeholder of a row of features.
    token: i32,
}

impl Hearing {
    /// Frames of each clip that are heard.
    fn frames(&self, inputs: &Inputs) -> Result<Vec<usize>> {
        let Some(([_, frames], mask)) = integers::<2>(inputs, self.mask)? else { return Ok(Vec::new()) };
        Ok(mask.chunks_exact(frames.max(1)).map(|m| m.iter().filter(|&&m| m != 0).count()).collect())
    }

    /// For each row of features the row among all that the runs give: windows are whole.
    fn places(&self, inputs: &Inputs) -> Result<Vec<usize>> {
        let (mut places, mut start) = (Vec::new(), 0);
        for frames in self.frames(inputs)? {
            places.extend(start..start + self.tower.rows(frames));
            start += self.tower.given(frames);
        }
        Ok(places)
    }
}

impl Reader for Hearing {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([n, bands, all], features)) = floats(inputs, "input_features")? else {
            return Ok(Vec::new());
        };
        let frames = self.frames(inputs)?;
        if n != frames.len() || bands != self.tower.bands || all == 0 {
            return Err(Error::Inputs(format!(
                "input_features are {:?}, the model reads {:?} with {}",
                [n, bands, all],
                [frames.len(), self.tower.bands],
                self.mask
            )));
        }
        let projector = [&*self.projector[0], &*self.projector[1]];
        let run = |(clip, &frames): (&[f32], &usize)| self.tower.runs(weights, clip, frames, &projector, 0);
        let runs = features.chunks_exact(bands * all).zip(&frames).map(run).collect::<Result<Vec<_>>>()?;
        Ok(runs.into_iter().flatten().collect())
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let places = self.places(inputs)?;
        let mut layout = Layout::with_features(inputs, places.len(), |id| id == self.token)?;
        layout.features.iter_mut().flatten().for_each(|slot| *slot = places[*slot]);
        Ok(layout)
    }
}
