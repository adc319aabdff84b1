//! `json.dumps`, as transformers' own `tojson` calls it.

use super::super::fault::{Class, Result, fault, type_error, value_error};
use super::super::filters::sorted;
use super::super::meter::{DEEPEST, Writer, spend};
use super::super::run::arguments::Args;
use super::{Value, float_repr, less};

/// The options of `tojson`.
pub(in super::super) struct Json {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort: bool,
}

impl Json {
    /// From the arguments of the filter, and the value to write.
    pub(in super::super) fn new(args: Args) -> Result<(Value, Json)> {
        let names = ["x", "ensure_ascii", "indent", "separators", "sort_keys"];
        let [value, ascii, indent, separators, sort] = args.bind("tojson", names, 1)?;
        let truth = |value: Option<Value>| value.map_or(Ok(false), |value| value.truth());
        let indent = match indent {
            None | Some(Value::None) => None,
            Some(Value::Str(text)) => Some(text.text.to_string()),
            Some(other) => match other.as_index() {
                Some(width) => {
                    let mut out = Writer::new();
                    out.fill(' ', usize::try_from(width.max(0)).unwrap_or(usize::MAX))?;
                    Some(out.finish())
                }
                None => return Err(type_error(format!("indent cannot be a {}", other.type_name()))),
            },
        };
        let (item, key) = match separators {
            None | Some(Value::None) => {
                ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned())
            }
            Some(Value::List(pair) | Value::Tuple(pair)) => match pair.items.as_slice() {
                [Value::Str(item), Value::Str(key)] => (item.text.to_string(), key.text.to_string()),
                [_, _] => return Err(type_error("separators are a pair of strings")),
                items => return Err(unpacked(items.len())),
            },
            Some(Value::Str(text)) => {
                let characters: Vec<char> = text.text.chars().collect();
                match characters[..] {
                    [item, key] => (item.to_string(), key.to_string()),
                    _ => return Err(unpacked(characters.len())),
                }
            }
            Some(other) => {
                return Err(type_error(format!("cannot unpack non-iterable {}", other.type_name())));
            }
        };
        let json = Json { ascii: truth(ascii)?, indent, item, key, sort: truth(sort)? };
        Ok((value.unwrap_or(Value::None), json))
    }

    /// The JSON text of a value.
    pub(in super::super) fn dump(&self, value: &Value) -> Result<String> {
        let mut out = Writer::new();
        self.write(&mut out, value, 0)?;
        Ok(out.finish())
    }

    fn write(&self, out: &mut Writer, value: &Value, depth: usize) -> Result<()> {
        spend(1)?;
        if depth > DEEPEST {
            return Err(fault(Class::Limit, "a value is nested too deeply"));
        }
        match value {
            Value::None => out.push("null"),
            Value::Bool(value) => out.push(if *value { "true" } else { "false" }),
            Value::Int(value) => out.push(&value.to_string()),
            Value::Float(value) => out.push(&json_float(*value)),
            Value::Str(text) => self.string(out, &text.text),
            Value::List(list) | Value::Tuple(list) => {
                self.list(out, ('[', ']'), depth, &list.items, |out, item| self.write(out, item, depth + 1))
            }
            Value::Dict(dict) => {
                let mut entries: Vec<&(Value, Value)> = dict.entries().iter().collect();
                if self.sort {
                    entries =
                        sorted(entries, &mut |a: &&(Value, Value), b: &&(Value, Value)| less(&a.0, &b.0))?;
                }
                self.list(out, ('{', '}'), depth, &entries, |out, (name, value)| {
                    match name {
                        Value::Str(text) => self.string(out, &text.text)?,
                        Value::None => self.string(out, "null")?,
                        Value::Bool(value) => self.string(out, if *value { "true" } else { "false" })?,
                        Value::Int(value) => self.string(out, &value.to_string())?,
                        Value::Float(value) => self.string(out, &json_float(*value))?,
                        other => {
                            return Err(type_error(format!(
                                "keys must be str, int, float, bool or None, not {}",
                                other.type_name()
                            )));
                        }
                    }
                    out.push(&self.key)?;
                    self.write(out, value, depth + 1)
                })
            }
            other => {
                Err(type_error(format!("Object of type {} is not JSON serializable", other.type_name())))
            }
        }
    }

    /// Entries between brackets, each on a line of its own where there is an indent.
    fn list<T>(
        &self,
        out: &mut Writer,
        (open, close): (char, char),
        depth: usize,
        entries: &[T],
        mut write: impl FnMut(&mut Writer, &T) -> Result<()>,
    ) -> Result<()> {
        let line = |out: &mut Writer, depth: usize| -> Result<()> {
            if let Some(indent) = &self.indent {
                out.push("\n")?;
                for _ in 0..depth {
                    out.push(indent)?;
                }
            }
            Ok(())
        };
        out.push_char(open)?;
        for (i, entry) in entries.iter().enumerate() {
            if i > 0 {
                out.push(&self.item)?;
            }
            line(out, depth + 1)?;
            write(out, entry)?;
        }
        if !entries.is_empty() {
            line(out, depth)?;
        }
        out.push_char(close)
    }

    fn string(&self, out: &mut Writer, text: &str) -> Result<()> {
        out.push("\"")?;
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            let escaped = match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                '\u{8}' => "\\b".to_owned(),
                '\u{c}' => "\\f".to_owned(),
                c if (c as u32) < 0x20 || (self.ascii && (c as u32) > 0x7e) => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }
                _ => continue,
            };
            out.push(&text[plain..at])?;
            out.push(&escaped)?;
            plain = at + c.len_utf8();
        }
        out.push(&text[plain..])?;
        out.push("\"")
    }
}

fn json_float(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        v => float_repr(v),
    }
}

fn unpacked(found: usize) -> Box<super::super::fault::Fault> {
    value_error(match found {
        0 | 1 => format!("not enough values to unpack (expected 2, got {found})"),
        _ => "too many values to unpack (expected 2)".to_owned(),
    })
}
