//! `text.format(...)` and `text.format_map(...)`.

use super::super::fault::{Class, Result, fault, value_error};
use super::super::meter::{Writer, spend};
use super::super::run::State;
use super::super::run::arguments::Args;
use super::super::strings::escape;
use super::super::value::{Value, repr, to_str};
use super::percent::ascii;
use super::spec::format_value;

/// Levels of fields within the specifications of others.
const DEEPEST: usize = 3;

struct Fields<'a> {
    args: &'a Args,
    /// The number of the next `{}`; `None` once fields are numbered by hand.
    next: Option<usize>,
    by_hand: bool,
    markup: bool,
}

/// A text with its fields filled in.
pub(in super::super) fn braces(state: &mut State, text: &str, args: &Args, markup: bool) -> Result<String> {
    let mut fields = Fields { args, next: Some(0), by_hand: false, markup };
    let mut out = Writer::new();
    fields.write(state, &mut out, text, DEEPEST)?;
    Ok(out.finish())
}

impl Fields<'_> {
    fn write(&mut self, state: &mut State, out: &mut Writer, text: &str, depth: usize) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| value_error("Max string recursion exceeded"))?;
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            spend(1)?;
            out.push(&rest[..at])?;
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if rest.starts_with(brace) {
                out.push(brace)?;
                rest = &rest[1..];
                continue;
            }
            if brace == "}" {
                return Err(value_error("Single '}' encountered in format string"));
            }
            let end = closing(rest)?;
            self.field(state, out, &rest[..end], depth)?;
            rest = &rest[end + 1..];
        }
        out.push(rest)
    }

    fn field(&mut self, state: &mut State, out: &mut Writer, field: &str, depth: usize) -> Result<()> {
        let bracket = |at: usize| field[..at].matches('[').count() > field[..at].matches(']').count();
        let split = field.char_indices().find(|&(at, c)| (c == '!' || c == ':') && !bracket(at));
        let (name, conversion, spec) = match split {
            None => (field, None, ""),
            Some((at, ':')) => (&field[..at], None, &field[at + 1..]),
            Some((at, _)) => {
                let after = &field[at + 1..];
                let Some(kind) = after.chars().next() else {
                    return Err(value_error("end of string while looking for conversion specifier"));
                };
                let after = &after[kind.len_utf8()..];
                match after.strip_prefix(':') {
                    Some(spec) => (&field[..at], Some(kind), spec),
                    None if after.is_empty() => (&field[..at], Some(kind), ""),
                    None => return Err(value_error("expected ':' after conversion specifier")),
                }
            }
        };
        let mut value = self.value(state, name)?;
        if let Some(kind) = conversion {
            let text = match kind {
                's' => to_str(&value)?,
                'r' => repr(&value)?,
                'a' => ascii(&repr(&value)?)?,
                other => return Err(value_error(format!("Unknown conversion specifier {other}"))),
            };
            value = Value::str(text)?;
        }
        let mut written = Writer::new();
        self.write(state, &mut written, spec, depth)?;
        let text = format_value(&value, &written.finish())?;
        if self.markup && !value.is_markup() { escape(out, &text) } else { out.push(&text) }
    }

    /// The value that a field's name leads to.
    fn value(&mut self, state: &mut State, name: &str) -> Result<Value> {
        let first = name.find(['.', '[']).unwrap_or(name.len());
        let (head, mut rest) = name.split_at(first);
        let number = if head.is_empty() {
            if self.by_hand {
                return Err(value_error(
                    "cannot switch from manual field specification to automatic field numbering",
                ));
            }
            let number = self.next.unwrap_or(0);
            self.next = Some(number + 1);
            Some(number)
        } else if head.bytes().all(|b| b.is_ascii_digit()) {
            if self.next.is_some_and(|next| next > 0) {
                return Err(value_error(
                    "cannot switch from automatic field numbering to manual field specification",
                ));
            }
            self.by_hand = true;
            Some(head.parse().unwrap_or(usize::MAX))
        } else {
            None
        };
        let mut value = match number {
            Some(number) => self.args.list.get(number).cloned().ok_or_else(|| {
                fault(
                    Class::Index,
                    format!("Replacement index {number} out of range for positional args tuple"),
                )
            })?,
            None => {
                let found = self.args.named.iter().find(|(known, _)| known == head);
                found.map(|(_, value)| value.clone()).ok_or_else(|| fault(Class::Key, format!("'{head}'")))?
            }
        };
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                if end == 0 {
                    return Err(value_error("Empty attribute in format string"));
                }
                value = state.attribute(&value, &after[..end])?;
                rest = &after[end..];
            } else if let Some(after) = rest.strip_prefix('[') {
                let end = after.find(']').ok_or_else(|| value_error("Missing ']' in format string"))?;
                let at = &after[..end];
                if at.is_empty() {
                    return Err(value_error("Empty attribute in format string"));
                }
                let digits = at.bytes().all(|b| b.is_ascii_digit());
                let at = match at.parse() {
                    Ok(at) if digits => Value::Int(at),
                    _ => Value::str(at)?,
                };
                value = state.item(&value, &at)?;
                rest = &after[end + 1..];
            } else {
                return Err(value_error("Only '.' or '[' may follow ']' in format field specifier"));
            }
        }
        Ok(value)
    }
}

/// Where the field that begins a text ends.
fn closing(text: &str) -> Result<usize> {
    let mut open = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Ok(at);
        }
    }
    Err(value_error(if text.is_empty() {
        "Single '{' encountered in format string"
    } else {
        "expected '}' before end of string"
    }))
}
