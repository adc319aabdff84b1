//! What the stored values of a column stand for: texts, decimals, days and times.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use serde_json::{Number, Value};

/// Digits up to which every decimal number is told apart as a double.
const EXACT: usize = 15;
/// Bytes of the largest decimal number, which have room for a precision of 96.
const LONGEST_DECIMAL: usize = 40;

/// What a stored value stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Itself.
    Plain,
    /// A text.
    Text,
    /// A number that is never negative.
    Unsigned,
    /// A number of which so many digits stand behind the point.
    Decimal(usize),
    /// Days since 1970.
    Date,
    /// A time of day, in parts of a second: so many digits of one.
    Time(usize),
    /// A moment since 1970 in parts of a second, in UTC or in a zone that is not said.
    Moment(usize, bool),
    /// A number of half precision.
    Half,
    /// A UUID.
    Uuid,
}

impl Meaning {
    /// By the annotations of a column: the newer form, or the older one where there is no other.
    pub fn of(logical: Option<&LogicalType>, converted: ConvertedType, scale: i32) -> Self {
        let digits = |unit: &TimeUnit| match *unit {
            TimeUnit::MILLIS => 3,
            TimeUnit::MICROS => 6,
            TimeUnit::NANOS => 9,
        };
        let behind = |scale: i32| Meaning::Decimal(usize::try_from(scale).unwrap_or(0));
        match logical {
            Some(LogicalType::String | LogicalType::Json | LogicalType::Enum) => Meaning::Text,
            Some(LogicalType::Integer(kind)) if !kind.is_signed => Meaning::Unsigned,
            Some(LogicalType::Decimal(kind)) => behind(kind.scale),
            Some(LogicalType::Date) => Meaning::Date,
            Some(LogicalType::Time(kind)) => Meaning::Time(digits(&kind.unit)),
            Some(LogicalType::Timestamp(kind)) => {
                Meaning::Moment(digits(&kind.unit), kind.is_adjusted_to_u_t_c)
            }
            Some(LogicalType::Float16) => Meaning::Half,
            Some(LogicalType::Uuid) => Meaning::Uuid,
            _ => match converted {
                ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => Meaning::Text,
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64 => Meaning::Unsigned,
                ConvertedType::DECIMAL => behind(scale),
                ConvertedType::DATE => Meaning::Date,
                ConvertedType::TIME_MILLIS => Meaning::Time(3),
                ConvertedType::TIME_MICROS => Meaning::Time(6),
                ConvertedType::TIMESTAMP_MILLIS => Meaning::Moment(3, true),
                ConvertedType::TIMESTAMP_MICROS => Meaning::Moment(6, true),
                _ => Meaning::Plain,
            },
        }
    }

    /// A whole number as what it stands for.
    pub fn number(self, value: i64) -> Value {
        match self {
            Meaning::Decimal(behind) => decimal(value < 0, value.unsigned_abs().to_string(), behind),
            Meaning::Date => date(value).into(),
            Meaning::Time(digits) => time(value.into(), digits).into(),
            Meaning::Moment(digits, utc) => moment(value.into(), digits, utc).into(),
            _ => value.into(),
        }
    }

    /// Bytes as what they stand for, where that is no text and not the bytes themselves.
    pub fn bytes(self, bytes: &[u8]) -> Option<Value> {
        match (self, bytes) {
            (Meaning::Decimal(behind), _) if bytes.len() <= LONGEST_DECIMAL => {
                let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
                Some(decimal(is_negative, digits_of(bytes, is_negative), behind))
            }
            (Meaning::Half, &[low, high]) => {
                let half = half(u16::from_le_bytes([low, high]));
                Some(Number::from_f64(half).map_or(Value::Null, Value::Number))
            }
            (Meaning::Uuid, &[_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]) => {
                let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let groups = [0..4, 4..6, 6..8, 8..10, 10..16].map(|group| pairs[group].concat());
                Some(groups.join("-").into())
            }
            _ => None,
        }
    }
}

/// Nanoseconds of a day and a day since 1970, as older writers keep moments.
pub(super) fn nanoseconds(days: i64, nanoseconds: i64) -> Value {
    moment(i128::from(days) * 86_400_000_000_000 + i128::from(nanoseconds), 9, false).into()
}

/// A whole number, a double where that tells all numbers of as many digits apart, and a text otherwise.
fn decimal(is_negative: bool, digits: String, behind: usize) -> Value {
    let sign = if is_negative { "-" } else { "" };
    let padded = format!("{digits:0>width$}", width = behind.min(1 << 10) + 1);
    let (whole, part) = padded.split_at(padded.len() - behind.min(1 << 10));
    if part.is_empty() {
        let text = format!("{sign}{whole}");
        return text.parse::<i64>().map_or(Value::String(text), Value::from);
    }
    let text = format!("{sign}{whole}.{part}");
    let number = Some(&text).filter(|_| digits.len() <= EXACT).and_then(|text| text.parse().ok());
    number.and_then(Number::from_f64).map_or(Value::String(text), Value::Number)
}

/// The digits of the absolute value of a number in two's complement, its greatest byte first.
fn digits_of(bytes: &[u8], is_negative: bool) -> String {
    let mut rest: Vec<u8> = bytes.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in rest.iter_mut().rev() {
            let (negated, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (negated, over);
        }
    }
    let mut digits = Vec::new();
    while rest.iter().any(|byte| *byte > 0) {
        let mut left = 0u32;
        for byte in &mut rest {
            left = left << 8 | u32::from(*byte);
            *byte = (left / 10) as u8;
            left %= 10;
        }
        digits.push(char::from(b'0' + left as u8));
    }
    if digits.is_empty() { "0".into() } else { digits.iter().rev().collect() }
}

/// A day as ISO 8601 has it (H. Hinnant's days_from_civil, turned round).
fn date(days: i64) -> String {
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A time as Python writes it: with microseconds if there is a fraction, and with nanoseconds if these do not hold it.
fn time(parts: i128, digits: usize) -> String {
    let second = 10i128.pow(digits as u32);
    let (seconds, part) = (parts.div_euclid(second), parts.rem_euclid(second));
    let nanoseconds = part * 10i128.pow(9 - digits as u32);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (nanoseconds, nanoseconds % 1000) {
        (0, _) => text,
        (_, 0) => format!("{text}.{:06}", nanoseconds / 1000),
        _ => format!("{text}.{nanoseconds:09}"),
    }
}

fn moment(parts: i128, digits: usize, utc: bool) -> String {
    let day = 86_400 * 10i128.pow(digits as u32);
    let days = parts.div_euclid(day).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    let zone = if utc { "+00:00" } else { "" };
    format!("{}T{}{zone}", date(days), time(parts.rem_euclid(day), digits))
}

/// A number of half precision.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_stored_value_has_a_text_and_none_overflows() {
        for value in [i64::MIN, -1, 0, 1, i64::MAX] {
            for meaning in
                [Meaning::Decimal(0), Meaning::Decimal(usize::MAX), Meaning::Date, Meaning::Time(9)]
            {
                meaning.number(value);
            }
            for digits in [3, 6, 9] {
                Meaning::Moment(digits, true).number(value);
                nanoseconds(value, value);
            }
        }
        for length in 0..=64 {
            for byte in [0, 0x7f, 0x80, 0xff] {
                for meaning in [Meaning::Decimal(3), Meaning::Half, Meaning::Uuid, Meaning::Date] {
                    meaning.bytes(&vec![byte; length]);
                }
            }
        }
        assert_eq!(Meaning::Decimal(2).bytes(&[0xff, 0x85]), Some(json!(-1.23)));
        assert_eq!(Meaning::Decimal(0).bytes(&[]), Some(json!(0)));
        assert_eq!(Meaning::Decimal(3).number(-5), json!(-0.005));
        let wide = Meaning::Decimal(20).bytes(&(-12_345_678_901_234_567_890_123i128).to_be_bytes());
        assert_eq!(wide, Some(json!("-123.45678901234567890123")));
    }
}
