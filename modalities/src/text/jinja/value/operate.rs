//! Operators.

use super::super::ast::Binary;
use super::super::fault::{Class, Fault, Result, fault, type_error, unsupported, value_error};
use super::super::format::percent;
use super::super::meter::{Writer, room_for, spend, spend_bytes};
use super::super::run::State;
use super::super::strings::escape;
use super::{Iter, List, Range, Value, equal, room_for_items};

fn sign(operator: Binary) -> &'static str {
    match operator {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "** or pow()",
    }
}

fn mismatch(operator: Binary, a: &Value, b: &Value) -> Box<Fault> {
    type_error(format!(
        "unsupported operand type(s) for {}: '{}' and '{}'",
        sign(operator),
        a.type_name(),
        b.type_name()
    ))
}

fn too_large() -> Box<Fault> {
    unsupported("an integer of more than 127 bits")
}

/// `a operator b`.
pub(in super::super) fn binary(operator: Binary, a: &Value, b: &Value) -> Result<Value> {
    if let (Binary::Mod, Value::Str(text)) = (operator, a) {
        return text.like(percent(text, b)?);
    }
    if let (Value::Undefined(missing), _) | (_, Value::Undefined(missing)) = (a, b) {
        return Err(Value::misused(missing));
    }
    if let (Some(x), Some(y)) = (a.as_index(), b.as_index()) {
        return integers(operator, x, y);
    }
    if let (Some(x), Some(y)) = (a.as_float(), b.as_float()) {
        return floats(operator, x, y).map(Value::Float);
    }
    match (operator, a, b) {
        (Binary::Add, Value::Str(x), Value::Str(y)) => {
            let mut out = Writer::new();
            // What is escaped escapes what it is joined with.
            for part in [x, y] {
                match x.markup != y.markup && !part.markup {
                    true => escape(&mut out, &part.text)?,
                    false => out.push(&part.text)?,
                }
            }
            Value::text(out.finish(), x.markup || y.markup)
        }
        (Binary::Add, Value::Str(_), _) => {
            Err(type_error(format!("can only concatenate str (not \"{}\") to str", b.type_name())))
        }
        (Binary::Add, Value::List(x), Value::List(y)) => Value::list(joined(x, y)?),
        (Binary::Add, Value::Tuple(x), Value::Tuple(y)) => Value::tuple(joined(x, y)?),
        (Binary::Mul, _, _) => match (a.as_index(), b.as_index()) {
            (None, Some(times)) => repeat(operator, a, times, b),
            (Some(times), None) => repeat(operator, b, times, a),
            _ => Err(mismatch(operator, a, b)),
        },
        _ => Err(mismatch(operator, a, b)),
    }
}

fn joined(x: &List, y: &List) -> Result<Vec<Value>> {
    room_for_items(x.items.len().saturating_add(y.items.len()))?;
    Ok([x.items.as_slice(), y.items.as_slice()].concat())
}

/// A sequence so many times.
fn repeat(operator: Binary, of: &Value, times: i128, by: &Value) -> Result<Value> {
    let times = usize::try_from(times.max(0))
        .map_err(|_| fault(Class::Overflow, "cannot fit 'int' into an index"))?;
    let items = |list: &List| -> Result<Vec<Value>> {
        room_for_items(list.items.len().saturating_mul(times))?;
        let once = list.items.iter().cloned();
        Ok((0..if list.items.is_empty() { 0 } else { times }).flat_map(|_| once.clone()).collect())
    };
    match of {
        Value::Str(text) => {
            room_for(text.text.len(), times)?;
            text.like(text.text.repeat(if text.text.is_empty() { 0 } else { times }))
        }
        Value::List(list) => Value::list(items(list)?),
        Value::Tuple(list) => Value::tuple(items(list)?),
        _ => Err(mismatch(operator, of, by)),
    }
}

fn integers(operator: Binary, a: i128, b: i128) -> Result<Value> {
    let zero = |what: &str| fault(Class::ZeroDivision, what);
    Ok(Value::Int(match operator {
        Binary::Add => a.checked_add(b).ok_or_else(too_large)?,
        Binary::Sub => a.checked_sub(b).ok_or_else(too_large)?,
        Binary::Mul => a.checked_mul(b).ok_or_else(too_large)?,
        Binary::Div if b == 0 => return Err(zero("division by zero")),
        Binary::Div => return Ok(Value::Float(a as f64 / b as f64)),
        Binary::FloorDiv | Binary::Mod if b == 0 => return Err(zero("integer division or modulo by zero")),
        Binary::FloorDiv => {
            let quotient = a.checked_div(b).ok_or_else(too_large)?;
            if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
        }
        Binary::Mod => {
            let rest = a.checked_rem(b).unwrap_or(0);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        Binary::Pow if b >= 0 => match (a, u32::try_from(b)) {
            (0 | 1, _) => {
                if b == 0 {
                    1
                } else {
                    a
                }
            }
            (-1, _) => {
                if b % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            (_, Ok(b)) => a.checked_pow(b).ok_or_else(too_large)?,
            (_, Err(_)) => return Err(too_large()),
        },
        Binary::Pow => return floats(operator, a as f64, b as f64).map(Value::Float),
    }))
}

fn floats(operator: Binary, a: f64, b: f64) -> Result<f64> {
    let zero = |what: &str| fault(Class::ZeroDivision, what);
    Ok(match operator {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div | Binary::FloorDiv | Binary::Mod if b == 0.0 => {
            return Err(zero(if operator == Binary::Mod {
                "float modulo"
            } else {
                "float division by zero"
            }));
        }
        Binary::Div => a / b,
        Binary::Mod => {
            let rest = a % b;
            if rest == 0.0 {
                0.0f64.copysign(b)
            } else if (rest < 0.0) != (b < 0.0) {
                rest + b
            } else {
                rest
            }
        }
        Binary::FloorDiv => {
            // As CPython: from the rest, so that it agrees with it.
            let rest = a % b;
            let mut quotient = (a - rest) / b;
            if rest != 0.0 && (b < 0.0) != (rest < 0.0) {
                quotient -= 1.0;
            }
            if quotient == 0.0 {
                0.0f64.copysign(a / b)
            } else {
                let floor = quotient.floor();
                if quotient - floor > 0.5 { floor + 1.0 } else { floor }
            }
        }
        Binary::Pow => {
            if a == 0.0 && b < 0.0 {
                return Err(zero("0.0 cannot be raised to a negative power"));
            }
            if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
                return Err(unsupported("a complex number"));
            }
            let power = a.powf(b);
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                return Err(fault(Class::Overflow, "(34, 'Numerical result out of range')"));
            }
            power
        }
    })
}

/// `-a`.
pub(in super::super) fn negative(a: &Value) -> Result<Value> {
    match a {
        Value::Undefined(missing) => Err(Value::misused(missing)),
        Value::Float(value) => Ok(Value::Float(-value)),
        other => match other.as_index() {
            Some(value) => Ok(Value::Int(value.checked_neg().ok_or_else(too_large)?)),
            None => Err(type_error(format!("bad operand type for unary -: '{}'", a.type_name()))),
        },
    }
}

/// `+a`.
pub(in super::super) fn positive(a: &Value) -> Result<Value> {
    match a {
        Value::Undefined(missing) => Err(Value::misused(missing)),
        Value::Float(value) => Ok(Value::Float(*value)),
        other => match other.as_index() {
            Some(value) => Ok(Value::Int(value)),
            None => Err(type_error(format!("bad operand type for unary +: '{}'", a.type_name()))),
        },
    }
}

/// `item in all`.
pub(in super::super) fn contains(state: &mut State, all: &Value, item: &Value) -> Result<bool> {
    match all {
        Value::Str(text) => match item.as_str() {
            Some(part) => {
                spend_bytes(text.text.len())?;
                Ok(text.text.contains(part))
            }
            None => Err(type_error(format!(
                "'in <string>' requires string as left operand, not {}",
                item.type_name()
            ))),
        },
        Value::Dict(dict) | Value::View(dict, super::View::Keys) => Ok(dict.get(item)?.is_some()),
        Value::View(dict, super::View::Items) => {
            let Value::Tuple(pair) = item else { return Ok(false) };
            match pair.items.as_slice() {
                [name, value] => match dict.get(name)? {
                    Some(found) => equal(found, value),
                    None => Ok(false),
                },
                _ => Ok(false),
            }
        }
        Value::Range(range) => match item.as_index() {
            Some(n) => {
                let inside = if range.step > 0 {
                    (range.start..range.stop).contains(&n)
                } else {
                    n <= range.start && n > range.stop
                };
                Ok(inside && (n - range.start) % range.step == 0)
            }
            None => Ok(item.as_float().is_some_and(|f| {
                f.fract() == 0.0 && (0..range.len()).any(|i| range.at(i).as_float() == Some(f))
            })),
        },
        Value::List(list) | Value::Tuple(list) => {
            for other in &list.items {
                if other.same(item) || equal(other, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Undefined(missing) => missing.look().map(|()| false),
        Value::Iter(_) => {
            let mut iter = super::iterate(all)?;
            while let Some(other) = iter.next(state)? {
                if equal(&other, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        other => Err(type_error(format!("argument of type '{}' is not iterable", other.type_name()))),
    }
}

/// The indices that a slice picks from so many items, as Python's `slice.indices` counts them.
pub(in super::super) fn slice_indices(length: usize, parts: &[Value; 3]) -> Result<Range> {
    let index = |value: &Value| match value {
        Value::None => Ok(None),
        other => match other.as_index() {
            Some(index) => Ok(Some(index)),
            None => Err(type_error("slice indices must be integers or None or have an __index__ method")),
        },
    };
    let length = length as i128;
    let step = index(&parts[2])?.unwrap_or(1);
    if step == 0 {
        return Err(value_error("slice step cannot be zero"));
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let bound = |value: Option<i128>, default: i128| match value {
        None => default,
        Some(at) if at < 0 => at.saturating_add(length).max(low),
        Some(at) => at.min(high),
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (start, stop) = (bound(index(&parts[0])?, first), bound(index(&parts[1])?, last));
    let step = step.clamp(-(length + 1), length + 1);
    Ok(Range { start, stop, step })
}

/// `value[start:stop:step]`.
pub(in super::super) fn slice(value: &Value, parts: &[Value; 3]) -> Result<Value> {
    let pick = |list: &List| -> Result<Vec<Value>> {
        let range = slice_indices(list.items.len(), parts)?;
        room_for_items(range.len())?;
        let at = |i| range.start + range.step * i as i128;
        Ok((0..range.len()).filter_map(|i| list.items.get(at(i) as usize).cloned()).collect())
    };
    match value {
        Value::Undefined(missing) => Err(Value::misused(missing)),
        Value::List(list) => Value::list(pick(list)?),
        Value::Tuple(list) => Value::tuple(pick(list)?),
        Value::Str(text) => {
            spend(text.text.len() / 16)?;
            room_for(text.text.len(), 5)?;
            let characters: Vec<char> = text.text.chars().collect();
            let range = slice_indices(characters.len(), parts)?;
            let at = |i| (range.start + range.step * i as i128) as usize;
            text.like((0..range.len()).filter_map(|i| characters.get(at(i))).collect())
        }
        Value::Range(range) => {
            let picked = slice_indices(range.len(), parts)?;
            let at = |i: i128| range.start + range.step * i;
            let picked =
                Range { start: at(picked.start), stop: at(picked.stop), step: range.step * picked.step };
            Ok(Value::Range(picked.into()))
        }
        Value::Dict(_) => Err(type_error("unhashable type: 'slice'")),
        other => Err(type_error(format!("'{}' object is not subscriptable", other.type_name()))),
    }
}

/// All items of a value, as Python's `list` makes them.
pub(in super::super) fn collect(state: &mut State, value: &Value) -> Result<Vec<Value>> {
    drain(state, super::iterate(value)?)
}

/// All items that are left.
pub(in super::super) fn drain(state: &mut State, mut iter: Iter) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    while let Some(item) = iter.next(state)? {
        if items.len() == items.capacity() {
            room_for_items(items.len() + 1)?;
        }
        items.push(item);
    }
    Ok(items)
}
