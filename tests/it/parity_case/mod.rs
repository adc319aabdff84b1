//! A parity case on disk, and how its arrays are compared.

pub mod adapters;
pub mod causal;
pub mod contrastive;
pub mod frames;
pub mod gguf;
pub mod images;
pub mod published;
pub mod speech;
pub mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use percept::modalities::{Content, Inputs, Media, Message, Part, Processor, Values, audio, image, video};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A tensor as numbers.
pub struct Numbers {
    pub dims: Vec<usize>,
    pub values: Vec<f64>,
}

/// A case: what was asked, and what transformers made of it.
pub struct Case {
    pub name: String,
    pub folder: PathBuf,
    pub description: Value,
    pub inputs: &'static BTreeMap<String, Numbers>,
    pub expected: &'static BTreeMap<String, Numbers>,
    /// Largest difference of a logit, on any device; tests/parity/README.md says why it is what it is.
    pub tolerance: f64,
}

/// The cases of a folder by name.
pub fn cases(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    folders.retain(|f| f.join("case.json").is_file());
    folders.sort();
    folders.into_iter().map(Case::read).collect()
}

impl Case {
    fn read(folder: PathBuf) -> Self {
        let bytes = std::fs::read(folder.join("case.json")).unwrap();
        let description: Value = serde_json::from_slice(&bytes).unwrap();
        Self {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            inputs: tensors(&folder.join("inputs.safetensors")),
            expected: tensors(&folder.join("expected.safetensors")),
            tolerance: description["tolerance"]["logits_max_abs"].as_f64().unwrap(),
            description,
            folder,
        }
    }

    /// The conversation. Of a family without a chat template it is one question, whose prompt has each image's placeholder
    /// where the image stands.
    pub fn messages(&self) -> Result<Vec<Message>, String> {
        if let Some(prompt) = self.description["prompt"].as_str() {
            let pieces: Vec<&str> = prompt.split("<image>").collect();
            let mut parts = vec![Part::Image { path: None }; pieces.len() - 1];
            parts.push(Part::Text { text: pieces.concat() });
            return Ok(vec![Message::new("user", Content::Parts(parts))]);
        }
        serde_json::from_value(self.description["messages"].clone()).map_err(|e| e.to_string())
    }

    /// A file or folder of the media that cases share.
    pub fn medium(&self, name: &str) -> PathBuf {
        self.folder.join("../media").join(name)
    }

    /// The media, decoded as the processor wants them.
    pub fn media(&self, processor: &dyn Processor) -> Result<Media, String> {
        let media = &self.description["media"];
        let text = |e: percept::modalities::Error| e.to_string();
        let mut decoded = Media::default();
        for name in media["images"].as_array().into_iter().flatten() {
            decoded.images.push(picture(&self.medium(name.as_str().unwrap()))?);
        }
        if let Some(frames) = media["frames"].as_str() {
            let entries = std::fs::read_dir(self.medium(frames)).map_err(|e| e.to_string())?;
            let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
            files.sort();
            let frames = files.iter().map(|f| picture(f)).collect::<Result<Vec<_>, _>>()?;
            decoded.videos.push(video::Clip::steady(frames, media["fps"].as_f64().unwrap()));
        }
        if let Some(name) = media["audio"].as_str() {
            let rate = processor.audio_rate().ok_or("the processor takes no audio")?;
            let sound = audio::decode(&self.medium(name), rate, &audio::Limits::default()).map_err(text)?;
            decoded.audios.push(sound);
        }
        Ok(decoded)
    }

    /// The smallest deviation that pixels are divided by, in whichever file the checkpoint has it.
    fn deviation(&self) -> f64 {
        fn smallest(v: &Value) -> Option<f64> {
            match v {
                Value::Object(map) => {
                    let here = map.get("image_std").and_then(Value::as_array);
                    let here = here.into_iter().flatten().filter_map(Value::as_f64);
                    here.chain(map.values().filter_map(smallest)).min_by(f64::total_cmp)
                }
                _ => None,
            }
        }
        let files = ["processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"];
        let read = |name: &&str| {
            let bytes = std::fs::read(self.folder.join("model").join(name)).ok()?;
            smallest(&serde_json::from_slice(&bytes).ok()?)
        };
        files.iter().filter_map(read).min_by(f64::total_cmp).unwrap_or(1.0)
    }
}

/// A picture of the shared media.
pub fn picture(path: &Path) -> Result<image::Image, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    image::decode(&bytes, &image::Limits::default()).map_err(|e| e.to_string())
}

/// Arrays that only tell padding or kinds of tokens apart: compared when the processor makes them, not missed.
const OPTIONAL: [&str; 4] = ["attention_mask", "mm_token_type_ids", "token_type_ids", "batch_num_images"];

/// The processor's arrays beside those of the case: whole numbers are equal, pixels within one step of the source's
/// 8 bits, features of sound within 1e-4.
pub fn compare_inputs(case: &Case, inputs: &Inputs) -> Result<(), String> {
    for (name, expected) in case.inputs {
        let Some(found) = inputs.arrays.get(name) else {
            if OPTIONAL.contains(&name.as_str()) {
                continue;
            }
            return Err(format!("the processor makes no '{name}'"));
        };
        if found.dims != expected.dims {
            return Err(format!("'{name}' is {:?}, expected {:?}", found.dims, expected.dims));
        }
        let (values, tolerance): (Vec<f64>, f64) = match &found.values {
            Values::I64(v) => (v.iter().map(|&v| v as f64).collect(), 0.0),
            Values::F32(v) if name.starts_with("pixel") => {
                // Some cases allow more steps, others a difference of the values themselves.
                let allowed = &case.description["tolerance"];
                let steps = allowed["pixel_values_lsb"].as_f64().unwrap_or(1.0);
                let tolerance = allowed["pixel_values_max_abs"].as_f64();
                let tolerance = tolerance.unwrap_or(1.001 * steps / 255.0 / case.deviation());
                (v.iter().map(|&v| v as f64).collect(), tolerance)
            }
            Values::F32(v) => (v.iter().map(|&v| v as f64).collect(), 1e-4),
        };
        let near = |(f, e): (&f64, &f64)| (f - e).abs() <= tolerance;
        let off = values.iter().zip(&expected.values).position(|pair| !near(pair));
        if let Some(i) = off {
            return Err(format!("'{name}' at {i} is {}, expected {}", values[i], expected.values[i]));
        }
    }
    Ok(())
}

/// The largest difference; NaN counts as infinite.
pub fn distance(found: &[f32], expected: &[f64]) -> Result<f64, String> {
    if found.len() != expected.len() {
        return Err(format!("{} values, expected {}", found.len(), expected.len()));
    }
    let difference = |(f, e): (&f32, &f64)| {
        let d = (*f as f64 - e).abs();
        if d.is_nan() { f64::INFINITY } else { d }
    };
    Ok(found.iter().zip(expected).map(difference).fold(0.0, f64::max))
}

/// The tensors of a safetensors file, which is read once for all tests: they decode slowly without the optimizer.
fn tensors(path: &Path) -> &'static BTreeMap<String, Numbers> {
    static READ: Mutex<BTreeMap<PathBuf, &'static BTreeMap<String, Numbers>>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    read.entry(path.to_owned()).or_insert_with(|| Box::leak(Box::new(read_tensors(path))))
}

fn read_tensors(path: &Path) -> BTreeMap<String, Numbers> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let view = file.tensor(name).unwrap();
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            Dtype::I32 => data.as_chunks().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect(),
            Dtype::BOOL => data.iter().map(|&b| b as f64).collect(),
            Dtype::I64 => {
                data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
            }
            other => panic!("{}: {name} is {other:?}", path.display()),
        };
        Numbers { dims: view.shape().to_vec(), values }
    };
    file.names().into_iter().map(|name| (name.to_string(), read(name))).collect()
}
