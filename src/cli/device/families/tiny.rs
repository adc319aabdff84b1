//! A family's tiny model: its configuration and its processor's files from one JSON file of [`tiny/`](tiny), a vocabulary
//! of bytes, and weights drawn from a seed by the names and shapes that the family's own graphs ask for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use percept::graph::{Graph, HostTensor, Role, TensorType};
use percept::modalities::audio::Waveform;
use percept::modalities::image::Image;
use percept::modalities::video::Clip;
use percept::modalities::{Content, Inputs, Media, Message, Part};
use percept::model::checkpoint::{self, Checkpoint};
use percept::model::random::normal;
use percept::model::{AllF32, Model, PassShape, Weights};
use serde_json::{Value, json};

use crate::cli::Failure;

include!(concat!(env!("OUT_DIR"), "/tiny_families.rs"));

/// The seed of weights and media.
const SEED: u64 = 5;

/// A family as its file describes it.
pub struct Family {
    /// Its `model_type`.
    pub name: &'static str,
    text: &'static str,
}

impl Family {
    /// Every family that there is a file of, by name.
    pub fn all() -> impl Iterator<Item = Family> {
        TINY_FAMILIES.iter().map(|&(name, text)| Family { name, text })
    }

    /// What its file says.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn read(&self) -> Result<Description, Failure> {
        let why = |e: serde_json::Error| Failure::Content { path: self.path().into(), why: e.to_string() };
        Ok(Description { file: self.path(), json: serde_json::from_str(self.text).map_err(why)? })
    }

    fn path(&self) -> String {
        format!("families/tiny/{}.json", self.name)
    }
}

/// What a family's file says.
pub struct Description {
    file: String,
    json: Value,
}

impl Description {
    /// Whether it writes an answer or a transcript, token by token.
    pub fn writes(&self) -> bool {
        ["messages", "prompt", "transcribes"].iter().any(|key| self.json.get(key).is_some())
    }

    /// Whether it is given images, video or audio.
    pub fn has_media(&self) -> bool {
        self.json.get("media").is_some()
    }

    /// Write the checkpoint into an empty folder and open it.
    ///
    /// # Errors
    /// When the family does not take the file, or the folder cannot be written.
    pub fn make(&self, folder: &Path) -> Result<Model, Failure> {
        let files = self.files()?;
        let sketch = folder.join("sketch");
        checkpoint::write(&sketch, &BTreeMap::new(), &files)?;
        let own_head = self.json["own_head"].as_bool().unwrap_or(false);
        let weights = Weights::described(Arc::new(Checkpoint::open(&sketch)?), own_head);
        let model = percept::model::open_weights(weights)?;
        let mut tensors = BTreeMap::new();
        for (name, ty) in self.parameters(&model)? {
            let values = self.values(&name, &ty);
            tensors.insert(
                name,
                HostTensor::from_f32(ty.dims.clone(), &values).map_err(percept::infer::Error::from)?,
            );
        }
        let whole = folder.join("model");
        checkpoint::write(&whole, &tensors, &files)?;
        Ok(percept::model::open_weights(Weights::new(Arc::new(Checkpoint::open(&whole)?)))?)
    }

    /// Every parameter by name, in the shape in which the family's graphs declare it.
    fn parameters(&self, model: &Model) -> Result<BTreeMap<String, TensorType>, Failure> {
        let graphs: Vec<Graph> = match model {
            Model::Causal(model) => {
                let shape = PassShape { rows: [1, 1], ..PassShape::default() };
                let runs = model.encoder_runs(&self.inputs(&**model)?)?;
                let step = model.decoder().step(&AllF32, &shape)?;
                runs.into_iter().map(|run| run.graph).chain([step]).collect()
            }
            Model::Contrastive(model) => {
                vec![model.image_graph(1)?, model.text_graph(1)?, model.compare(1, 1)?]
            }
            Model::ImageEncoder(model) => {
                vec![model.graph(&model.prepare(&self.media(None)?.images[..1])?.dims)?]
            }
            Model::TextEncoder(model) => vec![model.graph(1, 1)?],
            Model::Frames(model) => {
                super::passes::frames(model, self)?.into_iter().map(|(graph, _)| graph).collect()
            }
            Model::Speech(model) => {
                vec![model.encode()?, model.cross_keys()?, model.step(&model.step_shape(1, 1))?]
            }
        };
        let mut all = BTreeMap::new();
        for graph in &graphs {
            let declared = graph.inputs().iter().filter(|i| i.role == Role::Parameter);
            all.extend(declared.map(|i| (i.name.clone(), graph.ty(i.value).clone())));
        }
        Ok(all)
    }

    /// Values that keep rows of about one size: norms near one, biases near zero, matrices by the root of their columns.
    /// The file's `values` say otherwise by the ends of names.
    fn values(&self, name: &str, ty: &TensorType) -> Vec<f32> {
        let stated = self.json["values"].as_object().into_iter().flatten();
        if let Some(value) = stated.filter(|(end, _)| name.ends_with(&***end)).find_map(|(_, v)| v.as_f64()) {
            return vec![value as f32; ty.numel()];
        }
        let columns = ty.dims.last().copied().unwrap_or(1).max(1);
        let (mean, deviation) = match name.rsplit('.').next() {
            Some("weight") if ty.rank() == 1 => (1.0, 0.1),
            _ if ty.rank() < 2 => (0.0, 0.1),
            _ => (0.0, (columns as f64).powf(-0.5)),
        };
        normal(name, ty.numel(), deviation, SEED).into_iter().map(|v| mean + v).collect()
    }

    /// What the family's processor makes of the question and the media.
    ///
    /// # Errors
    /// When it refuses them.
    pub fn inputs(&self, model: &dyn percept::model::CausalModel) -> Result<Inputs, Failure> {
        let messages = self.messages()?;
        let media = self.media(model.processor().audio_rate())?;
        Ok(model.processor().chat(&messages, &media).map_err(percept::infer::Error::from)?)
    }

    /// The question.
    fn messages(&self) -> Result<Vec<Message>, Failure> {
        if let Some(prompt) = self.json["prompt"].as_str() {
            let pieces: Vec<&str> = prompt.split("<image>").collect();
            let mut parts = vec![Part::Image { path: None }; pieces.len() - 1];
            parts.push(Part::Text { text: pieces.concat() });
            return Ok(vec![Message::new("user", Content::Parts(parts))]);
        }
        serde_json::from_value(self.json["messages"].clone())
            .map_err(|e| self.wrong("messages", &e.to_string()))
    }

    /// The media, drawn from the seed; sound at a rate of its own where none is asked for.
    ///
    /// # Errors
    /// When the file does not say how large they are.
    pub fn media(&self, rate: Option<u32>) -> Result<Media, Failure> {
        let media = &self.json["media"];
        let count = |v: &Value| v.as_u64().map(|n| n as usize).filter(|n| (1..=4096).contains(n));
        let picture = |name: &str, size: &Value| -> Result<Image, Failure> {
            let (Some(width), Some(height)) = (count(&size[0]), count(&size[1])) else {
                return Err(self.wrong("media", "sizes must be a width and a height"));
            };
            let noise = normal(name, 3 * width * height, 20.0, SEED);
            // A slope under the noise, so that no two regions are alike.
            let level =
                |(i, v): (usize, f32)| (64.0 + v + 128.0 * (i / 3 % width) as f32 / width as f32) as u8;
            let rgb = noise.into_iter().enumerate().map(level).collect();
            Ok(Image { width, height, rgb })
        };
        let mut found = Media::default();
        for (i, size) in media["images"].as_array().into_iter().flatten().enumerate() {
            found.images.push(picture(&format!("image {i}"), size)?);
        }
        if let Some(video) = media.get("video") {
            let frames = count(&video["frames"]).ok_or_else(|| self.wrong("media", "a video has frames"))?;
            let frames = (0..frames).map(|i| picture(&format!("frame {i}"), &video["size"]));
            let fps = video["fps"].as_f64().unwrap_or(4.0);
            found.videos.push(Clip::steady(frames.collect::<Result<_, _>>()?, fps));
        }
        if let Some(seconds) = media["audio"].as_f64() {
            let rate = rate.unwrap_or(16_000);
            let samples = (seconds.clamp(0.0, 60.0) * f64::from(rate)) as usize;
            found.audios.push(Waveform { samples: normal("audio", samples, 0.1, SEED), rate });
        }
        Ok(found)
    }

    /// The files of the checkpoint but its weights.
    fn files(&self) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
        let mut files = BTreeMap::new();
        for (name, value) in self.json["files"].as_object().into_iter().flatten() {
            files.insert(
                name.clone(),
                value.as_str().map_or_else(|| value.to_string(), str::to_string).into_bytes(),
            );
        }
        files.insert("config.json".into(), self.json["config"].to_string().into_bytes());
        if !files.contains_key("tokenizer.json") {
            files.insert("tokenizer.json".into(), self.tokenizer()?.to_string().into_bytes());
        }
        Ok(files)
    }

    /// A tokenizer of bytes, each a token of its own, with the file's special ones at their ids.
    fn tokenizer(&self) -> Result<Value, Failure> {
        let special: BTreeMap<u64, &String> = self.json["tokens"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(token, id)| Some((id.as_u64()?, token)))
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong("tokens", "must be numbers by token"))?;
        let free = (0..).filter(|id| !special.contains_key(id));
        let bytes = byte_characters().into_iter().map(String::from).zip(free);
        // A special token has its id from here.
        let all = bytes.chain(special.iter().map(|(id, token)| (token.to_string(), *id)));
        let vocabulary: serde_json::Map<String, Value> = all.map(|(token, id)| (token, json!(id))).collect();
        let added = special.iter().map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        });
        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "post_processor": self.json.get("post_processor").cloned().unwrap_or(Value::Null),
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": [],
            },
        }))
    }

    fn wrong(&self, key: &str, why: &str) -> Failure {
        Failure::Content { path: self.file.clone().into(), why: format!("'{key}' {why}") }
    }
}

/// The characters that stand for the 256 bytes in vocabularies of bytes (GPT-2): those that can be seen stand for
/// themselves, the others come behind all of Latin-1.
fn byte_characters() -> Vec<char> {
    let seen = |b: u32| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut behind = 256..;
    (0..256).filter_map(|b| char::from_u32(if seen(b) { b } else { behind.next()? })).collect()
}
