//! Qwen3-Omni's thinker: a mixture with Qwen3-VL's eyes and the audio_parts of Qwen3-ASR. Its voice, the talker, is left aside.

use serde_json::json;

use crate::audio::{Qwen3Tower, qwen3_omni_defaults};
use crate::causal::EncoderRun;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::qwen2_5_omni::{AudioEncoder, AudioParts, build, thinker};
use crate::family::{DecoderNames, Model, qwen3_moe, qwen3_vl};
use crate::mixture::Router;
use crate::processor::{ClipLength, QwenVersion};
use crate::vision::QwenTower;
use crate::weights::Weights;

/// A Qwen3-Omni checkpoint, of which the thinker is read.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let c = thinker(c)?;
    let audio = c.section("audio_config", qwen3_omni_defaults())?;
    let prefix = weights.prefix(&["thinker.audio_tower.", "audio_tower."], "conv2d1.weight").to_string();
    let tower = Qwen3Tower::read(&audio, &prefix)?;
    let counted = tower.clone();
    let audio_parts = AudioParts {
        bands: tower.bands,
        out: tower.out,
        length: ClipLength::Longest { samples: 0, frames: 1 },
        rows: Box::new(move |frames| counted.rows(frames)),
    };
    let audio_encoder =
        Box::new(Projected { tower, projector: ["1", "2"].map(|i| format!("{prefix}proj{i}")) });
    build(
        &c,
        weights,
        QwenVersion::Omni3,
        "qwen3_omni_moe_text",
        QwenTower::omni3,
        audio_parts,
        audio_encoder,
    )
}

/// The decoder of the thinker: Qwen3's mixture with a rotation of three axes, in which the chosen experts' weights always add
/// up to one.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 3584, "hidden_size": 2048, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "head_dim": null, "max_position_embeddings": 32768,
        "rope_theta": 1e6, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
    }));
    let mut d = qwen3_vl::text(&c, names)?;
    qwen3_moe::mixtures(&c, &mut d, Router::softmax(true))?;
    Ok(d)
}

/// The tower with the layers behind it.
struct Projected {
    tower: Qwen3Tower,
    projector: [String; 2],
}

impl AudioEncoder for Projected {
    fn encode(&self, weights: &Weights, features: &[f32], deepstack: usize) -> Result<Vec<EncoderRun>> {
        let projector = [&*self.projector[0], &*self.projector[1]];
        self.tower.runs(weights, features, features.len() / self.tower.bands, &projector, deepstack)
    }

    fn extents(&self, frames: usize) -> [usize; 2] {
        [self.tower.rows(frames), self.tower.given(frames)]
    }
}
