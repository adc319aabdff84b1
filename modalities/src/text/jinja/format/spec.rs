//! `format(value, spec)`.

use super::super::fault::{Class, Fault, Result, fault, type_error, unsupported, value_error};
use super::super::meter::Writer;
use super::super::strings::pad;
use super::super::value::{Value, float_repr, to_str};
use super::number::{float_digits, integer_digits};

/// A parsed format specification.
#[derive(Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    group: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

fn parse(spec: &str) -> Result<Spec> {
    let mut out = Spec::default();
    let mut rest = spec;
    let align = |c: Option<char>| c.filter(|c| "<>=^".contains(*c));
    let mut characters = rest.chars();
    let (first, second) = (characters.next(), characters.next());
    if let (Some(fill), Some(place)) = (first, align(second)) {
        (out.fill, out.align) = (Some(fill), Some(place));
        rest = &rest[fill.len_utf8() + 1..];
    } else if let Some(place) = align(first) {
        out.align = Some(place);
        rest = &rest[1..];
    }
    if let Some(sign) = rest.chars().next().filter(|c| "+- ".contains(*c)) {
        out.sign = Some(sign);
        rest = &rest[1..];
    }
    if rest.starts_with('z') {
        return Err(unsupported("the `z` of a format specification"));
    }
    if let Some(after) = rest.strip_prefix('#') {
        out.alternate = true;
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('0') {
        out.fill.get_or_insert('0');
        out.align.get_or_insert('=');
        rest = after;
    }
    let number = |rest: &mut &str| -> Result<Option<usize>> {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (digits, after) = rest.split_at(digits);
        *rest = after;
        if digits.is_empty() {
            return Ok(None);
        }
        let many = || value_error("Too many decimal digits in format string");
        digits.parse::<i64>().map(|n| Some(n as usize)).map_err(|_| many())
    };
    out.width = number(&mut rest)?.unwrap_or(0);
    if let Some(group) = rest.chars().next().filter(|c| ",_".contains(*c)) {
        out.group = Some(group);
        rest = &rest[1..];
    }
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        out.precision =
            Some(number(&mut rest)?.ok_or_else(|| value_error("Format specifier missing precision"))?);
    }
    let mut characters = rest.chars();
    out.kind = characters.next();
    if characters.next().is_some() {
        return Err(value_error("Invalid format specifier"));
    }
    Ok(out)
}

/// `format(value, spec)`.
pub(super) fn format_value(value: &Value, spec: &str) -> Result<String> {
    if spec.is_empty() {
        return to_str(value);
    }
    match value {
        Value::Str(text) => string(&text.text, &parse(spec)?),
        Value::Int(n) => integer(*n, &parse(spec)?),
        Value::Bool(b) => integer(*b as i128, &parse(spec)?),
        Value::Float(f) => float(*f, &parse(spec)?),
        other => {
            Err(type_error(format!("unsupported format string passed to {}.__format__", other.type_name())))
        }
    }
}

fn unknown(kind: char, of: &str) -> Box<Fault> {
    value_error(format!("Unknown format code '{kind}' for object of type '{of}'"))
}

fn string(text: &str, spec: &Spec) -> Result<String> {
    if let Some(kind) = spec.kind.filter(|kind| *kind != 's') {
        return Err(unknown(kind, "str"));
    }
    if spec.sign.is_some() {
        return Err(value_error("Sign not allowed in string format specifier"));
    }
    if spec.alternate {
        return Err(value_error("Alternate form (#) not allowed in string format specifier"));
    }
    if let Some(group) = spec.group {
        return Err(value_error(format!("Cannot specify '{group}' with 's'.")));
    }
    let text: String = match spec.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    };
    let place = match (spec.align, spec.fill) {
        // A zero before the width pads a text on its right.
        (Some('='), Some('0')) => '<',
        (Some('='), _) => return Err(value_error("'=' alignment not allowed in string format specifier")),
        (place, _) => place.unwrap_or('<'),
    };
    aligned("", &text, spec, place)
}

fn integer(value: i128, spec: &Spec) -> Result<String> {
    let kind = spec.kind.unwrap_or('d');
    if "eEfFgG%".contains(kind) {
        return float(value as f64, spec);
    }
    if !"bcdoxXn".contains(kind) {
        return Err(unknown(kind, "int"));
    }
    if spec.precision.is_some() {
        return Err(value_error("Precision not allowed in integer format specifier"));
    }
    if kind == 'c' {
        if spec.sign.is_some() {
            return Err(value_error("Sign not allowed with integer format specifier 'c'"));
        }
        let c = u32::try_from(value).ok().and_then(char::from_u32);
        let c = c.ok_or_else(|| fault(Class::Overflow, "%c arg not in range(0x110000)"))?;
        return aligned("", &c.to_string(), spec, spec.align.unwrap_or('>'));
    }
    if spec.group == Some(',') && "boxX".contains(kind) {
        return Err(value_error(format!("Cannot specify ',' with '{kind}'.")));
    }
    if spec.group.is_some() && kind == 'n' {
        return Err(value_error("Cannot specify ',' with 'n'."));
    }
    let digits = integer_digits(value.unsigned_abs(), kind);
    let prefix = match (spec.alternate, kind) {
        (true, 'b') => "0b",
        (true, 'o') => "0o",
        (true, 'x') => "0x",
        (true, 'X') => "0X",
        _ => "",
    };
    let every = if "boxX".contains(kind) { 4 } else { 3 };
    let lead = format!("{}{prefix}", sign(value < 0, spec));
    numeric(&lead, &digits, "", every, spec)
}

fn float(value: f64, spec: &Spec) -> Result<String> {
    let negative = value.is_sign_negative() && !value.is_nan();
    let digits = match spec.kind {
        None => match spec.precision {
            None => float_repr(value.abs()),
            Some(precision) => general(value, precision)?,
        },
        Some('%') => float_digits(value * 100.0, 'f', spec.precision.unwrap_or(6), spec.alternate)? + "%",
        Some('n') => float_digits(value, 'g', spec.precision.unwrap_or(6), spec.alternate)?,
        Some(kind) if "eEfFgG".contains(kind) => {
            float_digits(value, kind, spec.precision.unwrap_or(6), spec.alternate)?
        }
        Some(kind) => return Err(unknown(kind, "float")),
    };
    let split = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(split);
    numeric(sign(negative, spec), whole, rest, 3, spec)
}

/// A float with a precision and no type: as `g`, except that a number without a fraction keeps one digit
/// after the point, and has an exponent where that digit has no place.
fn general(value: f64, precision: usize) -> Result<String> {
    let text = float_digits(value, 'g', precision, false)?;
    if !value.is_finite() || text.contains(['.', 'e']) {
        return Ok(text);
    }
    if value != 0.0 && text.len() >= precision.max(1) {
        let scientific = float_digits(value, 'e', precision.max(1) - 1, false)?;
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
        let digits =
            if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
        return Ok(format!("{digits}e{exponent}"));
    }
    Ok(text + ".0")
}

fn sign(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    }
}

/// Digits in groups, padded between sign and digits where the alignment says so.
fn numeric(lead: &str, whole: &str, rest: &str, every: usize, spec: &Spec) -> Result<String> {
    let place = spec.align.unwrap_or('>');
    let zeros = place == '=' && spec.fill == Some('0');
    let mut digits = whole.to_owned();
    if let Some(group) = spec.group {
        let room = spec.width.saturating_sub(lead.len() + rest.len());
        super::super::meter::room(room.saturating_mul(2))?;
        let mut grouped: Vec<char> = Vec::new();
        let mut count = 0;
        let reversed: Vec<char> = whole.chars().rev().collect();
        for c in &reversed {
            if count > 0 && count % every == 0 {
                grouped.push(group);
            }
            grouped.push(*c);
            count += 1;
        }
        // Zeros that fill up are grouped too, and never begin with a separator.
        while zeros && grouped.len() < room {
            if count % every == 0 {
                grouped.push(group);
            }
            grouped.push('0');
            count += 1;
        }
        digits = grouped.into_iter().rev().collect();
    }
    if place == '=' {
        let length = lead.chars().count() + digits.len() + rest.chars().count();
        let mut out = Writer::new();
        out.push(lead)?;
        out.fill(spec.fill.unwrap_or(' '), spec.width.saturating_sub(length))?;
        out.push(&digits)?;
        out.push(rest)?;
        return Ok(out.finish());
    }
    aligned(lead, &(digits + rest), spec, place)
}

fn aligned(lead: &str, text: &str, spec: &Spec, place: char) -> Result<String> {
    let text = format!("{lead}{text}");
    let fill = spec.width.saturating_sub(text.chars().count());
    let (before, after) = match place {
        '<' => (0, fill),
        '^' => (fill / 2, fill - fill / 2),
        _ => (fill, 0),
    };
    let mut out = Writer::new();
    pad(&mut out, &text, spec.fill.unwrap_or(' '), before, after)?;
    Ok(out.finish())
}
