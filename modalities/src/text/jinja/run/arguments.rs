//! Arguments of a call.

use super::super::fault::{Result, type_error};
use super::super::value::Value;

/// Values by place and by name.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Args {
    pub(in super::super) list: Vec<Value>,
    pub(in super::super) named: Vec<(String, Value)>,
}

impl Args {
    /// With a value before the others, as a filter gets it.
    pub(in super::super) fn before(mut self, value: Value) -> Args {
        self.list.insert(0, value);
        self
    }

    pub(in super::super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.list.iter().chain(self.named.iter().map(|(_, value)| value))
    }

    /// Takes a named argument.
    pub(in super::super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(known, _)| known == name)?;
        Some(self.named.remove(at).1)
    }

    /// The values of a Python function's parameters, the first `required` of which must be given.
    pub(in super::super) fn bind<const N: usize>(
        self,
        what: &str,
        names: [&str; N],
        required: usize,
    ) -> Result<[Option<Value>; N]> {
        if self.list.len() > N {
            let given = self.list.len();
            return Err(type_error(format!(
                "{what}() takes {N} positional arguments but {given} were given"
            )));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.list) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let Some(at) = names.iter().position(|known| *known == name) else {
                return Err(type_error(format!("{what}() got an unexpected keyword argument '{name}'")));
            };
            if bound[at].replace(value).is_some() {
                return Err(type_error(format!("{what}() got multiple values for argument '{name}'")));
            }
        }
        if let Some(missing) = (0..required.min(N)).find(|&i| bound[i].is_none()) {
            let name = names[missing];
            return Err(type_error(format!("{what}() missing 1 required positional argument: '{name}'")));
        }
        Ok(bound)
    }

    /// As [`Args::bind`], for a function written in C, whose parameters have no names.
    pub(in super::super) fn positional<const N: usize>(
        self,
        what: &str,
        required: usize,
    ) -> Result<[Option<Value>; N]> {
        if !self.named.is_empty() {
            return Err(type_error(format!("{what}() takes no keyword arguments")));
        }
        self.bind(what, [""; N], required)
    }
}

/// A count or width.
pub(in super::super) fn integer(value: &Value) -> Result<i128> {
    match value {
        Value::Undefined(missing) => Err(Value::misused(missing)),
        other => other.as_index().ok_or_else(|| {
            type_error(format!("'{}' object cannot be interpreted as an integer", value.type_name()))
        }),
    }
}
