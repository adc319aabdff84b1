//! Voxtral: Whisper's encoder on windows of 30 seconds, four of its rows stacked to a feature, and Llama.

use percept_graph::HostTensor;
use percept_modalities::audio::LogMel;
use percept_modalities::text::{ChatTemplate, Tokenizer};
use percept_modalities::{Aim, Array, ArrayPart, Inputs, Media, MediaKind, Message, Processor, Values};
use serde_json::{Map, Value, json};

use crate::audio::AudioTower;
use crate::block::Context;
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::Projector;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, processor_files, token};
use crate::family::{DecoderNames, Model, decoder};
use crate::processor::{Placeholder, ProcessorFiles, Prompt, refuse, rows};
use crate::text::{template, tokenizer};
use crate::vision::{encoder_run, floats, media_layout};
use crate::weights::Weights;

/// What mistral-common writes for a conversation; its checkpoints have no template of their own.
const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
{% if message['role'] == 'user' %}{{ '[INST]' }}\
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'audio' %}{{ '[BEGIN_AUDIO][AUDIO]' }}{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}\
{% endfor %}{% endif %}{{ '[/INST]' }}\
{% elif message['role'] == 'assistant' %}\
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ eos_token }}\
{% else %}{{ raise_exception('this model takes messages of the user and the assistant alone') }}{% endif %}{% endfor %}";

/// The placeholder of a feature, whose id the processor of transformers fixes.
const AUDIO_TOKEN: &str = "[AUDIO]";

/// A Voxtral checkpoint. Of its vocabulary the `tokenizer.json` is read, which transformers writes.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let c = c.over(json!({ "projector_hidden_act": "gelu" }));
    let audio = c.section(
        "audio_config",
        json!({
            "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
            "num_mel_bins": 128, "max_source_positions": 1500, "scale_embedding": false,
        }),
    )?;
    if audio.flag("scale_embedding")? {
        return Err(audio.error("scale_embedding", "is true: features are not scaled here"));
    }
    // The names that Whisper has for the same values.
    let value = |key: &str| audio.get(key).cloned().unwrap_or(Value::Null);
    let renamed = audio.over(json!({
        "d_model": value("hidden_size"), "encoder_ffn_dim": value("intermediate_size"),
        "encoder_layers": value("num_hidden_layers"), "encoder_attention_heads": value("num_attention_heads"),
    }));
    let prefix = weights.prefix(&["audio_tower.", "model.audio_tower."], "conv1.weight");
    let tower = AudioTower::read(&renamed, prefix)?;
    let stacked = audio.positive("intermediate_size")?;
    if !(tower.rows * tower.hidden).is_multiple_of(stacked) || !stacked.is_multiple_of(tower.hidden) {
        let why = format!("is {stacked}; rows of {} features are stacked to as many", tower.hidden);
        return Err(audio.error("intermediate_size", &why));
    }
    let text = c.section(
        "text_config",
        json!({
            "model_type": "llama", "vocab_size": 131072, "hidden_size": 3072, "intermediate_size": 8192,
            "num_hidden_layers": 30, "num_key_value_heads": 8, "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5, "head_dim": 128,
        }),
    )?;
    let theta = text.get("rope_parameters").or(text.get("rope_scaling")).is_none();
    let text = if theta { text.over(json!({ "rope_theta": 1e8 })) } else { text };
    let models = ["language_model.model.", "model.language_model."];
    let names = DecoderNames::find(&weights, &models, &["language_model.lm_head.weight", "lm_head.weight"]);
    let decoder = decoder(&text, &names)?;
    let projectors = ["multi_modal_projector.", "model.multi_modal_projector."];
    let projector = Projector {
        prefix: weights.prefix(&projectors, "linear_1.weight").to_string(),
        out: decoder.hidden,
        activation: c.activation("projector_hidden_act")?,
        bias: false,
    };
    let features = tower.rows * tower.hidden / stacked;
    let (vocabulary, checkpoint) = (tokenizer(weights.checkpoint())?, weights.checkpoint());
    let written = template(checkpoint, &vocabulary)?;
    let processor = Sounds::read(&processor_files(&weights)?, features, vocabulary, written)?;
    tower.check(&processor.features)?;
    let reader = Windows { tower, stacked, projector, token: token(&c, "audio", 24)? };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

/// Turns each window of sound into features.
struct Windows {
    tower: AudioTower,
    /// Numbers of the rows that are stacked to one.
    stacked: usize,
    projector: Projector,
    token: i32,
}

impl Windows {
    /// Features of a window.
    fn rows(&self) -> usize {
        self.tower.rows * self.tower.hidden / self.stacked
    }
}

impl Reader for Windows {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([n, bands, frames], features)) = floats(inputs, "input_features")? else {
            return Ok(Vec::new());
        };
        let (tower, rows) = (&self.tower, self.rows());
        if [bands, frames] != [tower.bands, tower.frames()] {
            return Err(Error::Inputs(format!(
                "input_features are {:?}, the model reads {:?}",
                [n, bands, frames],
                [n, tower.bands, tower.frames()]
            )));
        }
        let run = |features: &[f32]| {
            let features = HostTensor::from_f32([1, bands, frames], features)?;
            encoder_run("voxtral", weights, vec![("input_features", features)], |p, x| {
                let x = tower.normalize(p, &tower.trace(p, &x[0], &Context::default()));
                vec![("features".into(), self.projector.trace(p, &x.reshape([rows, self.stacked])))]
            })
        };
        features.chunks_exact(bands * frames).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let windows = floats::<3>(inputs, "input_features")?.map_or(0, |([n, ..], _)| n);
        media_layout(inputs, &[(self.token, windows * self.rows())])
    }
}

/// The processor of Voxtral: prompts with a placeholder for each feature of every window of sound.
struct Sounds {
    prompt: Prompt,
    features: LogMel,
    /// Features of a window.
    rows: usize,
}

impl Sounds {
    fn read(
        files: &ProcessorFiles,
        rows: usize,
        tokenizer: Tokenizer,
        written: Option<ChatTemplate>,
    ) -> Result<Self> {
        let defaults = Map::from_iter([("feature_size".to_string(), json!(128))]);
        let features = LogMel::from_json(files.audio.file(), &files.audio.json(defaults))?;
        let template = match written {
            Some(template) => template,
            None => ChatTemplate::new(TEMPLATE, tokenizer.settings().tokens.clone())?,
        };
        let prompt = Prompt::new(tokenizer, template).without_more_tokens();
        prompt.id(AUDIO_TOKEN)?;
        Ok(Self { prompt, features, rows })
    }
}

impl Processor for Sounds {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> percept_modalities::Result<Inputs> {
        refuse(media, "Voxtral", false, false, true)?;
        let (bands, frames) = (self.features.bands(), self.features.frames());
        let (mut all, mut windows, mut replacements) = (Vec::new(), Vec::new(), Vec::new());
        for audio in &media.audios {
            let n = match self.features.all_windows(audio)? {
                Array { dims, values: Values::F32(values) } => {
                    all.extend(values);
                    dims[0]
                }
                _ => 0,
            };
            replacements.push(rows(AUDIO_TOKEN, self.rows.saturating_mul(n))?);
            windows.push(n);
        }
        let text = self.prompt.render(messages, &media.variables, aim)?;
        let (kind, token) = (MediaKind::Audio, AUDIO_TOKEN);
        let placeholder = Placeholder { kind, token, feature: token, replacements };
        let mut inputs = self.prompt.encode(&text, &[placeholder])?;
        if !windows.is_empty() {
            let dims = vec![windows.iter().sum(), bands, frames];
            inputs.arrays.insert("input_features".into(), Array { dims, values: Values::F32(all) });
        }
        let mut start = 0;
        for (index, n) in windows.into_iter().enumerate() {
            let dims = vec![n, bands, frames];
            let part = ArrayPart { array: "input_features".into(), start, dims, pixels: None };
            start += n * bands * frames;
            inputs.attach(kind, index, None, vec![part]);
        }
        Ok(inputs)
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.prompt.tokenizer()
    }

    fn audio_rate(&self) -> Option<u32> {
        Some(self.features.rate())
    }
}
