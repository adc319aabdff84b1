//! `str` and `repr`.

use std::sync::LazyLock;

use regex::Regex;

use super::super::fault::{Class, Result, fault, unsupported};
use super::super::meter::{DEEPEST, Writer, spend};
use super::{List, Value, View};

/// `str(value)`.
pub(in super::super) fn to_str(value: &Value) -> Result<String> {
    let mut out = Writer::new();
    write_str(&mut out, value)?;
    Ok(out.finish())
}

fn write_str(out: &mut Writer, value: &Value) -> Result<()> {
    match value {
        Value::Str(text) => out.push(&text.text),
        Value::Undefined(missing) => missing.look(),
        other => write_repr(out, other, DEEPEST + 1),
    }
}

/// `repr(value)`.
pub(in super::super) fn repr(value: &Value) -> Result<String> {
    let mut out = Writer::new();
    write_repr(&mut out, value, DEEPEST + 1)?;
    Ok(out.finish())
}

fn write_repr(out: &mut Writer, value: &Value, depth: usize) -> Result<()> {
    spend(1)?;
    let depth = depth.checked_sub(1).ok_or_else(|| fault(Class::Limit, "a value is nested too deeply"))?;
    match value {
        Value::Undefined(_) => out.push("Undefined"),
        Value::None => out.push("None"),
        Value::Bool(value) => out.push(if *value { "True" } else { "False" }),
        Value::Int(value) => out.push(&value.to_string()),
        Value::Float(value) => out.push(&float_repr(*value)),
        Value::Str(text) if text.markup => {
            out.push("Markup(")?;
            quote(out, &text.text)?;
            out.push(")")
        }
        Value::Str(text) => quote(out, &text.text),
        Value::List(list) => sequence(out, ('[', ']'), list, depth),
        Value::Tuple(list) => sequence(out, ('(', ')'), list, depth),
        Value::Dict(dict) => pairs(out, dict.entries().iter().map(|(k, v)| (k, v)), depth),
        Value::View(dict, view) => {
            out.push(value.type_name())?;
            out.push("([")?;
            for (i, (name, value)) in dict.entries().iter().enumerate() {
                if i > 0 {
                    out.push(", ")?;
                }
                match view {
                    View::Keys => write_repr(out, name, depth)?,
                    View::Values => write_repr(out, value, depth)?,
                    View::Items => {
                        out.push("(")?;
                        write_repr(out, name, depth)?;
                        out.push(", ")?;
                        write_repr(out, value, depth)?;
                        out.push(")")?;
                    }
                }
            }
            out.push("])")
        }
        Value::Range(range) => {
            out.push(&format!("range({}, {}", range.start, range.stop))?;
            if range.step != 1 {
                out.push(&format!(", {}", range.step))?;
            }
            out.push(")")
        }
        Value::Namespace(namespace) => {
            out.push("<Namespace {")?;
            let values = namespace.values.borrow();
            for (i, (name, value)) in values.iter().enumerate() {
                if i > 0 {
                    out.push(", ")?;
                }
                quote(out, name)?;
                out.push(": ")?;
                write_repr(out, value, depth)?;
            }
            out.push("}>")
        }
        Value::Loop(state) => {
            let inner = state.inner.borrow();
            match inner.length {
                Some(length) => out.push(&format!("<LoopContext {}/{length}>", inner.index0 + 1)),
                None => Err(unsupported("printing `loop`")),
            }
        }
        Value::Macro(closure) => match &closure.node.name {
            Some(name) => {
                out.push("<Macro ")?;
                quote(out, name)?;
                out.push(">")
            }
            None => out.push("<Macro anonymous>"),
        },
        // Python prints these with their place in memory.
        Value::Iter(_) | Value::Cycler(_) | Value::Joiner(_) | Value::Method(_) | Value::Global(_) => {
            Err(unsupported(format!("printing a {} (which has no text of its own)", value.type_name())))
        }
    }
}

fn sequence(out: &mut Writer, (open, close): (char, char), list: &List, depth: usize) -> Result<()> {
    out.push_char(open)?;
    for (i, item) in list.items.iter().enumerate() {
        if i > 0 {
            out.push(", ")?;
        }
        write_repr(out, item, depth)?;
    }
    if open == '(' && list.items.len() == 1 {
        out.push(",")?;
    }
    out.push_char(close)
}

fn pairs<'v>(
    out: &mut Writer,
    pairs: impl Iterator<Item = (&'v Value, &'v Value)>,
    depth: usize,
) -> Result<()> {
    out.push("{")?;
    for (i, (name, value)) in pairs.enumerate() {
        if i > 0 {
            out.push(", ")?;
        }
        write_repr(out, name, depth)?;
        out.push(": ")?;
        write_repr(out, value, depth)?;
    }
    out.push("}")
}

/// Whether Python prints a character as it is; others are escapes in `repr`.
pub(in super::super) fn printable(c: char) -> bool {
    static OTHERS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{C}\p{Z}]").ok());
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    OTHERS.as_ref().is_none_or(|others| !others.is_match(c.encode_utf8(&mut [0; 4])))
}

/// A string in Python's quotes: single ones unless it holds those and no double ones.
fn quote(out: &mut Writer, text: &str) -> Result<()> {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push_char(mark)?;
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let escaped = match c {
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            c if c == mark => format!("\\{c}"),
            c if printable(c) => continue,
            c => match c as u32 {
                n @ 0..0x100 => format!("\\x{n:02x}"),
                n @ 0x100..0x10000 => format!("\\u{n:04x}"),
                n => format!("\\U{n:08x}"),
            },
        };
        out.push(&text[plain..at])?;
        out.push(&escaped)?;
        plain = at + c.len_utf8();
    }
    out.push(&text[plain..])?;
    out.push_char(mark)
}

/// A float as `float.__repr__` writes it: the shortest digits that read back, with an exponent below 1e-4 and
/// from 1e16 on.
pub(in super::super) fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if float == 0.0 || (-4..16).contains(&exponent) {
        return format!("{float:?}");
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
