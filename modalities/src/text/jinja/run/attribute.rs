//! Rendering: `a.b` and `a['b']`, as the sandbox looks them up.

use super::super::fault::{Class, Result};
use super::super::meter::spend;
use super::super::methods;
use super::super::value::{LoopState, Missing, Value};
use super::State;
use std::rc::Rc;

impl State<'_> {
    /// `of.name`: what Python has under that name comes before an item.
    pub(in super::super) fn attribute(&mut self, of: &Value, name: &str) -> Result<Value> {
        if let Some(value) = self.python_attribute(of, name)? {
            return Ok(value);
        }
        if let Some(value) = self.subscript(of, &Value::str(name)?)? {
            return Ok(value);
        }
        Ok(self.absent(of, name))
    }

    /// What the filter `attr` gives: only what Python has under that name.
    pub(in super::super) fn own_attribute(&mut self, of: &Value, name: &str) -> Result<Value> {
        Ok(self.python_attribute(of, name)?.unwrap_or_else(|| self.absent(of, name)))
    }

    /// `of[at]`: an item comes before what Python has under that name.
    pub(in super::super) fn item(&mut self, of: &Value, at: &Value) -> Result<Value> {
        if let Some(value) = self.subscript(of, at)? {
            return Ok(value);
        }
        let Some(name) = at.as_str() else {
            return Ok(self.undefined(format!("{} has no element {}", of.type_name(), describe(at))));
        };
        match self.python_attribute(of, name)? {
            Some(value) => Ok(value),
            None => Ok(self.absent(of, name)),
        }
    }

    /// `of[at]`, or `None` where Python raises a `TypeError` or a `LookupError`.
    fn subscript(&mut self, of: &Value, at: &Value) -> Result<Option<Value>> {
        let place = |length: usize| {
            let at = at.as_index()?;
            let at = if at < 0 { at + length as i128 } else { at };
            usize::try_from(at).ok().filter(|&at| at < length)
        };
        Ok(match of {
            Value::Undefined(missing) => return Err(Value::misused(missing)),
            Value::Dict(dict) => match dict.get(at) {
                Ok(value) => value.cloned(),
                Err(error) if error.class == Class::Type => None,
                Err(error) => return Err(error),
            },
            Value::List(list) | Value::Tuple(list) => {
                place(list.items.len()).map(|at| list.items[at].clone())
            }
            Value::Range(range) => place(range.len()).map(|at| range.at(at)),
            Value::Str(text) if at.as_index().is_some() => {
                spend(text.text.len() / 64)?;
                let length = text.text.chars().count();
                match place(length).and_then(|at| text.text.chars().nth(at)) {
                    Some(c) => Some(text.like(c.to_string())?),
                    None => None,
                }
            }
            _ => None,
        })
    }

    /// What Python's `getattr` finds, as far as the sandbox lets it through.
    fn python_attribute(&mut self, of: &Value, name: &str) -> Result<Option<Value>> {
        if name.starts_with("__") && name.ends_with("__") && methods::dunder(of, name) {
            return Ok(Some(self.unsafe_attribute(of, name)));
        }
        Ok(match of {
            Value::Undefined(missing) => return Err(Value::misused(missing)),
            Value::Namespace(namespace) => {
                let values = namespace.values.borrow();
                values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }
            Value::Loop(looping) => {
                let looping = looping.clone();
                self.loop_attribute(&looping, of, name)?
            }
            Value::Macro(closure) => {
                let node = &closure.node;
                Some(match name {
                    "name" => match &node.name {
                        Some(name) => Value::str(name.as_str())?,
                        None => Value::None,
                    },
                    "arguments" => {
                        let names = node.parameters.iter().map(|(_, name)| Value::str(name.as_str()));
                        Value::tuple(names.collect::<Result<_>>()?)?
                    }
                    "catch_kwargs" => Value::Bool(node.kwargs.is_some()),
                    "catch_varargs" => Value::Bool(node.varargs.is_some()),
                    "caller" => Value::Bool(node.caller.is_some()),
                    "explicit_caller" => {
                        Value::Bool(node.parameters.iter().any(|(_, name)| name == "caller"))
                    }
                    _ => return Ok(None),
                })
            }
            Value::Cycler(cycler) => match name {
                "current" => Some(cycler.items.items[cycler.at.get()].clone()),
                "pos" => Some(Value::Int(cycler.at.get() as i128)),
                "items" => Some(Value::Tuple(cycler.items.clone())),
                "next" | "reset" => Some(self.method(of, name)),
                _ => None,
            },
            Value::Joiner(joiner) => match name {
                "sep" => Some(joiner.0.clone()),
                "used" => Some(Value::Bool(joiner.1.get())),
                _ => None,
            },
            Value::Tuple(list) if list.names.contains(&name) => {
                let at = list.names.iter().position(|known| *known == name).unwrap_or(0);
                list.items.get(at).cloned()
            }
            Value::Int(_) | Value::Bool(_) if matches!(name, "real" | "numerator") => {
                Some(Value::Int(of.as_index().unwrap_or(0)))
            }
            Value::Int(_) | Value::Bool(_) if name == "imag" => Some(Value::Int(0)),
            Value::Int(_) | Value::Bool(_) if name == "denominator" => Some(Value::Int(1)),
            Value::Float(value) if name == "real" => Some(Value::Float(*value)),
            Value::Float(_) if name == "imag" => Some(Value::Float(0.0)),
            Value::Range(range) => match name {
                "start" => Some(Value::Int(range.start)),
                "stop" => Some(Value::Int(range.stop)),
                "step" => Some(Value::Int(range.step)),
                "count" | "index" => Some(self.method(of, name)),
                _ => None,
            },
            _ if methods::modifies(of, name) => Some(self.unsafe_attribute(of, name)),
            _ if methods::exists(of, name) => Some(self.method(of, name)),
            _ => None,
        })
    }

    fn loop_attribute(&mut self, looping: &Rc<LoopState>, of: &Value, name: &str) -> Result<Option<Value>> {
        let index0 = looping.inner.borrow().index0;
        Ok(Some(match name {
            "index" => Value::Int(index0 + 1),
            "index0" => Value::Int(index0),
            "depth" => Value::Int(looping.depth0 as i128 + 1),
            "depth0" => Value::Int(looping.depth0 as i128),
            "first" => Value::Bool(index0 == 0),
            "last" => Value::Bool(looping.peek(self)?.is_none()),
            "length" => Value::Int(looping.length(self)? as i128),
            "revindex" => Value::Int(looping.length(self)? as i128 - index0),
            "revindex0" => Value::Int(looping.length(self)? as i128 - index0 - 1),
            "previtem" => match &looping.inner.borrow().before {
                Some(value) if index0 > 0 => value.clone(),
                _ => self.undefined("there is no previous item"),
            },
            "nextitem" => looping.peek(self)?.unwrap_or_else(|| self.undefined("there is no next item")),
            "cycle" | "changed" => self.method(of, name),
            _ => return Ok(None),
        }))
    }

    /// The undefined value of an attribute that is not there.
    fn absent(&self, of: &Value, name: &str) -> Value {
        self.undefined(format!("'{} object' has no attribute '{name}'", of.type_name()))
    }

    /// A value that may not be touched, as the sandbox has it.
    fn unsafe_attribute(&self, of: &Value, name: &str) -> Value {
        let why = format!("access to attribute '{name}' of '{}' object is unsafe.", of.type_name());
        Value::Undefined(Rc::new(Missing { why, class: Class::Security, strict: self.strict }))
    }
}

/// A short text of an index in an error.
fn describe(at: &Value) -> String {
    match at {
        Value::Int(at) => at.to_string(),
        other => format!("of type {}", other.type_name()),
    }
}
