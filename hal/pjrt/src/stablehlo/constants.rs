//! Literals as MLIR writes them.

use percept_graph::{DType, Literal, LiteralData};

use super::storage;
use super::writer::{Element, Type, Value, Writer};

/// Elements up to which a constant is written as a list that people can read.
const READABLE: usize = 16;

impl Writer {
    /// A constant of a graph.
    pub fn literal(&mut self, literal: &Literal) -> Value {
        let ty = storage(&literal.ty);
        let text = match (&literal.data, literal.as_splat()) {
            _ if ty.numel() == 0 => String::new(),
            (_, Some(v)) => number(ty.element, v),
            (LiteralData::Dense(bytes), None) if ty.numel() > READABLE && literal.ty.dtype != DType::Bool => {
                hexadecimal(bytes)
            }
            _ => nested(ty.element, &literal.values(), &ty.dims),
        };
        self.dense(ty, &text)
    }

    /// A constant with the same value everywhere.
    pub fn splat(&mut self, ty: Type, value: f64) -> Value {
        let text = if ty.numel() == 0 { String::new() } else { number(ty.element, value) };
        self.dense(ty, &text)
    }

    /// A constant with the same value everywhere, of an operand's type.
    pub fn like(&mut self, x: &Value, value: f64) -> Value {
        self.splat(x.ty.clone(), value)
    }

    /// A tensor without elements.
    pub fn empty(&mut self, ty: Type) -> Value {
        self.dense(ty, "")
    }

    fn dense(&mut self, ty: Type, values: &str) -> Value {
        self.line(ty.clone(), format_args!("stablehlo.constant dense<{values}> : {ty}"))
    }
}

/// Row-major values as nested lists.
fn nested(element: Element, values: &[f64], dims: &[usize]) -> String {
    let Some((first, rest)) = dims.split_first() else {
        return values.first().map_or(String::new(), |v| number(element, *v));
    };
    let size = values.len() / first.max(&1);
    let parts: Vec<String> = values.chunks(size.max(1)).map(|part| nested(element, part, rest)).collect();
    format!("[{}]", parts.join(", "))
}

fn number(element: Element, v: f64) -> String {
    match element {
        Element::I1 => (v != 0.0).to_string(),
        e if e.is_float() => float(e, v),
        _ => format!("{}", v as i64),
    }
}

/// Decimal where a reader of decimals gets the same value back, otherwise the bits.
fn float(element: Element, v: f64) -> String {
    // Parsers go by way of f64; the shortest text of an f64 comes back as it.
    let text = format!("{v:e}");
    if v.is_finite() {
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        return if exponent == "0" {
            format!("{digits}{point}")
        } else {
            format!("{digits}{point}e{exponent}")
        };
    }
    let (dtype, digits) = match element {
        Element::F16 => (DType::F16, 4),
        Element::BF16 => (DType::BF16, 4),
        _ => (DType::F32, 8),
    };
    let mut bits = percept_graph::encode(dtype, v);
    bits.reverse();
    let bits: String = bits.iter().map(|b| format!("{b:02X}")).collect();
    debug_assert_eq!(bits.len(), digits);
    format!("0x{bits}")
}

/// Little-endian elements as the string that MLIR takes for them.
fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len() + 4);
    text.push_str("\"0x");
    for b in bytes {
        let _ = write!(text, "{b:02X}");
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_back_as_they_were() {
        assert_eq!(float(Element::F32, 1.0), "1.0");
        assert_eq!(float(Element::F32, -2.5), "-2.5");
        assert_eq!(float(Element::F32, 1e-30), "1.0e-30");
        assert_eq!(float(Element::F32, f64::INFINITY), "0x7F800000");
        assert_eq!(float(Element::BF16, f64::NEG_INFINITY), "0xFF80");
        assert_eq!(float(Element::F16, f64::INFINITY), "0x7C00");
        for v in [f32::MIN_POSITIVE, f32::MAX, 0.1, 16777217.0, 1.0e-45] {
            assert_eq!(float(Element::F32, v as f64).parse::<f64>().unwrap() as f32, v);
        }
        assert_eq!(nested(Element::I32, &[1.0, -2.0, 3.0, 4.0], &[2, 2]), "[[1, -2], [3, 4]]");
        assert_eq!(nested(Element::I1, &[1.0, 0.0], &[2, 1]), "[[true], [false]]");
        assert_eq!(hexadecimal(&[0, 0xAB]), "\"0x00AB\"");
    }
}
