//! Filters that give numbers.

use super::super::ast::Binary;
use super::super::fault::{Class, Result, fault, type_error, unsupported, value_error};
use super::super::format::{fixed, round_to};
use super::super::lex::is_space;
use super::super::run::State;
use super::super::run::arguments::{Args, integer};
use super::super::value::{Value, binary, iterate, negative};
use super::{path, truth};

pub(super) fn apply(state: &mut State, name: &str, value: Value, args: Args) -> Result<Value> {
    match name {
        "abs" => {
            let [] = args.positional("abs", 0)?;
            match &value {
                Value::Float(f) => Ok(Value::Float(f.abs())),
                other => match other.as_index() {
                    Some(n) if n < 0 => negative(&Value::Int(n)),
                    Some(n) => Ok(Value::Int(n)),
                    None => Err(type_error(format!("bad operand type for abs(): '{}'", value.type_name()))),
                },
            }
        }
        "int" => {
            let [default, base] = args.bind("do_int", ["default", "base"], 0)?;
            let base = base.map_or(Ok(10), |base| integer(&base))?;
            let found = match &value {
                Value::Undefined(missing) => return Err(Value::misused(missing)),
                Value::Float(f) if f.is_infinite() => {
                    return Err(fault(Class::Overflow, "cannot convert float infinity to integer"));
                }
                Value::Float(f) => whole(*f)?,
                Value::Str(text) => match parse_integer(&text.text, base)? {
                    Some(n) => Some(n),
                    None => parse_float(&text.text).map_or(Ok(None), whole)?,
                },
                other => other.as_index(),
            };
            Ok(found.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
        }
        "float" => {
            let [default] = args.bind("do_float", ["default"], 0)?;
            let found = match &value {
                Value::Undefined(missing) => return Err(Value::misused(missing)),
                Value::Str(text) => parse_float(&text.text),
                other => other.as_float(),
            };
            Ok(found.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
        }
        "round" => round(value, args),
        "filesizeformat" => file_size(&value, args),
        _ => {
            let [attribute, start] = args.bind("do_sum", ["attribute", "start"], 0)?;
            let path = path(attribute.as_ref())?;
            let mut sum = start.unwrap_or(Value::Int(0));
            if matches!(sum, Value::Str(_)) {
                return Err(type_error("sum() can't sum strings [use ''.join(seq) instead]"));
            }
            let mut iter = iterate(&value)?;
            while let Some(item) = iter.next(state)? {
                let item = state.follow(item, &path, None)?;
                sum = binary(Binary::Add, &sum, &item)?;
            }
            Ok(sum)
        }
    }
}

/// The integer of a float without its fraction; none of NaN and the infinities.
fn whole(value: f64) -> Result<Option<i128>> {
    if !value.is_finite() {
        return Ok(None);
    }
    if value.abs() >= 1e38 {
        return Err(unsupported("an integer of more than 127 bits"));
    }
    Ok(Some(value as i128))
}

/// Digits without the underscores that may stand between them.
fn without_underscores(digits: &str) -> Option<String> {
    let fine = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    fine.then(|| digits.replace('_', ""))
}

/// Python's `int(text, base)`.
fn parse_integer(text: &str, base: i128) -> Result<Option<i128>> {
    if base != 0 && !(2..=36).contains(&base) {
        return Ok(None);
    }
    let text = text.trim_matches(is_space);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    let prefixes = [("0b", 2), ("0o", 8), ("0x", 16)];
    let prefix =
        prefixes.into_iter().find(|(p, radix)| lower.starts_with(p) && (base == 0 || base == *radix));
    let (digits, radix) = match prefix {
        Some((_, radix)) => (lower[2..].strip_prefix('_').unwrap_or(&lower[2..]), radix),
        None if base == 0 => {
            if lower.len() > 1 && lower.starts_with('0') && lower.bytes().any(|b| b != b'0' && b != b'_') {
                return Ok(None);
            }
            (lower.as_str(), 10)
        }
        None => (lower.as_str(), base),
    };
    let Some(digits) = without_underscores(digits) else { return Ok(None) };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix as u32)) {
        return Ok(None);
    }
    let value = i128::from_str_radix(&digits, radix as u32);
    let value = value.map_err(|_| unsupported("an integer of more than 127 bits"))?;
    Ok(Some(if text.starts_with('-') { -value } else { value }))
}

/// Python's `float(text)`.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    let value = match unsigned.as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" => f64::NAN,
        other => {
            let bytes = other.as_bytes();
            let digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
            let parted =
                |at: usize| digit(at.checked_sub(1).and_then(|at| bytes.get(at))) && digit(bytes.get(at + 1));
            let allowed = bytes.iter().enumerate().all(|(at, b)| match b {
                b'0'..=b'9' | b'.' | b'e' => true,
                b'_' => parted(at),
                b'+' | b'-' => at > 0 && bytes[at - 1] == b'e',
                _ => false,
            });
            if !allowed || !bytes.iter().any(u8::is_ascii_digit) {
                return None;
            }
            other.replace('_', "").parse().ok()?
        }
    };
    Some(if text.starts_with('-') { -value } else { value })
}

fn round(value: Value, args: Args) -> Result<Value> {
    let [precision, method] = args.bind("do_round", ["precision", "method"], 0)?;
    let precision = precision.unwrap_or(Value::Int(0));
    let method = match &method {
        None => "common",
        Some(method) => method.as_str().unwrap_or("other"),
    };
    if !matches!(method, "common" | "ceil" | "floor") {
        return Err(fault(Class::FilterArgument, "method must be common, ceil or floor"));
    }
    if method == "common" {
        return match &value {
            Value::Float(f) => match precision {
                // Without a number of digits Python gives an integer.
                Value::None => match whole(round_to(*f, 0)?)? {
                    Some(n) => Ok(Value::Int(n)),
                    None => Err(value_error("cannot convert float NaN to integer")),
                },
                precision => Ok(Value::Float(round_to(*f, integer(&precision)?)?)),
            },
            other => match other.as_index() {
                Some(n) => {
                    let digits = if matches!(precision, Value::None) { 0 } else { integer(&precision)? };
                    Ok(Value::Int(round_integer(n, digits)))
                }
                None => {
                    Err(type_error(format!("type {} doesn't define __round__ method", value.type_name())))
                }
            },
        };
    }
    let scale = binary(Binary::Pow, &Value::Int(10), &precision)?;
    let scaled = binary(Binary::Mul, &value, &scale)?;
    let whole = match &scaled {
        Value::Float(f) => {
            let f = if method == "ceil" { f.ceil() } else { f.floor() };
            match whole(f)? {
                Some(n) => Value::Int(n),
                None if f.is_nan() => return Err(value_error("cannot convert float NaN to integer")),
                None => return Err(fault(Class::Overflow, "cannot convert float infinity to integer")),
            }
        }
        other => match other.as_index() {
            Some(n) => Value::Int(n),
            None => return Err(type_error(format!("must be real number, not {}", other.type_name()))),
        },
    };
    binary(Binary::Div, &whole, &scale)
}

/// An integer rounded to tens, hundreds ..., half to even.
fn round_integer(value: i128, digits: i128) -> i128 {
    if digits >= 0 {
        return value;
    }
    let Some(unit) = u32::try_from(-digits).ok().and_then(|digits| 10i128.checked_pow(digits)) else {
        return 0;
    };
    let (below, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
    let up = 2 * rest > unit || (2 * rest == unit && below % 2 != 0);
    (below + up as i128).saturating_mul(unit)
}

fn file_size(value: &Value, args: Args) -> Result<Value> {
    let [binary] = args.bind("do_filesizeformat", ["binary"], 0)?;
    let bytes = match value {
        Value::Undefined(missing) => return Err(Value::misused(missing)),
        Value::Str(text) => parse_float(&text.text)
            .ok_or_else(|| value_error(format!("could not convert string to float: '{}'", text.text)))?,
        other => other.as_float().ok_or_else(|| {
            type_error(format!("float() argument must be a number, not '{}'", value.type_name()))
        })?,
    };
    let binary = truth(binary)?;
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    let units = if binary {
        ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]
    } else {
        ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
    };
    if bytes == 1.0 {
        return Value::str("1 Byte");
    }
    if bytes < base {
        let whole = whole(bytes)?
            .ok_or_else(|| fault(Class::Overflow, "cannot convert float infinity to integer"))?;
        return Value::str(format!("{whole} Bytes"));
    }
    if bytes.is_nan() {
        return Value::str(format!("nan {}", units[7]));
    }
    let mut unit = base;
    for name in units {
        unit *= base;
        if bytes < unit || name == units[7] {
            return Value::str(format!("{} {name}", fixed(base * bytes / unit, 1)?));
        }
    }
    Value::str("")
}
