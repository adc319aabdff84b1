//! `text % values`.

use super::super::fault::{Class, Fault, Result, fault, type_error, value_error};
use super::super::meter::{Writer, spend};
use super::super::strings::{escape, pad};
use super::super::value::{Text, Value, repr, to_str};
use super::number::{float_digits, integer_digits};

struct Values<'v> {
    given: &'v Value,
    list: &'v [Value],
    next: usize,
}

impl Values<'_> {
    fn next(&mut self) -> Result<Value> {
        let value = match self.given {
            Value::Tuple(_) => self.list.get(self.next).cloned(),
            other => (self.next == 0).then(|| other.clone()),
        };
        self.next += 1;
        value.ok_or_else(|| type_error("not enough arguments for format string"))
    }
}

/// Whether Python takes a value for a mapping here.
fn mapping(value: &Value) -> bool {
    matches!(value, Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Undefined(_))
}

/// One conversion.
#[derive(Default)]
struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// `text % value`.
pub(in super::super) fn percent(text: &Text, given: &Value) -> Result<String> {
    let list: &[Value] = if let Value::Tuple(list) = given { &list.items } else { &[] };
    let mut values = Values { given, list, next: 0 };
    let mut out = Writer::new();
    let mut rest: &str = &text.text;
    while let Some(at) = rest.find('%') {
        spend(1)?;
        out.push(&rest[..at])?;
        rest = &rest[at + 1..];
        rest = one(&mut out, rest, &mut values, text.markup)?;
    }
    out.push(rest)?;
    let all = match given {
        Value::Tuple(list) => values.next >= list.items.len(),
        other => values.next > 0 || mapping(other),
    };
    if !all {
        return Err(type_error("not all arguments converted during string formatting"));
    }
    Ok(out.finish())
}

fn incomplete() -> Box<Fault> {
    value_error("incomplete format")
}

/// One conversion after its `%`; gives what follows it.
fn one<'s>(out: &mut Writer, mut rest: &'s str, values: &mut Values<'_>, markup: bool) -> Result<&'s str> {
    let mut named = None;
    if let Some(inner) = rest.strip_prefix('(') {
        if !mapping(values.given) {
            return Err(type_error("format requires a mapping"));
        }
        let mut open = 1;
        let mut end = None;
        for (at, c) in inner.char_indices() {
            open += (c == '(') as i32 - (c == ')') as i32;
            if open == 0 {
                end = Some(at);
                break;
            }
        }
        let end = end.ok_or_else(|| value_error("incomplete format key"))?;
        let name = Value::str(&inner[..end])?;
        named = Some(match values.given {
            Value::Dict(dict) => match dict.get(&name)? {
                Some(value) => value.clone(),
                None => return Err(fault(Class::Key, format!("'{}'", &inner[..end]))),
            },
            Value::Undefined(missing) => return Err(Value::misused(missing)),
            other => {
                return Err(type_error(format!("{} indices must be integers or slices", other.type_name())));
            }
        });
        values.next = values.next.max(1);
        rest = &inner[end + 1..];
    }
    let mut how = Conversion::default();
    loop {
        match rest.chars().next() {
            Some('-') => how.left = true,
            Some('+') => how.plus = true,
            Some(' ') => how.space = true,
            Some('#') => how.alternate = true,
            Some('0') => how.zero = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    let number = |rest: &mut &'s str, values: &mut Values<'_>, what: &str| -> Result<i128> {
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            return match values.next()? {
                Value::Int(n) => Ok(n),
                Value::Bool(b) => Ok(b as i128),
                _ => Err(type_error("* wants int")),
            };
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (digits, after) = rest.split_at(digits);
        *rest = after;
        if digits.is_empty() {
            return Ok(0);
        }
        let n: i128 = digits.parse().map_err(|_| value_error(format!("{what} too big")))?;
        if n > i64::MAX as i128 { Err(value_error(format!("{what} too big"))) } else { Ok(n) }
    };
    let width = number(&mut rest, values, "width")?;
    how.left |= width < 0;
    how.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        let precision = number(&mut rest, values, "precision")?;
        how.precision = Some(usize::try_from(precision.max(0)).unwrap_or(usize::MAX));
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let kind = rest.chars().next().ok_or_else(incomplete)?;
    rest = &rest[kind.len_utf8()..];
    if kind == '%' {
        out.push("%")?;
        return Ok(rest);
    }
    let value = match named {
        Some(value) => value,
        None => values.next()?,
    };
    convert(out, kind, &how, &value, markup)?;
    Ok(rest)
}

fn convert(out: &mut Writer, kind: char, how: &Conversion, value: &Value, markup: bool) -> Result<()> {
    let (sign, prefix, body) = match kind {
        's' | 'r' | 'a' => {
            let text = match kind {
                's' => to_str(value)?,
                'r' => repr(value)?,
                _ => ascii(&repr(value)?)?,
            };
            let text = match markup && !value.is_markup() {
                true => {
                    let mut escaped = Writer::new();
                    escape(&mut escaped, &text)?;
                    escaped.finish()
                }
                false => text,
            };
            ("", "", how.precision.map_or(text.clone(), |n| text.chars().take(n).collect()))
        }
        'c' => match value {
            Value::Str(text) if text.text.chars().count() == 1 => ("", "", text.text.to_string()),
            other => match other.as_index() {
                Some(n) => {
                    let c = u32::try_from(n).ok().and_then(char::from_u32);
                    let c = c.ok_or_else(|| fault(Class::Overflow, "%c arg not in range(0x110000)"))?;
                    ("", "", c.to_string())
                }
                None => return Err(type_error("%c requires int or char")),
            },
        },
        'd' | 'i' | 'u' | 'o' | 'x' | 'X' => {
            let integer = match value {
                Value::Undefined(missing) => return Err(Value::misused(missing)),
                Value::Float(f) if !f.is_finite() => {
                    return Err(match f.is_nan() {
                        true => value_error("cannot convert float NaN to integer"),
                        false => fault(Class::Overflow, "cannot convert float infinity to integer"),
                    });
                }
                Value::Float(f) if matches!(kind, 'd' | 'i' | 'u') => {
                    if f.abs() >= 1e38 {
                        return Err(super::super::fault::unsupported("an integer of more than 127 bits"));
                    }
                    *f as i128
                }
                other => other.as_index().ok_or_else(|| {
                    type_error(format!("%{kind} format: a number is required, not {}", value.type_name()))
                })?,
            };
            let digits = integer_digits(integer.unsigned_abs(), kind);
            let least = how.precision.unwrap_or(0);
            let zeros = least.saturating_sub(digits.len());
            let mut body = Writer::new();
            body.fill('0', zeros)?;
            body.push(&digits)?;
            let prefix = match kind {
                'o' if how.alternate => "0o",
                'x' if how.alternate => "0x",
                'X' if how.alternate => "0X",
                _ => "",
            };
            (signed(integer < 0, how), prefix, body.finish())
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let float = match value {
                Value::Undefined(missing) => return Err(Value::misused(missing)),
                other => other
                    .as_float()
                    .ok_or_else(|| type_error(format!("must be real number, not {}", value.type_name())))?,
            };
            let digits = float_digits(float, kind, how.precision.unwrap_or(6), how.alternate)?;
            (signed(float.is_sign_negative() && !float.is_nan(), how), "", digits)
        }
        other => {
            return Err(value_error(format!("unsupported format character '{other}'")));
        }
    };
    let zeros = how.zero && !how.left && !matches!(kind, 's' | 'r' | 'a' | 'c');
    let length = body.chars().count() + sign.len() + prefix.len();
    let fill = how.width.saturating_sub(length);
    if zeros {
        out.push(sign)?;
        out.push(prefix)?;
        out.fill('0', fill)?;
        return out.push(&body);
    }
    let text = [sign, prefix, &body].concat();
    let (before, after) = if how.left { (0, fill) } else { (fill, 0) };
    pad(out, &text, ' ', before, after)
}

fn signed(negative: bool, how: &Conversion) -> &'static str {
    match (negative, how.plus, how.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

/// Python's `ascii`.
pub(super) fn ascii(text: &str) -> Result<String> {
    let mut out = Writer::new();
    for c in text.chars() {
        match c as u32 {
            0..0x80 => out.push_char(c)?,
            n @ 0x80..0x100 => out.push(&format!("\\x{n:02x}"))?,
            n @ 0x100..0x10000 => out.push(&format!("\\u{n:04x}"))?,
            n => out.push(&format!("\\U{n:08x}"))?,
        }
    }
    Ok(out.finish())
}
