//! Reading `config.json`: every value by its name, with the family's default where the file is silent.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A JSON object of a checkpoint, laid over a family's defaults. Checkpoints may omit what equals the default
/// of their `model_type`; null is a value of its own and says that there is none.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it stands, for messages: `config.json`, then the keys that lead to it.
    at: String,
    values: Map<String, Value>,
}

impl Config {
    /// The whole of a file.
    ///
    /// # Errors
    /// When it is not an object.
    pub fn new(file: &str, value: &Value, defaults: Value) -> Result<Self> {
        match value {
            Value::Object(given) => Ok(Self { at: file.to_string(), values: overlay(given, defaults) }),
            _ => Err(Error::Content { file: file.to_string(), why: "it is not a JSON object".into() }),
        }
    }

    /// The object under `key`, or the defaults alone when there is none.
    ///
    /// # Errors
    /// When there is something else under it.
    pub fn section(&self, key: &str, defaults: Value) -> Result<Self> {
        let empty = Value::Object(Map::new());
        Self::new(&format!("{}: {key}", self.at), self.get(key).unwrap_or(&empty), defaults)
    }

    /// The same values over other defaults.
    pub fn over(&self, defaults: Value) -> Self {
        Self { at: self.at.clone(), values: overlay(&self.values, defaults) }
    }

    /// The same values less some.
    pub fn without(&self, keys: &[&str]) -> Self {
        let mut other = self.clone();
        other.values.retain(|k, _| !keys.contains(&k.as_str()));
        other
    }

    /// Refuses every value but those of these keys.
    ///
    /// # Errors
    /// Names the first other key.
    pub fn refuse_others(&self, known: &[&str]) -> Result<()> {
        match self.values.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(other) => Err(self.error(other, &format!("is not known here; known: {}", known.join(", ")))),
        }
    }

    /// A value that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    /// The value under the first of several spellings of a key.
    pub fn any(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().find_map(|k| self.get(k))
    }

    /// A count.
    ///
    /// # Errors
    /// When it is missing, is not a whole number or is larger than any real model's.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.maybe_usize(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    /// A count that may be missing.
    ///
    /// # Errors
    /// When it is there and not a whole number.
    pub fn maybe_usize(&self, key: &str) -> Result<Option<usize>> {
        let whole = |v: &Value| match v.as_u64() {
            // Larger extents would overflow products of three of them.
            Some(n) if n <= 1 << 40 => Ok(n as usize),
            _ => Err(self.error(key, &format!("must be a whole number, not {v}"))),
        };
        self.get(key).map(whole).transpose()
    }

    /// A count of at least one.
    ///
    /// # Errors
    /// As [`Config::usize`], and when it is 0.
    pub fn positive(&self, key: &str) -> Result<usize> {
        match self.usize(key)? {
            0 => Err(self.error(key, "must not be 0")),
            n => Ok(n),
        }
    }

    /// A number of layers.
    ///
    /// # Errors
    /// When it is missing or more than any model has.
    pub fn layers(&self, key: &str) -> Result<usize> {
        match self.usize(key)? {
            n if n > 10_000 => Err(self.error(key, &format!("is {n}, more layers than any model has"))),
            n => Ok(n),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// When it is missing or not a number.
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.maybe_f64(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    /// A number that may be missing.
    ///
    /// # Errors
    /// When it is there and not a number.
    pub fn maybe_f64(&self, key: &str) -> Result<Option<f64>> {
        let number =
            |v: &Value| v.as_f64().ok_or_else(|| self.error(key, &format!("must be a number, not {v}")));
        self.get(key).map(number).transpose()
    }

    /// A flag; false when it is missing.
    ///
    /// # Errors
    /// When it is there and neither true nor false.
    pub fn flag(&self, key: &str) -> Result<bool> {
        let flag =
            |v: &Value| v.as_bool().ok_or_else(|| self.error(key, &format!("must be a flag, not {v}")));
        self.get(key).map_or(Ok(false), flag)
    }

    /// A text.
    ///
    /// # Errors
    /// When it is missing or not a text.
    pub fn text(&self, key: &str) -> Result<&str> {
        let value = self.get(key).ok_or_else(|| self.error(key, "is missing"))?;
        value.as_str().ok_or_else(|| self.error(key, &format!("must be a text, not {value}")))
    }

    /// A list of whole numbers; empty when it is missing.
    ///
    /// # Errors
    /// When it is there and something else, or has a number larger than any real model's.
    pub fn list(&self, key: &str) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        // As for counts: larger ones could not be added up.
        let whole = |v: &Value| v.as_u64().filter(|n| *n <= 1 << 40).and_then(|n| usize::try_from(n).ok());
        let all = value.as_array().and_then(|a| a.iter().map(whole).collect());
        all.ok_or_else(|| self.error(key, &format!("must be a list of whole numbers, not {value}")))
    }

    /// A list of numbers.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        let value = self.get(key).ok_or_else(|| self.error(key, "is missing"))?;
        let all = value.as_array().and_then(|a| a.iter().map(Value::as_f64).collect());
        all.ok_or_else(|| self.error(key, &format!("must be a list of numbers, not {value}")))
    }

    /// An activation function by Hugging Face's name.
    ///
    /// # Errors
    /// When it is missing or unknown.
    pub fn activation(&self, key: &str) -> Result<percept_graph::Activation> {
        use percept_graph::Activation::*;
        Ok(match self.text(key)? {
            "gelu" | "gelu_python" => GeluErf,
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => GeluTanh,
            "silu" | "swish" => Silu,
            "quick_gelu" => QuickGelu,
            "relu" => Relu,
            other => {
                let known = "gelu, gelu_pytorch_tanh, gelu_new, gelu_fast, silu, swish, quick_gelu, relu";
                return Err(self.error(key, &format!("is '{other}'; known: {known}")));
            }
        })
    }

    /// An error about a key.
    pub fn error(&self, key: &str, why: &str) -> Error {
        Error::Content { file: self.at.clone(), why: format!("'{key}' {why}") }
    }
}

fn overlay(given: &Map<String, Value>, defaults: Value) -> Map<String, Value> {
    let mut values = match defaults {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    values.extend(given.iter().map(|(k, v)| (k.clone(), v.clone())));
    values
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_stand_where_the_file_is_silent() {
        let file = json!({"a": 3, "b": null, "inner": {"x": 1.5}});
        let c = Config::new("config.json", &file, json!({"a": 1, "b": 2, "c": "silu"})).unwrap();
        assert_eq!((c.usize("a").unwrap(), c.maybe_usize("b").unwrap()), (3, None));
        assert_eq!(c.activation("c").unwrap(), percept_graph::Activation::Silu);
        let inner = c.section("inner", json!({"y": [1, 2]})).unwrap();
        assert_eq!((inner.f64("x").unwrap(), inner.list("y").unwrap()), (1.5, vec![1, 2]));
        assert_eq!(c.section("none", json!({"x": 1})).unwrap().usize("x").unwrap(), 1);
    }

    #[test]
    fn errors_name_the_place_and_the_value() {
        let file = json!({"text_config": {"hidden_size": "many", "layers": 0, "heads": u64::MAX}});
        let c = Config::new("config.json", &file, json!({})).unwrap();
        let inner = c.section("text_config", json!({})).unwrap();
        let message = inner.usize("hidden_size").unwrap_err().to_string();
        assert_eq!(message, "config.json: text_config: 'hidden_size' must be a whole number, not \"many\"");
        assert!(inner.positive("layers").is_err() && inner.usize("heads").is_err());
        assert!(inner.usize("absent").unwrap_err().to_string().contains("'absent' is missing"));
        assert!(Config::new("config.json", &json!([]), json!({})).is_err());
    }
}
