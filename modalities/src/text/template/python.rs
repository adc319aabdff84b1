//! Values as Python writes them.

use std::fmt::Write;

use minijinja::value::{Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

type Result<T> = std::result::Result<T, Error>;

/// Nesting of a value that is still written; templates cannot make values that contain themselves, but can nest them.
const DEEPEST: usize = 128;

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a value is nested too deeply to be written")
}

/// `str(value)`; what is undefined is empty, as in Jinja.
pub(super) fn to_str(value: &Value) -> Result<String> {
    let mut out = String::new();
    match (value.as_str(), value.kind()) {
        (Some(text), _) => out.push_str(text),
        (_, ValueKind::Undefined) => {}
        _ => repr(&mut out, value, DEEPEST)?,
    }
    Ok(out)
}

/// `repr(value)`.
fn repr(out: &mut String, value: &Value, depth: usize) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => number(out, value),
        ValueKind::String => quote(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut length = 0;
            for item in value.try_iter()? {
                if length > 0 {
                    out.push_str(", ");
                }
                length += 1;
                repr(out, &item, depth)?;
            }
            if value.is_tuple() && length == 1 {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(out, &key, depth)?;
                out.push_str(": ");
                repr(out, &value.get_item(&key)?, depth)?;
            }
            out.push('}');
        }
        _ => write!(out, "{value}").map_err(|_| Error::from(ErrorKind::WriteFailure))?,
    }
    Ok(())
}

/// A string in Python's quotes: single ones unless it holds those and no double ones.
fn quote(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == mark => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..0xa0).contains(&(c as u32)) => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(mark);
}

/// An integer, or a float as `float.__repr__` writes it: the shortest digits that read back, with an exponent below 1e-4
/// and from 1e16 on.
fn number(out: &mut String, value: &Value) {
    let float = match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float,
        _ => {
            let _ = write!(out, "{value}");
            return;
        }
    };
    if float.is_nan() || float.is_infinite() {
        out.push_str(match float {
            f if f.is_nan() => "nan",
            f if f > 0.0 => "inf",
            _ => "-inf",
        });
        return;
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let _ = if (-4..16).contains(&exponent) {
        write!(out, "{float:?}")
    } else {
        write!(out, "{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    };
}

/// The options of `json.dumps` that transformers' `tojson` has.
pub(super) struct Json {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort: bool,
}

impl Json {
    pub(super) fn new(options: &Kwargs) -> Result<Json> {
        let indent: Option<Value> = options.get("indent")?;
        let indent = indent.filter(|indent| !indent.is_none());
        let indent = indent.map(|indent| match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent).unwrap_or(0).min(64)),
        });
        let separators: Option<Value> = options.get("separators")?;
        let (item, key) = match separators.filter(|separators| !separators.is_none()) {
            Some(pair) => {
                let text = |i: usize| -> Result<String> {
                    pair.get_item_by_index(i)?.as_str().map(str::to_owned).ok_or_else(|| {
                        Error::new(ErrorKind::InvalidOperation, "separators are a pair of strings")
                    })
                };
                (text(0)?, text(1)?)
            }
            None => ((if indent.is_some() { "," } else { ", " }).into(), ": ".into()),
        };
        Ok(Json {
            ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
            sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
            indent,
            item,
            key,
        })
    }

    /// The JSON text of a value.
    pub(super) fn dump(&self, value: &Value) -> Result<String> {
        let mut out = String::new();
        self.write(&mut out, value, 0)?;
        Ok(out)
    }

    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let at = out.len();
                number(out, value);
                let named = match &out[at..] {
                    "nan" => Some("NaN"),
                    "inf" => Some("Infinity"),
                    "-inf" => Some("-Infinity"),
                    _ => None,
                };
                if let Some(name) = named {
                    out.replace_range(at.., name);
                }
            }
            ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(out, ('[', ']'), depth, &items, |out, item| self.write(out, item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.list(out, ('{', '}'), depth, &keys, |out, key| {
                    match key.as_str() {
                        Some(text) => self.string(out, text),
                        None => {
                            out.push('"');
                            self.write(out, key, depth + 1)?;
                            out.push('"');
                        }
                    }
                    out.push_str(&self.key);
                    self.write(out, &value.get_item(key)?, depth + 1)
                })?;
            }
            kind => {
                return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson cannot write {kind}")));
            }
        }
        Ok(())
    }

    /// Entries between brackets, each on a line of its own where there is an indent.
    fn list(
        &self,
        out: &mut String,
        (open, close): (char, char),
        depth: usize,
        entries: &[Value],
        mut write: impl FnMut(&mut String, &Value) -> Result<()>,
    ) -> Result<()> {
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        for (i, entry) in entries.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.item);
            }
            line(out, depth + 1);
            write(out, entry)?;
        }
        if !entries.is_empty() {
            line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ascii && (c as u32) > 0x7e) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Python's methods: those of minijinja-contrib, and a few more of strings that templates use.
pub(super) fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value> {
    if let Some(text) = value.as_str() {
        let with = |wanted: &str| name == wanted;
        if with("removeprefix") || with("removesuffix") {
            let (affix,): (&str,) = from_args(arguments)?;
            let cut = if with("removeprefix") { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
            return Ok(Value::from(cut.unwrap_or(text)));
        }
        if with("partition") || with("rpartition") {
            let (separator,): (&str,) = from_args(arguments)?;
            if separator.is_empty() {
                return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
            }
            let at = if with("partition") { text.find(separator) } else { text.rfind(separator) };
            let parts = match at {
                Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
                None if with("partition") => [text, "", ""],
                None => ["", "", text],
            };
            return Ok(Value::from(Tuple::from(parts.map(Value::from))));
        }
        if with("rsplit") {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            let most = most.and_then(|most| usize::try_from(most).ok());
            if let (Some(separator), Some(most)) = (separator.filter(|s| !s.is_empty()), most) {
                let mut parts: Vec<_> =
                    text.rsplitn(most.saturating_add(1), separator).map(Value::from).collect();
                parts.reverse();
                return Ok(Value::from(parts));
            }
            return minijinja_contrib::pycompat::unknown_method_callback(state, value, "split", arguments);
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}
