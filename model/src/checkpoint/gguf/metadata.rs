//! The key-value pairs at the head of a GGUF file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::super::error::{Result, damaged, unsupported};
use super::super::source::{Fields, Source};
use super::write::{self, Given};

/// The type of a value, or of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::Text,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    fn parse(fields: &mut Fields, key: &str) -> Result<ValueType> {
        let number = fields.u32("a value's type")?;
        let known = ValueType::ALL.get(number as usize).copied();
        known.ok_or_else(|| {
            damaged(fields.path(), format!("key '{key}' is of type {number}, which does not exist"))
        })
    }

    /// The format's number of the type.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// Bytes of a value; of a text, the bytes of its length.
    fn width(self) -> usize {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::Text | ValueType::Array => 8,
        }
    }
}

/// One value. Arrays stay in the file until somebody wants them: a vocabulary is most of a header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Array { of: ValueType, count: usize, bytes: Range<usize> },
}

impl Value {
    fn parse(fields: &mut Fields, ty: ValueType, key: &str) -> Result<Value> {
        if ty == ValueType::Text {
            let length = fields.u64("a text's length")?;
            return Ok(Value::Text(fields.text(length, &format!("the value of '{key}'"))?.to_string()));
        }
        if ty == ValueType::Array {
            return Value::array(fields, key);
        }
        Ok(Value::number(ty, fields.take(ty.width() as u64, &format!("the value of '{key}'"))?))
    }

    fn array(fields: &mut Fields, key: &str) -> Result<Value> {
        let of = ValueType::parse(fields, key)?;
        if of == ValueType::Array {
            return Err(unsupported(fields.path(), format!("key '{key}' is an array of arrays")));
        }
        let count = fields.u64("an array's length")?;
        let count = fields.bounded(count, of.width() as u64, &format!("elements of '{key}'"))?;
        let start = fields.position();
        if of == ValueType::Text {
            for _ in 0..count {
                let length = fields.u64("a text's length")?;
                fields.take(length, &format!("a text of '{key}'"))?;
            }
        } else {
            fields.take((count * of.width()) as u64, &format!("the elements of '{key}'"))?;
        }
        Ok(Value::Array { of, count, bytes: start..fields.position() })
    }

    /// A number from its bytes, as many as the type is wide.
    fn number(ty: ValueType, bytes: &[u8]) -> Value {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(word);
        let shift = 64 - 8 * bytes.len() as u32;
        match ty {
            ValueType::F32 => Value::Float(shortest(f32::from_bits(unsigned as u32))),
            ValueType::F64 => Value::Float(f64::from_bits(unsigned)),
            ValueType::Bool => Value::Bool(unsigned != 0),
            ValueType::I8 | ValueType::I16 | ValueType::I32 | ValueType::I64 => {
                Value::Signed((unsigned << shift) as i64 >> shift)
            }
            _ => Value::Unsigned(unsigned),
        }
    }

    /// A whole number that is not negative.
    pub fn unsigned(&self) -> Option<u64> {
        match *self {
            Value::Unsigned(v) => Some(v),
            Value::Signed(v) => u64::try_from(v).ok(),
            _ => None,
        }
    }

    /// Any number.
    pub fn float(&self) -> Option<f64> {
        match *self {
            Value::Unsigned(v) => Some(v as f64),
            Value::Signed(v) => Some(v as f64),
            Value::Float(v) => Some(v),
            _ => None,
        }
    }
}

/// The f64 that reads like the f32: 1e-5 instead of 9.999999747378752e-6. Both round to the same f32.
fn shortest(v: f32) -> f64 {
    v.to_string().parse().unwrap_or(f64::from(v))
}

/// Every key of a file.
pub(crate) struct Metadata {
    source: Arc<Source>,
    /// Each with the bytes that it takes in the file, type first.
    values: BTreeMap<String, (Value, Range<usize>)>,
}

impl Metadata {
    /// Read this many pairs.
    pub fn parse(source: &Arc<Source>, fields: &mut Fields, count: u64) -> Result<Metadata> {
        let mut values = BTreeMap::new();
        // A key's length, a type, and a value of one byte.
        for _ in 0..fields.bounded(count, 8 + 4 + 1, "keys")? {
            let length = fields.u64("a key's length")?;
            let key = fields.text(length, "a key")?.to_string();
            let start = fields.position();
            let ty = ValueType::parse(fields, &key)?;
            let value = Value::parse(fields, ty, &key)?;
            if values.insert(key.clone(), (value, start..fields.position())).is_some() {
                return Err(damaged(source.path(), format!("key '{key}' is there twice")));
            }
        }
        Ok(Metadata { source: source.clone(), values })
    }

    /// The keys of a file that is still to be written.
    pub fn of(keys: &[(String, Given)]) -> Result<Metadata> {
        let mut bytes = Vec::new();
        keys.iter().for_each(|(key, value)| write::pair(&mut bytes, key, value));
        let source = Source::memory("a new GGUF file", bytes);
        Metadata::parse(&source, &mut Fields::new(&source), keys.len() as u64)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Every key with the bytes of its value, type first, as they lie in the file.
    pub fn raw(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let bytes = self.source.bytes();
        self.values.iter().map(|(k, (_, at))| (k.as_str(), bytes.get(at.clone()).unwrap_or_default()))
    }

    /// A value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|(value, _)| value)
    }

    /// The keys of numbers that are not finite.
    pub fn not_finite(&self) -> impl Iterator<Item = &str> {
        let keys =
            self.values.iter().filter(|(_, (value, _))| matches!(value, Value::Float(v) if !v.is_finite()));
        keys.map(|(key, _)| key.as_str())
    }

    /// A whole number that is not negative; `None` where the key is absent or something else.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        self.get(key)?.unsigned()
    }

    /// A truth value; `None` where the key is absent or something else.
    pub fn bool(&self, key: &str) -> Option<bool> {
        if let Value::Bool(v) = self.get(key)? { Some(*v) } else { None }
    }

    /// A text; an error where the key is something else.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(damaged(self.path(), format!("key '{key}' is no text"))),
        }
    }

    /// The elements of an array of numbers, none where the key is absent; an error for more than `cap`.
    pub fn numbers(&self, key: &str, cap: usize) -> Result<Vec<Value>> {
        let Some((of, count, bytes)) = self.array(key, cap)? else { return Ok(Vec::new()) };
        if of == ValueType::Text {
            return Err(damaged(self.path(), format!("key '{key}' is no array of numbers")));
        }
        let mut fields = Fields::at(&self.source, bytes.start);
        (0..count).map(|_| Value::parse(&mut fields, of, key)).collect()
    }

    /// The elements of an array of texts, none where the key is absent; an error for more than `cap`.
    pub fn texts(&self, key: &str, cap: usize) -> Result<Vec<String>> {
        let Some((of, count, bytes)) = self.array(key, cap)? else { return Ok(Vec::new()) };
        if of != ValueType::Text {
            return Err(damaged(self.path(), format!("key '{key}' is no array of texts")));
        }
        let mut fields = Fields::at(&self.source, bytes.start);
        let mut one = || {
            let length = fields.u64("a text's length")?;
            fields.text(length, &format!("a text of '{key}'")).map(str::to_string)
        };
        (0..count).map(|_| one()).collect()
    }

    fn array(&self, key: &str, cap: usize) -> Result<Option<(ValueType, usize, Range<usize>)>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array { count, .. }) if *count > cap => {
                Err(damaged(self.path(), format!("key '{key}' has {count} elements, more than {cap}")))
            }
            Some(Value::Array { of, count, bytes }) => Ok(Some((*of, *count, bytes.clone()))),
            Some(_) => Err(damaged(self.path(), format!("key '{key}' is no array"))),
        }
    }
}
