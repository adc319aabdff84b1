//! A checkpoint's processor files and their settings.

use percept_modalities::image::{Filter, Normalize};
use percept_modalities::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Mean and deviation that CLIP was trained with.
pub const CLIP_NORMALIZE: ([f64; 3], [f64; 3]) =
    ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]);
/// Mean and deviation of ImageNet's pictures.
pub const IMAGENET_NORMALIZE: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// Mean and deviation that bring pixel values to -1 .. 1.
pub const HALF_NORMALIZE: ([f64; 3], [f64; 3]) = ([0.5; 3], [0.5; 3]);

/// One object of a processor's settings. A key that is absent or null has its family's default.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    file: String,
    values: Map<String, Value>,
}

impl Settings {
    /// Settings as they stand in `file`.
    pub fn new(file: impl Into<String>, values: Map<String, Value>) -> Self {
        Self { file: file.into(), values }
    }

    /// The same less some keys.
    pub fn without(&self, keys: &[&str]) -> Self {
        let mut other = self.clone();
        other.values.retain(|key, _| !keys.contains(&key.as_str()));
        other
    }

    /// Where they stand, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All of them over a family's defaults.
    pub fn json(&self, defaults: Map<String, Value>) -> Value {
        let given = self.values.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone()));
        Value::Object(defaults.into_iter().chain(given).collect())
    }

    /// The value of a key, unless it is absent or null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    /// The value of a key as `T`; `None` when it is absent or null.
    ///
    /// # Errors
    /// When the value is of another kind.
    pub fn find<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.value(key)
            .map(|v| T::deserialize(v).map_err(|e| self.fault(format!("`{key}` is {v}: {e}"))))
            .transpose()
    }

    /// The value of a key as `T`, or its default.
    ///
    /// # Errors
    /// When the value is of another kind.
    pub fn get<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<T> {
        Ok(self.find(key)?.unwrap_or(default))
    }

    /// A number that is at least one and small enough to calculate with.
    ///
    /// # Errors
    /// When it is not.
    pub fn count(&self, key: &str, default: usize) -> Result<usize> {
        let n = self.get(key, default)?;
        self.checked(key, n)
    }

    fn checked(&self, key: &str, n: usize) -> Result<usize> {
        if n == 0 || n > u32::MAX as usize {
            return Err(self.fault(format!("`{key}` is {n}; it must be between 1 and {}", u32::MAX)));
        }
        Ok(n)
    }

    /// An error about these settings.
    pub fn fault(&self, why: impl Into<String>) -> Error {
        Error::Config { file: self.file.clone(), why: why.into() }
    }

    /// `resample`, by PIL's numbers.
    ///
    /// # Errors
    /// When no filter has the number.
    pub fn filter(&self, default: Filter) -> Result<Filter> {
        let Some(number) = self.find::<u64>("resample")? else { return Ok(default) };
        Filter::from_pil(number).ok_or_else(|| {
            self.fault(format!("`resample` is {number}; PIL's filters have the numbers 0 to 5"))
        })
    }

    /// `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean` and `image_std`.
    ///
    /// # Errors
    /// When one of them is of another kind, or there are not three channels.
    pub fn normalize(&self, (mean, std): ([f64; 3], [f64; 3])) -> Result<Normalize> {
        let rescale_factor =
            if self.get("do_rescale", true)? { Some(self.get("rescale_factor", 1.0 / 255.0)?) } else { None };
        let (mean, std) = if self.get("do_normalize", true)? {
            (self.channels("image_mean", mean)?, self.channels("image_std", std)?)
        } else {
            ([0.0; 3], [1.0; 3])
        };
        if std.contains(&0.0) {
            return Err(self.fault("`image_std` has a zero; pixel values are divided by it"));
        }
        Ok(Normalize { rescale_factor, mean, std })
    }

    /// Three numbers, or one for all channels.
    fn channels(&self, key: &str, default: [f64; 3]) -> Result<[f64; 3]> {
        match self.value(key) {
            Some(v) if v.is_number() => Ok([self.get(key, 0.0)?; 3]),
            _ => self.get(key, default),
        }
    }

    /// A size under `key`; a bare number is read as `bare` says.
    ///
    /// # Errors
    /// When it is not a size, or an edge is 0.
    pub fn size(&self, key: &str, bare: fn(usize) -> Size) -> Result<Option<Size>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        if let Some(n) = value.as_u64() {
            return Ok(Some(bare(self.checked(key, n as usize)?)));
        }
        let edge = |name: &str| -> Result<Option<usize>> {
            let Some(v) = value.get(name).filter(|v| !v.is_null()) else { return Ok(None) };
            let n = v
                .as_u64()
                .ok_or_else(|| self.fault(format!("`{key}.{name}` is {v}; it must be a number of pixels")))?;
            self.checked(&format!("{key}.{name}"), n as usize).map(Some)
        };
        let size = match (edge("height")?, edge("width")?, edge("shortest_edge")?, edge("longest_edge")?) {
            (Some(height), Some(width), _, _) => Size::Exact { height, width },
            (_, _, Some(shortest), Some(longest)) => Size::Edges { shortest, longest },
            (_, _, Some(shortest), None) => Size::Shortest(shortest),
            (_, _, None, Some(longest)) => Size::Longest(longest),
            _ => {
                return Err(self.fault(format!(
                    "`{key}` is {value}; it needs height and width, shortest_edge or longest_edge"
                )));
            }
        };
        Ok(Some(size))
    }
}

/// The meaning of a `size`. In Qwen-VL's files the edges are numbers of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Size {
    /// This size, whatever the aspect ratio.
    Exact { height: usize, width: usize },
    /// The shorter edge becomes this long.
    Shortest(usize),
    /// The longer edge becomes this long.
    Longest(usize),
    /// Both bounds.
    Edges { shortest: usize, longest: usize },
}

impl Size {
    /// A square.
    pub fn square(edge: usize) -> Self {
        Self::Exact { height: edge, width: edge }
    }
}

/// The settings in a checkpoint's processor files. transformers 5 writes one nested `processor_config.json`;
/// earlier versions and most published checkpoints have `preprocessor_config.json`,
/// `video_preprocessor_config.json` and sometimes a `processor_config.json` of the processor's own keys.
#[derive(Debug, Clone, Default)]
pub struct ProcessorFiles {
    /// The processor's own keys.
    pub processor: Settings,
    /// How images are prepared.
    pub image: Settings,
    /// How videos are prepared.
    pub video: Settings,
    /// How audio is prepared.
    pub audio: Settings,
}

impl ProcessorFiles {
    /// Reads them through `file`, which gives a file's bytes if the checkpoint has it.
    ///
    /// # Errors
    /// When a file is not a JSON object, and what `file` returns.
    pub fn read<E: From<Error>>(mut file: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>) -> Result<Self, E> {
        let mut object = |name: &str| -> Result<Option<Settings>, E> {
            let Some(bytes) = file(name)? else { return Ok(None) };
            let values = serde_json::from_slice(&bytes).map_err(|e| Error::Config {
                file: name.into(),
                why: format!("it is not a JSON object: {e}"),
            })?;
            Ok(Some(Settings::new(name, values)))
        };
        let processor = object("processor_config.json")?
            .unwrap_or_else(|| Settings::new("processor_config.json", Map::new()));
        let flat = object("preprocessor_config.json")?;
        let flat_video = object("video_preprocessor_config.json")?;
        let nested = |key: &str| match processor.values.get(key) {
            Some(Value::Object(values)) => {
                Some(Settings::new(format!("processor_config.json: {key}"), values.clone()))
            }
            _ => None,
        };
        let or_flat = |s: Option<Settings>| {
            s.or_else(|| flat.clone())
                .unwrap_or_else(|| Settings::new("preprocessor_config.json", Map::new()))
        };
        Ok(Self {
            image: or_flat(nested("image_processor")),
            video: or_flat(nested("video_processor").or(flat_video)),
            audio: or_flat(nested("feature_extractor").or_else(|| nested("audio_processor"))),
            processor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Settings {
        Settings::new("f.json", serde_json::from_str(json).unwrap())
    }

    #[test]
    fn sizes_are_read_in_every_spelling() {
        let s = settings(
            r#"{"a": 224, "b": {"shortest_edge": 5}, "c": {"height": 2, "width": 3, "longest_edge": null},
                "d": {"shortest_edge": 4, "longest_edge": 9}, "e": {"longest_edge": 8}, "f": null, "g": {"x": 1}, "h": 0}"#,
        );
        assert_eq!(s.size("a", Size::square).unwrap(), Some(Size::square(224)));
        assert_eq!(s.size("a", Size::Shortest).unwrap(), Some(Size::Shortest(224)));
        assert_eq!(s.size("b", Size::square).unwrap(), Some(Size::Shortest(5)));
        assert_eq!(s.size("c", Size::square).unwrap(), Some(Size::Exact { height: 2, width: 3 }));
        assert_eq!(s.size("d", Size::square).unwrap(), Some(Size::Edges { shortest: 4, longest: 9 }));
        assert_eq!(s.size("e", Size::square).unwrap(), Some(Size::Longest(8)));
        assert_eq!(s.size("f", Size::square).unwrap(), None);
        for key in ["g", "h"] {
            let e = s.size(key, Size::square).unwrap_err().to_string();
            assert!(e.starts_with("f.json: `") && e.contains(key), "{e}");
        }
    }

    #[test]
    fn nested_settings_come_before_flat_ones() {
        let files = |name: &str| {
            Ok(match name {
                "processor_config.json" => Some(r#"{"image_processor": {"a": 1}, "k": 2}"#),
                "preprocessor_config.json" => Some(r#"{"a": 3}"#),
                _ => None,
            }
            .map(|s| s.as_bytes().to_vec()))
        };
        let f = ProcessorFiles::read::<Error>(files).unwrap();
        assert_eq!(f.image.get("a", 0).unwrap(), 1);
        assert_eq!(f.video.get("a", 0).unwrap(), 3);
        assert_eq!(f.processor.get("k", 0).unwrap(), 2);
        let e = ProcessorFiles::read::<Error>(|_| Ok(Some(b"[1".to_vec()))).unwrap_err().to_string();
        assert!(e.starts_with("processor_config.json: it is not a JSON object"), "{e}");
    }
}
