//! The families, one file each.

mod bert;
mod clip;
mod deepseek;
mod dinov3;
mod extents;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3_vision;
mod gemma4;
mod gemma4_media;
mod glm4;
mod glm4v;
mod granite;
mod granite_docling;
mod internvl;
mod lfm2;
mod lfm2_vl;
mod llama;
mod llava;
mod llava_next;
mod media;
mod mistral3;
mod paddleocr_vl;
mod paligemma;
mod parakeet;
pub mod percept;
#[cfg(test)]
mod published;
mod qwen2;
mod qwen2_5_omni;
mod qwen2_5_vl;
mod qwen2_audio;
mod qwen2_vl;
mod qwen3;
mod qwen3_5;
mod qwen3_5_moe;
mod qwen3_asr;
mod qwen3_moe;
mod qwen3_omni_moe;
mod qwen3_vl;
mod qwen3_vl_moe;
mod siglip;
mod smolvlm;
mod voxtral;
mod whisper;

use std::sync::Arc;

use serde_json::Value;

use crate::causal::CausalModel;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::contrastive::Contrastive;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::frames::FrameModel;
use crate::image_encoder::ImageEncoder;
use crate::text::TextModel;
use crate::text_encoder::TextEncoder;
use crate::weights::Weights;

pub(crate) use extents::check as check_extents;
pub(crate) use gemma3::parameters as gemma3_rope_parameters;
pub use whisper::Whisper;
pub(crate) use whisper::defaults as whisper_defaults;

/// A model by what it does.
pub enum Model {
    /// Continues a sequence.
    Causal(Box<dyn CausalModel>),
    /// Embeds images and texts in one space.
    Contrastive(Box<Contrastive>),
    /// Embeds images.
    ImageEncoder(Box<ImageEncoder>),
    /// Embeds texts.
    TextEncoder(Box<TextEncoder>),
    /// Transcribes speech.
    Speech(Box<Whisper>),
    /// Transcribes speech row by row of sound.
    Frames(Box<FrameModel>),
}

/// Opens a checkpoint of a family.
type Open = fn(&Config, Weights) -> Result<Model>;

/// Every family by its `model_type`.
const FAMILIES: &[(&str, Open)] = &[
    ("bert", bert::open),
    ("clip", clip::open),
    ("deepseek_v2", text),
    ("deepseek_v3", text),
    ("dinov3_vit", dinov3::open),
    ("gemma", text),
    ("gemma2", text),
    ("gemma3", gemma3_vision::open),
    ("gemma3_text", text),
    ("gemma4", gemma4_media::open),
    ("gemma4_text", text),
    ("glm4", text),
    ("glm46v", glm4v::open_46),
    ("glm4v", glm4v::open),
    ("granite", text),
    ("granite_docling", granite_docling::open),
    ("idefics3", smolvlm::open),
    ("internvl", internvl::open),
    ("lfm2", text),
    ("lfm2_vl", lfm2_vl::open),
    ("llama", text),
    ("llava", llava::open),
    ("llava_next", llava_next::open),
    ("llava_onevision", llava_next::open_one_vision),
    ("mistral", text),
    ("mistral3", mistral3::open),
    ("paddleocr_vl", paddleocr_vl::open),
    ("paligemma", paligemma::open),
    ("parakeet_ctc", parakeet::open),
    ("parakeet_rnnt", parakeet::open_rnnt),
    ("parakeet_tdt", parakeet::open_tdt),
    ("percept", percept::open),
    ("qwen2", text),
    ("qwen2_5_omni", qwen2_5_omni::open),
    ("qwen2_5_omni_thinker", qwen2_5_omni::open),
    ("qwen2_5_vl", qwen2_5_vl::open),
    ("qwen2_audio", qwen2_audio::open),
    ("qwen2_vl", qwen2_vl::open),
    ("qwen3", text),
    ("qwen3_5", qwen3_5::open),
    ("qwen3_5_moe", qwen3_5_moe::open),
    ("qwen3_5_moe_text", text),
    ("qwen3_5_text", text),
    ("qwen3_asr", qwen3_asr::open),
    ("qwen3_moe", text),
    ("qwen3_omni_moe", qwen3_omni_moe::open),
    ("qwen3_omni_moe_thinker", qwen3_omni_moe::open),
    ("qwen3_vl", qwen3_vl::open),
    ("qwen3_vl_moe", qwen3_vl_moe::open),
    ("roberta", bert::open_roberta),
    ("siglip", siglip::open),
    ("siglip2", siglip::open_any_aspect),
    ("smolvlm", smolvlm::open),
    ("voxtral", voxtral::open),
    ("whisper", whisper::open),
    ("xlm-roberta", bert::open_roberta),
];

/// A decoder alone.
fn text(config: &Config, weights: Weights) -> Result<Model> {
    let decoder = decoder(config, &DecoderNames::find(&weights, &["model.", ""], &["lm_head.weight"]))?;
    Ok(Model::Causal(Box::new(TextModel::new(decoder, weights)?)))
}

/// Reads a decoder's configuration.
type ReadDecoder = fn(&Config, &DecoderNames) -> Result<Decoder>;

/// Every decoder by its `model_type`, alone or as the text part of another family.
const DECODERS: &[(&str, ReadDecoder)] = &[
    ("deepseek_v2", deepseek::v2),
    ("deepseek_v3", deepseek::v3),
    ("gemma", gemma::decoder),
    ("gemma2", gemma2::decoder),
    ("gemma3_text", gemma3::decoder),
    ("gemma4_text", gemma4::decoder),
    ("glm4", glm4::decoder),
    ("glm4v_text", glm4::multimodal),
    ("granite", granite::decoder),
    ("granite_docling_text", granite_docling::text),
    ("lfm2", lfm2::decoder),
    ("llama", llama::decoder),
    ("mistral", llama::mistral),
    ("paddleocr_vl_text", paddleocr_vl::text),
    ("qwen2", qwen2::decoder),
    ("qwen2_5_omni_text", qwen2_5_omni::text),
    ("qwen2_5_vl_text", qwen2_vl::text),
    ("qwen2_vl_text", qwen2_vl::text),
    ("qwen3", qwen3::decoder),
    ("qwen3_5_moe_text", qwen3_5_moe::text),
    ("qwen3_5_text", qwen3_5::text),
    ("qwen3_moe", qwen3_moe::decoder),
    ("qwen3_omni_moe_text", qwen3_omni_moe::text),
    ("qwen3_vl_moe_text", qwen3_vl_moe::text),
    ("qwen3_vl_text", qwen3_vl::text),
];

/// The families that are known, by their `model_type`.
pub fn family_names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.0)
}

/// The model of a checkpoint.
///
/// # Errors
/// When the family is unknown (naming those that are known), or the configuration and the tensors do not fit.
pub fn open(checkpoint: Arc<Checkpoint>) -> Result<Model> {
    open_weights(Weights::new(checkpoint))
}

/// The model of a checkpoint's weights, an adapter's among them.
///
/// # Errors
/// As [`open`].
pub fn open_weights(weights: Weights) -> Result<Model> {
    let config = Config::new("config.json", weights.checkpoint().config(), Value::Null)?;
    refuse_packed(&config)?;
    extents::check(weights.checkpoint())?;
    let model_type = config.text("model_type")?;
    if weights.checkpoint().is_projector() {
        return Err(Error::Content {
            file: weights.checkpoint().path().display().to_string(),
            why: "it is the projector of a pair of GGUF files; open the text model's file, beside which this one is found \
                  by its name, or is given with --mmproj"
                .into(),
        });
    }
    let found = FAMILIES.iter().find(|f| f.0 == model_type).ok_or_else(|| unknown(model_type, FAMILIES))?;
    // Some architectures of GGUF files are called like families.
    if let Some(name) = weights.checkpoint().untranslated() {
        return Err(Error::Content {
            file: weights.checkpoint().path().display().to_string(),
            why: format!(
                "models of the architecture '{name}' are not read from GGUF files; take the folder that it was made of"
            ),
        });
    }
    found.1(&config, weights)
}

/// The decoder that a configuration describes by its `model_type`, with its parameters under these names.
///
/// # Errors
/// When no decoder has this type, or a value is missing or impossible.
pub fn decoder(config: &Config, names: &DecoderNames) -> Result<Decoder> {
    let model_type = config.text("model_type")?;
    let found = DECODERS.iter().find(|f| f.0 == model_type).ok_or_else(|| unknown(model_type, DECODERS))?;
    found.1(config, names)
}

/// Refuses weights that a method of quantization has packed in a way of its own.
fn refuse_packed(config: &Config) -> Result<()> {
    let Some(method) = config.get("quantization_config") else { return Ok(()) };
    let method = method.get("quant_method").and_then(Value::as_str).unwrap_or("of no known method");
    let why = format!(
        "is there: weights packed by '{method}' are not read; take the checkpoint that was quantized, or a GGUF of it"
    );
    Err(config.error("quantization_config", &why))
}

fn unknown<T>(model_type: &str, table: &[(&str, T)]) -> Error {
    let known: Vec<&str> = table.iter().map(|f| f.0).collect();
    Error::UnknownFamily { model_type: model_type.to_string(), known: known.join(", ") }
}

/// The names of a decoder's parameters in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderNames {
    /// Prefix of `embed_tokens`, `layers` and `norm`, with its dot.
    pub model: String,
    /// The head's matrix.
    pub head: String,
}

impl DecoderNames {
    /// The first of several prefixes that holds a table, and the first head that is in the file. Without one
    /// the table is the head: what the file holds decides, because `tie_word_embeddings` may disagree with
    /// itself.
    pub fn find(weights: &Weights, models: &[&str], heads: &[&str]) -> Self {
        let model = weights.prefix(models, "embed_tokens.weight").to_string();
        let head = heads.iter().find(|h| weights.has(h)).map(|h| h.to_string());
        Self { head: head.unwrap_or_else(|| format!("{model}embed_tokens.weight")), model }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packed_weights_are_refused_by_the_name_of_their_method() {
        let of = |file: Value| refuse_packed(&Config::new("config.json", &file, json!({})).unwrap());
        assert!(of(json!({ "quantization_config": null })).is_ok());
        let e = of(json!({ "quantization_config": { "quant_method": "gptq" } })).unwrap_err().to_string();
        assert!(e.starts_with("config.json: 'quantization_config'") && e.contains("'gptq'"), "{e}");
    }
}
