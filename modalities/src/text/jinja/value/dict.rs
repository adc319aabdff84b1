//! Dictionaries in the order of their keys' first mention.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::fault::{Result, type_error};
use super::super::meter::{Charge, spend, spend_bytes};
use super::{Value, above};

/// What makes two keys equal: `1`, `1.0` and `True` are one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    None,
    Undefined,
    Int(i128),
    Float(u64),
    Str(Rc<str>),
    Tuple(Vec<Key>),
    Range(i128, i128, i128),
    /// Anything else by its place in memory.
    Other(usize),
}

/// A dictionary; it never changes once it is a value.
#[derive(Debug)]
pub(in super::super) struct Dict {
    entries: Vec<(Value, Value)>,
    places: HashMap<Key, usize>,
    depth: usize,
    charge: Option<Charge>,
}

fn key(value: &Value) -> Result<Key> {
    spend(1)?;
    Ok(match value {
        Value::None => Key::None,
        Value::Undefined(missing) => {
            missing.look()?;
            Key::Undefined
        }
        Value::Bool(value) => Key::Int(*value as i128),
        Value::Int(value) => Key::Int(*value),
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e30 => Key::Int(*value as i128),
        Value::Float(value) => Key::Float(value.to_bits()),
        Value::Str(text) => {
            spend_bytes(text.text.len())?;
            Key::Str(text.text.as_ref().into())
        }
        Value::Tuple(list) => Key::Tuple(list.items.iter().map(key).collect::<Result<_>>()?),
        Value::List(_) | Value::Dict(_) | Value::View(..) => {
            return Err(type_error(format!("unhashable type: '{}'", value.type_name())));
        }
        Value::Range(range) => Key::Range(range.start, range.stop, range.step),
        Value::Iter(of) => Key::Other(Rc::as_ptr(of) as *const u8 as usize),
        Value::Namespace(of) => Key::Other(Rc::as_ptr(of) as *const u8 as usize),
        Value::Cycler(of) => Key::Other(Rc::as_ptr(of) as *const u8 as usize),
        Value::Joiner(of) => Key::Other(Rc::as_ptr(of) as *const u8 as usize),
        Value::Loop(of) => Key::Other(Rc::as_ptr(of) as *const u8 as usize),
        Value::Macro(of) => Key::Other(Rc::as_ptr(of) as *const u8 as usize),
        Value::Method(of) => Key::Other(Rc::as_ptr(of) as *const u8 as usize),
        Value::Global(of) => Key::Other(*of as usize),
    })
}

impl Dict {
    pub(in super::super) fn new() -> Dict {
        Dict { entries: Vec::new(), places: HashMap::new(), depth: 1, charge: None }
    }

    /// Sets a key, before the dictionary is a value.
    pub(in super::super) fn insert(&mut self, name: Value, value: Value) -> Result<()> {
        let key = key(&name)?;
        self.depth = self.depth.max(above([&name, &value].into_iter())?);
        if let Some(&at) = self.places.get(&key) {
            self.entries[at].1 = value;
            return Ok(());
        }
        // An entry, its key again, and the table's slot.
        let bytes = 2 * size_of::<Value>() + 64 + name.as_str().map_or(0, str::len);
        match &mut self.charge {
            Some(charge) => charge.grow(bytes)?,
            None => self.charge = Some(Charge::new(bytes)?),
        }
        self.places.insert(key, self.entries.len());
        self.entries.push((name, value));
        Ok(())
    }

    pub(in super::super) fn finish(self) -> Result<Value> {
        Ok(Value::Dict(Rc::new(self)))
    }

    pub(in super::super) fn get(&self, name: &Value) -> Result<Option<&Value>> {
        Ok(self.places.get(&key(name)?).map(|&at| &self.entries[at].1))
    }

    pub(in super::super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(in super::super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }
}

/// Values without those equal to one before.
#[derive(Default)]
pub(in super::super) struct Seen(std::collections::HashSet<Key>);

impl Seen {
    /// Whether a value is new.
    pub(in super::super) fn add(&mut self, value: &Value) -> Result<bool> {
        Ok(self.0.insert(key(value)?))
    }
}
