//! Filters of texts.

use super::super::fault::{Class, Result, fault, type_error, unsupported};
use super::super::format::percent;
use super::super::lex::is_space;
use super::super::meter::{Writer, room_for, spend, spend_bytes};
use super::super::methods::{replaced, stripped};
use super::super::run::State;
use super::super::run::arguments::{Args, integer};
use super::super::strings::{capitalize, centered, escape, lines, words};
use super::super::value::{Text, Value, collect, repr, to_str};
use super::sequence::{entries, sorted};
use super::{soft, truth, wrap};
use std::rc::Rc;

/// The text of a value, made of it where it is none.
fn text_of(value: Value) -> Result<Rc<Text>> {
    match soft(value)? {
        Value::Str(text) => Ok(text),
        _ => Err(type_error("expected a string")),
    }
}

/// The text of a value that must be one; `attribute` is what Python would look for in another.
fn only_text(value: &Value, attribute: &str) -> Result<Rc<Text>> {
    match value {
        Value::Str(text) => Ok(text.clone()),
        Value::Undefined(missing) => Err(Value::misused(missing)),
        other => Err(fault(
            Class::Attribute,
            format!("'{}' object has no attribute '{attribute}'", other.type_name()),
        )),
    }
}

pub(super) fn apply(state: &mut State, name: &str, value: Value, args: Args) -> Result<Value> {
    if let Value::Str(text) = &value {
        spend_bytes(text.text.len())?;
        room_for(text.text.len(), 3)?;
    }
    match name {
        "upper" | "lower" | "capitalize" | "title" => {
            let [] = args.bind(name, [], 0)?;
            let text = text_of(value)?;
            text.like(match name {
                "upper" => text.text.to_uppercase(),
                "lower" => text.text.to_lowercase(),
                "capitalize" => capitalize(&text.text),
                _ => titled(&text.text),
            })
        }
        "trim" => {
            let [characters] = args.bind("do_trim", ["chars"], 0)?;
            let text = text_of(value)?;
            text.like(stripped(&text.text, "strip", characters.as_ref())?.to_owned())
        }
        "center" => {
            let [width] = args.bind("do_center", ["width"], 0)?;
            let width = width.map_or(Ok(80), |width| integer(&width))?;
            let text = text_of(value)?;
            text.like(centered(&text.text, usize::try_from(width.max(0)).unwrap_or(usize::MAX), ' ')?)
        }
        "replace" => {
            let [old, new, count] = args.bind("do_replace", ["old", "new", "count"], 2)?;
            let count = match count {
                None | Some(Value::None) => None,
                Some(count) => usize::try_from(integer(&count)?).ok(),
            };
            let part = |value: Option<Value>| to_str(&value.unwrap_or(Value::None));
            let text = replaced(&to_str(&value)?, &part(old)?, &part(new)?, count)?;
            Value::text(text, state.autoescape && value.is_markup())
        }
        "format" => {
            let text = text_of(value)?;
            if !args.list.is_empty() && !args.named.is_empty() {
                return Err(fault(
                    Class::FilterArgument,
                    "can't handle positional and keyword arguments at the same time",
                ));
            }
            let given = match args.named.is_empty() {
                true => Value::tuple(args.list)?,
                false => state.dict(args)?,
            };
            text.like(percent(&text, &given)?)
        }
        "indent" => indent(&value, args),
        "truncate" => truncate(value, args),
        "wordcount" => {
            let [] = args.bind("do_wordcount", [], 0)?;
            let text = text_of(value)?;
            let word = |c: char| c == '_' || c.is_alphanumeric();
            let count = text.text.split(|c| !word(c)).filter(|word| !word.is_empty()).count();
            Ok(Value::Int(count as i128))
        }
        "wordwrap" => wordwrap(&value, args),
        "urlencode" => {
            let [] = args.bind("do_urlencode", [], 0)?;
            url_encode(state, &value)
        }
        "xmlattr" => {
            let [space] = args.bind("do_xmlattr", ["autospace"], 0)?;
            let mut out = Writer::new();
            for (name, item) in entries(&value)?.entries() {
                if matches!(item, Value::None | Value::Undefined(_)) {
                    continue;
                }
                let Value::Str(key) = name else {
                    return Err(type_error("expected string or bytes-like object"));
                };
                let bad = |c: char| c.is_ascii_whitespace() || matches!(c, '\x0b' | '/' | '>' | '=');
                if key.text.contains(bad) {
                    return Err(super::super::fault::value_error(format!(
                        "Invalid character in attribute name: '{}'",
                        key.text
                    )));
                }
                out.push(" ")?;
                escape(&mut out, &key.text)?;
                out.push("=\"")?;
                match item {
                    Value::Str(text) if text.markup => out.push(&text.text)?,
                    other => escape(&mut out, &to_str(other)?)?,
                }
                out.push("\"")?;
            }
            let text = out.finish();
            let spaced = space.map_or(Ok(true), |space| space.truth())?;
            let text = if spaced { text } else { text.strip_prefix(' ').unwrap_or(&text).to_owned() };
            Value::text(text, state.autoescape)
        }
        "striptags" => {
            let [] = args.bind("do_striptags", [], 0)?;
            without_tags(&to_str(&value)?)
        }
        "pprint" => {
            let [] = args.bind("do_pprint", [], 0)?;
            let text = repr(&ordered_keys(&value)?)?;
            match text.chars().count() <= 80
                || !matches!(value, Value::List(_) | Value::Tuple(_) | Value::Dict(_))
            {
                true => Value::str(text),
                false => Err(unsupported("the filter pprint of what does not fit a line")),
            }
        }
        _ => Err(fault(Class::TemplateRuntime, format!("No filter named '{name}'."))),
    }
}

/// Words with a capital, where a word begins behind white space, a hyphen or an opening bracket.
fn titled(text: &str) -> String {
    let begins = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| begins(c) != begins(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        out.extend(first.to_uppercase());
        out += &piece[first.len_utf8()..].to_lowercase();
        rest = after;
    }
    out
}

fn indent(value: &Value, args: Args) -> Result<Value> {
    let [width, first, blank] = args.bind("do_indent", ["width", "first", "blank"], 0)?;
    let text = match value {
        Value::Str(text) => text,
        Value::Undefined(missing) => return Err(Value::misused(missing)),
        other => return Err(type_error(format!("unsupported operand for +=: '{}'", other.type_name()))),
    };
    let indention = match &width {
        Some(Value::Str(text)) => text.text.to_string(),
        other => {
            let width = other.as_ref().map_or(Ok(4), integer)?;
            let mut out = Writer::new();
            out.fill(' ', usize::try_from(width.max(0)).unwrap_or(usize::MAX))?;
            out.finish()
        }
    };
    let (first, blank) = (truth(first)?, truth(blank)?);
    let whole = format!("{}\n", text.text);
    let mut out = Writer::new();
    if first {
        out.push(&indention)?;
    }
    for (i, line) in lines(&whole, false)?.into_iter().enumerate() {
        if i > 0 {
            out.push("\n")?;
            if blank || !line.is_empty() {
                out.push(&indention)?;
            }
        }
        out.push(line)?;
    }
    text.like(out.finish())
}

fn truncate(value: Value, args: Args) -> Result<Value> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, kill, end, leeway] = args.bind("do_truncate", names, 0)?;
    let length = length.map_or(Ok(255), |length| integer(&length))?;
    let end = end.map_or_else(|| Value::str("..."), Ok)?;
    let leeway = match leeway {
        None | Some(Value::None) => 5,
        Some(leeway) => integer(&leeway)?,
    };
    let end_length = end.length()? as i128;
    if length < end_length || leeway < 0 {
        return Err(fault(
            Class::Assertion,
            format!("expected length >= {end_length}, got {length}, and leeway >= 0"),
        ));
    }
    if (value.length()? as i128) <= length.saturating_add(leeway) {
        return Ok(value);
    }
    let text = only_text(&value, "rsplit")?;
    let end = match &end {
        Value::Str(end) => end.text.to_string(),
        other => {
            return Err(type_error(format!(
                "can only concatenate str (not \"{}\") to str",
                other.type_name()
            )));
        }
    };
    let cut: String = text.text.chars().take((length - end_length) as usize).collect();
    let kept = match truth(kill)? {
        true => cut.as_str(),
        false => cut.rsplit_once(' ').map_or(cut.as_str(), |(before, _)| before),
    };
    text.like(format!("{kept}{end}"))
}

fn wordwrap(value: &Value, args: Args) -> Result<Value> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let [width, long, between, hyphens] = args.bind("do_wordwrap", names, 0)?;
    let text = only_text(value, "splitlines")?;
    let width = width.map_or(Ok(79), |width| integer(&width))?;
    let yes = |value: Option<Value>| value.map_or(Ok(true), |value| value.truth());
    let (long, hyphens) = (yes(long)?, yes(hyphens)?);
    let between = match between {
        None | Some(Value::None) => "\n".to_owned(),
        Some(between) => only_text(&between, "join")?.text.to_string(),
    };
    let mut out = Writer::new();
    for (i, line) in lines(&text.text, false)?.into_iter().enumerate() {
        if i > 0 {
            out.push(&between)?;
        }
        for (j, part) in wrap::wrap(line, width, long, hyphens)?.iter().enumerate() {
            if j > 0 {
                out.push(&between)?;
            }
            out.push(part)?;
        }
    }
    Value::str(out.finish())
}

fn quoted(out: &mut Writer, text: &str, query: bool) -> Result<()> {
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                out.push_char(b as char)?
            }
            b'/' if !query => out.push("/")?,
            b' ' if query => out.push("+")?,
            b => out.push(&format!("%{b:02X}"))?,
        }
    }
    Ok(())
}

fn url_encode(state: &mut State, value: &Value) -> Result<Value> {
    let mut out = Writer::new();
    let pairs = match value {
        Value::Dict(dict) => Value::View(dict.clone(), super::super::value::View::Items),
        Value::List(_)
        | Value::Tuple(_)
        | Value::Iter(_)
        | Value::View(..)
        | Value::Range(_)
        | Value::Undefined(_) => value.clone(),
        other => {
            quoted(&mut out, &to_str(other)?, false)?;
            return Value::str(out.finish());
        }
    };
    for (i, pair) in collect(state, &pairs)?.iter().enumerate() {
        let pair = state.unpack(pair, 2)?;
        if i > 0 {
            out.push("&")?;
        }
        quoted(&mut out, &to_str(&pair[0])?, true)?;
        out.push("=")?;
        quoted(&mut out, &to_str(&pair[1])?, true)?;
    }
    Value::str(out.finish())
}

/// A text without comments and tags, with its entities resolved and its white space collapsed.
fn without_tags(text: &str) -> Result<Value> {
    let mut text = text.to_owned();
    while let Some(start) = text.find("<!--") {
        spend_bytes(text.len())?;
        let Some(end) = text[start..].find("-->") else { break };
        text.replace_range(start..start + end + 3, "");
    }
    let mut plain = Writer::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find('<') {
        spend(1)?;
        let Some(end) = rest[start..].find('>') else { break };
        plain.push(&rest[..start])?;
        rest = &rest[start + end + 1..];
    }
    plain.push(rest)?;
    let plain = words(&plain.finish(), None).join(" ");
    let mut out = Writer::new();
    let mut rest = plain.as_str();
    while let Some(at) = rest.find('&') {
        out.push(&rest[..at])?;
        rest = &rest[at..];
        let name = rest[1..].find(';').map(|end| &rest[1..=end]).filter(|name| name.len() <= 32);
        let named = name.and_then(|name| {
            Some(match name {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                "nbsp" => '\u{a0}',
                other => {
                    let number = other.strip_prefix('#')?;
                    let code = match number.strip_prefix(['x', 'X']) {
                        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                        None => number.parse().ok()?,
                    };
                    char::from_u32(code).filter(|_| code >= 0xa0 || (0x20..0x7f).contains(&code))?
                }
            })
        });
        match (named, name) {
            (Some(c), Some(name)) => {
                out.push_char(c)?;
                rest = &rest[name.len() + 2..];
            }
            _ if rest[1..].starts_with(|c: char| c == '#' || c.is_ascii_alphabetic()) => {
                return Err(unsupported("the filter striptags of a text with such an entity"));
            }
            _ => {
                out.push("&")?;
                rest = &rest[1..];
            }
        }
    }
    out.push(rest)?;
    Value::str(out.finish())
}

/// Dictionaries in the order of their keys, as Python's `pprint` shows them.
fn ordered_keys(value: &Value) -> Result<Value> {
    Ok(match value {
        Value::Dict(dict) => {
            let entries = sorted(dict.entries().to_vec(), &mut |a: &(Value, Value), b: &(Value, Value)| {
                super::super::value::less(&a.0, &b.0)
            })?;
            let mut sorted = super::super::value::Dict::new();
            for (name, value) in entries {
                sorted.insert(name, ordered_keys(&value)?)?;
            }
            sorted.finish()?
        }
        Value::List(list) => Value::list(list.items.iter().map(ordered_keys).collect::<Result<_>>()?)?,
        Value::Tuple(list) => Value::tuple(list.items.iter().map(ordered_keys).collect::<Result<_>>()?)?,
        other => other.clone(),
    })
}
