//! A new model: random parameters and the files beside them.

use std::collections::BTreeMap;
use std::path::Path;

use percept_graph::{DType, HostTensor, Role, TensorType, Trace};
use percept_modalities::text::Tokenizer;
use serde_json::{Value, json};

use super::decoder;
use super::senses::{Sense, Senses};
use crate::checkpoint;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::family::DecoderNames;
use crate::parameters::{AllF32, Parameters};
use crate::pass::PassShape;
use crate::processor::NATIVE_TOKENS;
use crate::random::normal;

/// Special tokens that a tokenizer of the family has, in the order of their ids in a new one.
pub const SPECIAL_TOKENS: [&str; 8] =
    ["<|pad|>", ANSWER, END, NATIVE_TOKENS[0], NATIVE_TOKENS[1], NATIVE_TOKENS[2], "<|user|>", "<|system|>"];
const ANSWER: &str = "<|assistant|>";
const END: &str = "<|end|>";

/// Turns in order, an answer with its end.
const TEMPLATE: &str = "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}\
{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}\
{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}{{ '<|' + c['type'] + '|>' }}{% endif %}{% endfor %}{% endif %}\
{% if m['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// Deviation of the table's rows; [`EMBEDDING_SCALE`] brings them to the size of media features.
const TABLE_STD: f64 = 0.02;
/// Deviation of what is added to media features for their places. At 0.02 images are not learnt.
const POSITION_STD: f64 = 0.3;
const EMBEDDING_SCALE: f64 = 10.0;

/// Write a new checkpoint to the folder `out`: random parameters, `config.json`, the tokenizer, the
/// processor's settings and the chat template. `settings` are keys of config.json in place of their defaults;
/// the vocabulary and the ids of special tokens follow from the tokenizer. The same seed gives the same
/// bytes.
///
/// # Errors
/// When a setting is impossible, the tokenizer is damaged or lacks one of [`SPECIAL_TOKENS`], or something is
/// at `out`.
pub fn initial(settings: &Value, tokenizer_json: &[u8], seed: u64, out: &Path) -> Result<()> {
    let tokenizer = Tokenizer::from_json(tokenizer_json, Default::default())?;
    let config = configuration(settings, &tokenizer)?;
    let c = Config::new("config.json", &config, Value::Null)?;
    let head = if c.flag("tie_word_embeddings")? { "model.embed_tokens.weight" } else { "lm_head.weight" };
    let decoder = decoder(&c, &DecoderNames { model: "model.".into(), head: head.into() })?;
    let senses = Senses::read(&c, &decoder)?;
    let depth = decoder.stack.blocks.len();
    let mut tensors = BTreeMap::new();
    for (name, ty) in parameters(&decoder, &senses)? {
        let values = drawn(&name, &ty, depth, seed);
        tensors.insert(name, HostTensor::from_f32(ty.dims, &values)?);
    }
    let roles = json!({
        "eos_token": END, "pad_token": SPECIAL_TOKENS[0], "image_token": NATIVE_TOKENS[0],
        "video_token": NATIVE_TOKENS[1], "audio_token": NATIVE_TOKENS[2], "clean_up_tokenization_spaces": false,
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    let pretty = |v: &Value| format!("{v:#}\n").into_bytes();
    let files = [
        ("config.json", pretty(&config)),
        ("processor_config.json", pretty(&senses.described().files())),
        ("tokenizer.json", tokenizer_json.to_vec()),
        ("tokenizer_config.json", pretty(&roles)),
        ("chat_template.jinja", TEMPLATE.into()),
    ];
    let files = files.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect();
    Ok(checkpoint::write(out, &tensors, &files)?)
}

/// A whole config.json: the settings over the defaults of a model of 1.3 million parameters.
fn configuration(settings: &Value, tokenizer: &Tokenizer) -> Result<Value> {
    let id = |token: &str| {
        tokenizer.id(token).ok_or_else(|| Error::Content {
            file: "tokenizer.json".into(),
            why: format!(
                "it has no token '{token}'; a tokenizer for the percept family has all of {}, as \
                 `percept data tokenizer` makes them",
                SPECIAL_TOKENS.join(" ")
            ),
        })
    };
    for token in SPECIAL_TOKENS {
        id(token)?;
    }
    let mut config = json!({
        "architectures": ["PerceptForConditionalGeneration"], "model_type": "percept",
        "hidden_size": 160, "intermediate_size": 320, "num_hidden_layers": 4, "num_attention_heads": 4,
        "hidden_act": "silu", "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "embedding_scale": EMBEDDING_SCALE, "tie_word_embeddings": true,
        "vision_config": { "channels": [32, 64], "image_size": 48, "frame_size": 32, "num_frames": 6 },
        "audio_config": { "num_mel_bins": 64, "num_frames": 48, "patch_size": 4 },
    });
    let given = settings.as_object().ok_or_else(|| Error::Content {
        file: "the settings of a new model".into(),
        why: "they must be an object of keys of config.json".into(),
    })?;
    for (key, value) in given {
        match (config.get_mut(key), value) {
            (Some(Value::Object(section)), Value::Object(given)) => section.extend(given.clone()),
            (Some(known), value) => *known = value.clone(),
            (None, value) if EXTRA.contains(&&key[..]) => config[key] = value.clone(),
            // These follow from the tokenizer.
            (None, _) if key == "vocab_size" || key.ends_with("_token_id") => {}
            (None, _) => {
                let known: Vec<&str> =
                    config.as_object().into_iter().flat_map(|c| c.keys()).map(String::as_str).collect();
                return Err(Error::Content {
                    file: "the settings of a new model".into(),
                    why: format!("'{key}' is not known; known: {}, {}", known.join(", "), EXTRA.join(", ")),
                });
            }
        }
    }
    config["vocab_size"] = json!(tokenizer.vocabulary_size());
    for (key, token) in [
        ("pad_token_id", SPECIAL_TOKENS[0]),
        ("answer_token_id", ANSWER),
        ("eos_token_id", END),
        ("image_token_id", NATIVE_TOKENS[0]),
        ("video_token_id", NATIVE_TOKENS[1]),
        ("audio_token_id", NATIVE_TOKENS[2]),
    ] {
        config[key] = json!(id(token)?);
    }
    Ok(config)
}

/// Keys without a default.
const EXTRA: [&str; 4] = ["num_key_value_heads", "head_dim", "rope_parameters", "dtype"];

/// Every parameter, by tracing all that the model computes.
fn parameters(decoder: &Decoder, senses: &Senses) -> Result<BTreeMap<String, TensorType>> {
    let t = Trace::new("parameters");
    let p = Parameters::new(&t, &AllF32);
    for (i, sense) in Sense::ALL.into_iter().enumerate() {
        let media = t.data(sense.array(), DType::F32, [vec![1], senses.extents(sense)].concat());
        t.output(format!("features.{i}"), &senses.trace(sense, &p, &media));
    }
    let shape = PassShape { rows: [1, 1], ..PassShape::default() };
    let graphs = [t.finish()?, decoder.step(&AllF32, &shape)?];
    let all = graphs.iter().flat_map(|g| g.inputs().iter().map(move |i| (i, g.ty(i.value))));
    Ok(all.filter(|(i, _)| i.role == Role::Parameter).map(|(i, ty)| (i.name.clone(), ty.clone())).collect())
}

/// The first values of a parameter. Matrices keep the size of what they multiply; those that end a branch of
/// a block are smaller, so that the residual stream does not grow with depth (Radford et al. 2019).
fn drawn(name: &str, ty: &TensorType, depth: usize, seed: u64) -> Vec<f32> {
    let n = ty.numel();
    let std = match name.rsplit('.').next() {
        Some("bias") => return vec![0.0; n],
        Some("weight") if ty.rank() == 1 => return vec![1.0; n],
        Some("weight") if name.ends_with("embed_tokens.weight") || name.starts_with("lm_head") => TABLE_STD,
        Some("weight") => {
            let ends = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
            let branches = if ends { 2 * depth.max(1) } else { 1 };
            ((ty.dims[ty.rank() - 1] * branches) as f64).powf(-0.5)
        }
        _ => POSITION_STD,
    };
    normal(name, n, std, seed)
}
