//! Digits of numbers, as C and Python write them.

use super::super::fault::{Result, value_error};
use super::super::meter::room;

/// The digits of `e`, `f` or `g` of a value's magnitude; `alternate` keeps the point and zeros.
pub(super) fn float_digits(value: f64, kind: char, precision: usize, alternate: bool) -> Result<String> {
    let upper = kind.is_ascii_uppercase();
    let value = value.abs();
    if !value.is_finite() {
        let name = if value.is_nan() { "nan" } else { "inf" };
        return Ok(if upper { name.to_uppercase() } else { name.to_owned() });
    }
    room(precision.saturating_add(400))?;
    if precision > u16::MAX as usize {
        return Err(value_error("precision too big"));
    }
    let mut text = match kind.to_ascii_lowercase() {
        'f' => format!("{value:.precision$}"),
        'e' => exponential(value, precision),
        _ => {
            let precision = precision.max(1);
            let scientific = exponential(value, precision - 1);
            let exponent: i64 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
            let plain = (-4..precision as i64).contains(&exponent);
            let text = if plain {
                let after = (precision as i64 - 1 - exponent).max(0) as usize;
                format!("{value:.after$}")
            } else {
                scientific
            };
            if alternate { text } else { without_zeros(&text) }
        }
    };
    if alternate && !text.contains('.') {
        let at = text.find('e').unwrap_or(text.len());
        text.insert(at, '.');
    }
    Ok(if upper { text.to_uppercase() } else { text })
}

fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn without_zeros(text: &str) -> String {
    let (digits, exponent) = match text.find('e') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    if !digits.contains('.') {
        return text.to_owned();
    }
    format!("{}{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// The digits of an integer's magnitude in a base.
pub(super) fn integer_digits(value: u128, kind: char) -> String {
    match kind {
        'b' => format!("{value:b}"),
        'o' => format!("{value:o}"),
        'x' => format!("{value:x}"),
        'X' => format!("{value:X}"),
        _ => value.to_string(),
    }
}

/// A value with so many digits after the point: `format(value, '.nf')`.
pub(in super::super) fn fixed(value: f64, digits: usize) -> Result<String> {
    let text = float_digits(value, 'f', digits, false)?;
    Ok(if value.is_sign_negative() && !value.is_nan() { format!("-{text}") } else { text })
}

/// Python's `round(value, digits)`: half to even of the exact decimal value.
pub(in super::super) fn round_to(value: f64, digits: i128) -> Result<f64> {
    if !value.is_finite() || digits > 330 {
        return Ok(value);
    }
    if digits < -330 {
        return Ok(0.0f64.copysign(value));
    }
    if digits >= 0 {
        return Ok(fixed(value, digits as usize)?.parse().unwrap_or(value));
    }
    // To tens, hundreds ...: of the integer part, exactly.
    let whole = format!("{:.0}", value.trunc().abs());
    let cut = (-digits) as usize;
    let fraction = value.fract() != 0.0;
    let (head, tail) = whole.split_at(whole.len().saturating_sub(cut));
    let tail = format!("{tail:0>cut$}");
    let half = format!("{:0<cut$}", "5");
    let odd = head.bytes().last().is_some_and(|b| (b - b'0') % 2 == 1);
    let up = match tail.cmp(&half) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => fraction || odd,
        std::cmp::Ordering::Less => false,
    };
    let head: f64 = if head.is_empty() { 0.0 } else { head.parse().unwrap_or(0.0) };
    let rounded = format!("{:.0}{}", head + up as u8 as f64, "0".repeat(cut));
    Ok(rounded.parse::<f64>().unwrap_or(value).copysign(value))
}
