//! Python's methods of strings, lists, dictionaries and numbers.

mod text;

pub(super) use text::{replaced, stripped};

use super::fault::{Class, Result, fault, type_error, unsupported, value_error};
use super::run::State;
use super::run::arguments::{Args, integer};
use super::value::{Dict, Global, Value, View, equal};

/// Attributes that every Python object has, which the sandbox does not let through.
const DUNDERS: [&str; 26] = [
    "__class__",
    "__doc__",
    "__dir__",
    "__delattr__",
    "__eq__",
    "__format__",
    "__ge__",
    "__getattribute__",
    "__getstate__",
    "__gt__",
    "__hash__",
    "__init__",
    "__init_subclass__",
    "__le__",
    "__lt__",
    "__module__",
    "__ne__",
    "__new__",
    "__reduce__",
    "__reduce_ex__",
    "__repr__",
    "__setattr__",
    "__sizeof__",
    "__str__",
    "__subclasshook__",
    "__dict__",
];
/// Those of most containers and numbers as well.
const MORE_DUNDERS: [&str; 14] = [
    "__add__",
    "__bool__",
    "__call__",
    "__contains__",
    "__getitem__",
    "__int__",
    "__iter__",
    "__len__",
    "__mod__",
    "__mul__",
    "__rmul__",
    "__setitem__",
    "__globals__",
    "__self__",
];

/// Whether Python has such an attribute between double underscores.
pub(super) fn dunder(of: &Value, name: &str) -> bool {
    let has = DUNDERS.contains(&name);
    match of {
        Value::Undefined(_) => has && name != "__dict__" && name != "__module__",
        Value::None => has && !matches!(name, "__dict__" | "__module__"),
        Value::Str(_)
        | Value::List(_)
        | Value::Dict(_)
        | Value::Tuple(_)
        | Value::Int(_)
        | Value::Bool(_)
        | Value::Float(_) => {
            (has && !matches!(name, "__dict__" | "__module__")) || MORE_DUNDERS[..12].contains(&name)
        }
        _ => has || MORE_DUNDERS.contains(&name),
    }
}

/// Whether a method would change its value, which the sandbox forbids.
pub(super) fn modifies(of: &Value, name: &str) -> bool {
    match of {
        Value::List(_) => {
            matches!(name, "append" | "clear" | "pop" | "reverse" | "insert" | "sort" | "extend" | "remove")
        }
        Value::Dict(_) => matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update"),
        _ => false,
    }
}

/// Whether a value has a method.
pub(super) fn exists(of: &Value, name: &str) -> bool {
    match of {
        Value::Str(_) => text::exists(name),
        Value::List(_) => matches!(name, "count" | "index" | "copy"),
        Value::Tuple(_) => matches!(name, "count" | "index"),
        Value::Dict(_) => matches!(name, "get" | "keys" | "values" | "items" | "copy" | "fromkeys"),
        Value::Global(Global::Dict) => name == "fromkeys",
        Value::View(_, view) => name == "mapping" || (*view != View::Values && name == "isdisjoint"),
        Value::Int(_) | Value::Bool(_) => matches!(
            name,
            "bit_length" | "bit_count" | "conjugate" | "as_integer_ratio" | "to_bytes" | "from_bytes"
        ),
        Value::Float(_) => {
            matches!(name, "is_integer" | "conjugate" | "as_integer_ratio" | "hex" | "fromhex")
        }
        Value::Iter(_) => matches!(name, "send" | "throw" | "close"),
        _ => false,
    }
}

/// Calls a method.
pub(super) fn call(state: &mut State, of: &Value, name: &str, args: Args) -> Result<Value> {
    match (of, name) {
        (Value::Str(text), _) => text::call(state, text, name, args),
        (Value::List(list) | Value::Tuple(list), "count") => {
            let [item] = args.positional(name, 1)?;
            let item = item.unwrap_or(Value::None);
            let mut count = 0;
            for other in &list.items {
                count += (other.same(&item) || equal(other, &item)?) as i128;
            }
            Ok(Value::Int(count))
        }
        (Value::List(list) | Value::Tuple(list), "index") => {
            let [item, start, stop] = args.positional(name, 1)?;
            let item = item.unwrap_or(Value::None);
            let length = list.items.len() as i128;
            let place = |value: Option<Value>, default: i128| -> Result<usize> {
                let at = value.map_or(Ok(default), |value| integer(&value))?;
                Ok((if at < 0 { at.saturating_add(length) } else { at }).clamp(0, length) as usize)
            };
            let (start, stop) = (place(start, 0)?, place(stop, length)?);
            for at in start..stop {
                if list.items[at].same(&item) || equal(&list.items[at], &item)? {
                    return Ok(Value::Int(at as i128));
                }
            }
            Err(value_error(format!("the value is not in {}", of.type_name())))
        }
        (Value::List(list), "copy") => {
            let [] = args.positional(name, 0)?;
            Value::list(list.items.clone())
        }
        (Value::Dict(dict), "copy") => {
            let [] = args.positional(name, 0)?;
            Ok(Value::Dict(dict.clone()))
        }
        (Value::Dict(dict), "get") => {
            let [key, default] = args.positional(name, 1)?;
            let found = dict.get(&key.unwrap_or(Value::None))?.cloned();
            Ok(found.or(default).unwrap_or(Value::None))
        }
        (Value::Dict(dict), "keys" | "values" | "items") => {
            let [] = args.positional(name, 0)?;
            let view = match name {
                "keys" => View::Keys,
                "values" => View::Values,
                _ => View::Items,
            };
            Ok(Value::View(dict.clone(), view))
        }
        (Value::Dict(_) | Value::Global(Global::Dict), "fromkeys") => {
            let [keys, value] = args.positional(name, 1)?;
            let value = value.unwrap_or(Value::None);
            let mut dict = Dict::new();
            for key in super::value::collect(state, &keys.unwrap_or(Value::None))? {
                dict.insert(key, value.clone())?;
            }
            dict.finish()
        }
        (Value::Range(range), "count" | "index") => {
            let [item] = args.positional(name, 1)?;
            let item = item.unwrap_or(Value::None);
            let inside = super::value::contains(state, of, &item)?;
            match (name, item.as_index()) {
                ("count", _) => Ok(Value::Int(inside as i128)),
                (_, Some(n)) if inside => Ok(Value::Int((n - range.start) / range.step)),
                _ => Err(value_error("the value is not in range")),
            }
        }
        (Value::Cycler(cycler), "next") => {
            let [] = args.positional(name, 0)?;
            let at = cycler.at.get();
            cycler.at.set((at + 1) % cycler.items.items.len());
            Ok(cycler.items.items[at].clone())
        }
        (Value::Cycler(cycler), "reset") => {
            let [] = args.positional(name, 0)?;
            cycler.at.set(0);
            Ok(Value::None)
        }
        (Value::Loop(looping), "cycle") => {
            if !args.named.is_empty() {
                return Err(type_error("cycle() got an unexpected keyword argument"));
            }
            if args.list.is_empty() {
                return Err(type_error("no items for cycling given"));
            }
            let index0 = looping.inner.borrow().index0.max(0) as usize;
            Ok(args.list[index0 % args.list.len()].clone())
        }
        (Value::Loop(looping), "changed") => {
            if !args.named.is_empty() {
                return Err(type_error("changed() got an unexpected keyword argument"));
            }
            let value = Value::tuple(args.list)?;
            let before = looping.inner.borrow().changed.clone();
            let same = before.map_or(Ok(false), |before| equal(&before, &value))?;
            if !same {
                looping.inner.borrow_mut().changed = Some(value);
            }
            Ok(Value::Bool(!same))
        }
        (Value::Int(_) | Value::Bool(_), "bit_length" | "bit_count" | "conjugate") => {
            let [] = args.positional(name, 0)?;
            let n = of.as_index().unwrap_or(0);
            Ok(Value::Int(match name {
                "bit_length" => (u128::BITS - n.unsigned_abs().leading_zeros()) as i128,
                "bit_count" => n.unsigned_abs().count_ones() as i128,
                _ => n,
            }))
        }
        (Value::Int(_) | Value::Bool(_), "as_integer_ratio") => {
            let [] = args.positional(name, 0)?;
            Value::tuple(vec![Value::Int(of.as_index().unwrap_or(0)), Value::Int(1)])
        }
        (Value::Float(value), "is_integer") => {
            let [] = args.positional(name, 0)?;
            Ok(Value::Bool(value.is_finite() && value.fract() == 0.0))
        }
        (Value::Float(value), "conjugate") => {
            let [] = args.positional(name, 0)?;
            Ok(Value::Float(*value))
        }
        (Value::None, _) => Err(fault(Class::Type, format!("None has no method {name}"))),
        _ => Err(unsupported(format!("the method {name} of {}", of.type_name()))),
    }
}
