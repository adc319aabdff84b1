//! Equality and order.

use std::cmp::Ordering;
use std::rc::Rc;

use super::super::fault::{Class, Result, fault, type_error};
use super::super::meter::spend;
use super::{Value, View};

/// Levels that are compared within one another; values themselves are no deeper.
const DEEPEST: usize = super::super::meter::DEEPEST + 1;

/// `a == b`.
pub(in super::super) fn equal(a: &Value, b: &Value) -> Result<bool> {
    equal_at(a, b, DEEPEST)
}

fn equal_at(a: &Value, b: &Value, depth: usize) -> Result<bool> {
    spend(1)?;
    let depth = depth.checked_sub(1).ok_or_else(|| fault(Class::Limit, "values are nested too deeply"))?;
    if let (Value::Undefined(missing), _) | (_, Value::Undefined(missing)) = (a, b) {
        missing.look()?;
    }
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(a), Value::Str(b)) => {
            spend(a.text.len().min(b.text.len()) / 64)?;
            a.text == b.text
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            if a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal_at(a, b, depth)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (name, value) in a.entries() {
                match b.get(name)? {
                    Some(other) if equal_at(value, other, depth)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::View(a, View::Keys), Value::View(b, View::Keys)) => {
            let mut same = a.len() == b.len();
            for (name, _) in a.entries() {
                same &= b.get(name)?.is_some();
            }
            same
        }
        (Value::View(a, View::Items), Value::View(b, View::Items)) => {
            return equal_at(&Value::Dict(a.clone()), &Value::Dict(b.clone()), depth);
        }
        (Value::View(a, x), Value::View(b, y)) => x == y && Rc::ptr_eq(a, b),
        (Value::Range(a), Value::Range(b)) => {
            let n = a.len();
            n == b.len() && (n == 0 || (a.start == b.start && (n == 1 || a.step == b.step)))
        }
        (Value::Iter(a), Value::Iter(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Cycler(a), Value::Cycler(b)) => Rc::ptr_eq(a, b),
        (Value::Joiner(a), Value::Joiner(b)) => Rc::ptr_eq(a, b),
        (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Method(a), Value::Method(b)) => a.1 == b.1 && a.0.same(&b.0),
        (Value::Global(a), Value::Global(b)) => a == b,
        _ => numbers(a, b) == Some(Ordering::Equal),
    })
}

/// The order of two numbers; `None` where one is not a number or NaN.
fn numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match (a.as_index(), b.as_index()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => int_float(a, b.as_float()?),
        (None, Some(b)) => int_float(b, a.as_float()?).map(Ordering::reverse),
        (None, None) => a.as_float()?.partial_cmp(&b.as_float()?),
    }
}

/// Exact although a float cannot hold every integer.
fn int_float(int: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float.abs() >= 1e38 {
        return Some(if float > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = float.trunc();
    let by_whole = int.cmp(&(whole as i128));
    Some(by_whole.then_with(|| 0.0f64.partial_cmp(&(float - whole)).unwrap_or(Ordering::Equal)))
}

/// The order of two values, `None` with NaN; `sign` names the operator in the error.
pub(in super::super) fn ordered(a: &Value, b: &Value, sign: &str) -> Result<Option<Ordering>> {
    ordered_at(a, b, sign, DEEPEST)
}

fn ordered_at(a: &Value, b: &Value, sign: &str, depth: usize) -> Result<Option<Ordering>> {
    spend(1)?;
    let depth = depth.checked_sub(1).ok_or_else(|| fault(Class::Limit, "values are nested too deeply"))?;
    match (a, b) {
        (Value::Undefined(missing), _) | (_, Value::Undefined(missing)) => Err(Value::misused(missing)),
        (Value::Str(a), Value::Str(b)) => {
            spend(a.text.len().min(b.text.len()) / 64)?;
            Ok(Some(a.text.cmp(&b.text)))
        }
        (Value::List(x), Value::List(y)) | (Value::Tuple(x), Value::Tuple(y)) => {
            for (a, b) in x.items.iter().zip(&y.items) {
                if !equal_at(a, b, depth)? {
                    return ordered_at(a, b, sign, depth);
                }
            }
            Ok(Some(x.items.len().cmp(&y.items.len())))
        }
        _ if a.as_float().is_some() && b.as_float().is_some() => Ok(numbers(a, b)),
        _ => Err(type_error(format!(
            "'{sign}' not supported between instances of '{}' and '{}'",
            a.type_name(),
            b.type_name()
        ))),
    }
}

/// `a < b`.
pub(in super::super) fn less(a: &Value, b: &Value) -> Result<bool> {
    Ok(ordered(a, b, "<")? == Some(Ordering::Less))
}
