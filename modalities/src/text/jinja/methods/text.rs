//! Python's methods of strings.

use super::super::fault::{Class, Result, fault, type_error, unsupported, value_error};
use super::super::format::braces;
use super::super::lex::is_space;
use super::super::meter::{Writer, room, room_for, spend, spend_bytes};
use super::super::run::State;
use super::super::run::arguments::{Args, integer};
use super::super::strings::{
    capitalize, cased, casefold, centered, lines, pad, title, words, words_from_right,
};
use super::super::value::{Text, Value, collect, printable, slice_indices};

const METHODS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

/// Whether strings have a method.
pub(super) fn exists(name: &str) -> bool {
    METHODS.contains(&name)
}

/// The text of an argument that must be one.
fn text_of<'v>(value: &'v Value, what: &str) -> Result<&'v str> {
    value.as_str().ok_or_else(|| type_error(format!("{what} must be str, not {}", value.type_name())))
}

/// An optional limit: negative is none.
fn limit(value: Option<Value>) -> Result<Option<usize>> {
    Ok(value.map_or(Ok(-1), |value| integer(&value)).map(usize::try_from)?.ok())
}

/// The bytes of the characters from `start` to `stop`; `None` where a slice begins behind the end.
fn part(text: &str, start: Option<Value>, stop: Option<Value>) -> Result<Option<(usize, usize, usize)>> {
    if start.is_none() && stop.is_none() {
        return Ok(Some((0, 0, text.len())));
    }
    let length = text.chars().count();
    let none = |value: Option<Value>| value.unwrap_or(Value::None);
    let start = none(start);
    let behind = start.as_index().is_some_and(|start| start > length as i128);
    let range = slice_indices(length, &[start, none(stop), Value::None])?;
    if behind || range.start > range.stop {
        return Ok(None);
    }
    let byte = |at: i128| text.char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    Ok(Some((range.start as usize, byte(range.start), byte(range.stop))))
}

/// All the methods that take nothing and change characters.
fn mapped(text: &str, name: &str) -> Option<String> {
    Some(match name {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        "capitalize" => capitalize(text),
        "title" => title(text),
        "casefold" => casefold(text),
        "swapcase" => {
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                match c {
                    c if c.is_uppercase() => out.extend(c.to_lowercase()),
                    c if c.is_lowercase() => out.extend(c.to_uppercase()),
                    c => out.push(c),
                }
            }
            out
        }
        _ => return None,
    })
}

/// Digits that make no decimal number: superscripts, circled ones.
fn is_digit(c: char) -> bool {
    is_decimal(c)
        || matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⑴'..='⑼' | '⒈'..='⒐')
}

fn is_decimal(c: char) -> bool {
    // A decimal digit of any script is numeric, and no letter or fraction; its block counts from zero.
    c.is_ascii_digit() || (c.is_numeric() && !c.is_alphabetic() && decimal_block(c))
}

/// Blocks of decimal digits beyond ASCII that texts use.
fn decimal_block(c: char) -> bool {
    const ZEROS: [u32; 23] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50,
        0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0xa620, 0xff10,
    ];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&(c as u32)))
}

/// All the questions about a text's characters.
fn is(text: &str, name: &str) -> Option<bool> {
    let all = |test: &dyn Fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    Some(match name {
        "isalpha" => all(&|c| c.is_alphabetic() && !c.is_numeric()),
        "isalnum" => all(&char::is_alphanumeric),
        "isascii" => text.is_ascii(),
        "isdecimal" => all(&is_decimal),
        "isdigit" => all(&is_digit),
        "isnumeric" => all(&char::is_numeric),
        "isspace" => all(&is_space),
        "isprintable" => text.chars().all(printable),
        "isidentifier" => {
            let mut characters = text.chars();
            characters.next().is_some_and(|c| c == '_' || (c.is_alphabetic() && !c.is_numeric()))
                && characters.all(|c| c == '_' || c.is_alphanumeric())
        }
        "islower" => text.chars().any(cased) && text.chars().all(|c| !cased(c) || c.is_lowercase()),
        "isupper" => text.chars().any(cased) && text.chars().all(|c| !cased(c) || c.is_uppercase()),
        "istitle" => {
            let (mut within, mut any) = (false, false);
            for c in text.chars() {
                let fine = if c.is_lowercase() { within } else { !cased(c) || !within };
                if !fine {
                    return Some(false);
                }
                within = cased(c);
                any |= within;
            }
            any
        }
        _ => return None,
    })
}

/// The number of times that a part occurs; an empty one stands around every character.
fn count(text: &str, part: &str) -> usize {
    if part.is_empty() { text.chars().count() + 1 } else { text.matches(part).count() }
}

/// Every `old` as `new`, at most so many times.
pub(in super::super) fn replaced(text: &str, old: &str, new: &str, most: Option<usize>) -> Result<String> {
    spend_bytes(text.len())?;
    let times = count(text, old).min(most.unwrap_or(usize::MAX));
    room(text.len())?;
    room_for(times, new.len())?;
    spend(times)?;
    Ok(text.replacen(old, new, times))
}

/// Calls a method of a string.
pub(super) fn call(state: &mut State, of: &Text, name: &str, args: Args) -> Result<Value> {
    let text: &str = &of.text;
    spend_bytes(text.len())?;
    if let Some(answer) = is(text, name) {
        let [] = args.positional(name, 0)?;
        return Ok(Value::Bool(answer));
    }
    room_for(text.len(), 3)?;
    if let Some(mapped) = mapped(text, name) {
        let [] = args.positional(name, 0)?;
        return of.like(mapped);
    }
    let list = |parts: Vec<&str>| -> Result<Value> {
        spend(parts.len())?;
        room_for(parts.len(), 2 * size_of::<Value>() + 64)?;
        Value::list(parts.into_iter().map(|part| of.like(part.to_owned())).collect::<Result<_>>()?)
    };
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = args.positional(name, 0)?;
            of.like(stripped(text, name, characters.as_ref())?.to_owned())
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = args.positional(name, 1)?;
            let affix = affix.unwrap_or(Value::None);
            let affix = text_of(&affix, name)?;
            let cut =
                if name == "removeprefix" { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
            of.like(cut.unwrap_or(text).to_owned())
        }
        "startswith" | "endswith" => {
            let [affix, start, stop] = args.positional(name, 1)?;
            let affixes = match affix.unwrap_or(Value::None) {
                Value::Tuple(list) => list.items.clone(),
                other => vec![other],
            };
            let part = part(text, start, stop)?;
            for affix in &affixes {
                let affix = text_of(affix, &format!("{name} first arg"))?;
                let Some((_, start, stop)) = part else { continue };
                let within = &text[start..stop];
                if if name == "startswith" { within.starts_with(affix) } else { within.ends_with(affix) } {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [wanted, start, stop] = args.positional(name, 1)?;
            let wanted = wanted.unwrap_or(Value::None);
            let wanted = text_of(&wanted, name)?;
            let part = part(text, start, stop)?;
            let within = part.map(|(first, start, stop)| (first, &text[start..stop]));
            if name == "count" {
                return Ok(Value::Int(within.map_or(0, |(_, within)| count(within, wanted)) as i128));
            }
            let at = within.and_then(|(first, within)| {
                let at = if name.starts_with('r') { within.rfind(wanted) } else { within.find(wanted) }?;
                Some(first + within[..at].chars().count())
            });
            match at {
                Some(at) => Ok(Value::Int(at as i128)),
                None if name.ends_with("index") => Err(value_error("substring not found")),
                None => Ok(Value::Int(-1)),
            }
        }
        "replace" => {
            let [old, new, most] = args.positional(name, 2)?;
            let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
            let (old, new) = (text_of(&old, "replace() argument 1")?, text_of(&new, "replace() argument 2")?);
            of.like(replaced(text, old, new, limit(most)?)?)
        }
        "split" | "rsplit" => {
            let [separator, most] = args.bind(name, ["sep", "maxsplit"], 0)?;
            let most = limit(most)?;
            match separator {
                None | Some(Value::None) if name == "split" => list(words(text, most)),
                None | Some(Value::None) => list(words_from_right(text, most)),
                Some(separator) => {
                    let separator = text_of(&separator, "the separator")?;
                    if separator.is_empty() {
                        return Err(value_error("empty separator"));
                    }
                    let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
                    if name == "split" {
                        return list(text.splitn(most, separator).collect());
                    }
                    let mut parts: Vec<&str> = text.rsplitn(most, separator).collect();
                    parts.reverse();
                    list(parts)
                }
            }
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"], 0)?;
            list(lines(text, keep.map_or(Ok(false), |keep| keep.truth())?)?)
        }
        "partition" | "rpartition" => {
            let [separator] = args.positional(name, 1)?;
            let separator = separator.unwrap_or(Value::None);
            let separator = text_of(&separator, "the separator")?;
            if separator.is_empty() {
                return Err(value_error("empty separator"));
            }
            let at = if name == "partition" { text.find(separator) } else { text.rfind(separator) };
            let parts = match at {
                Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Value::tuple(parts.into_iter().map(|part| of.like(part.to_owned())).collect::<Result<_>>()?)
        }
        "join" => {
            let [items] = args.positional(name, 1)?;
            let items = collect(state, &items.unwrap_or(Value::None))?;
            let mut out = Writer::new();
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(text)?;
                }
                out.push(text_of(item, &format!("sequence item {i}"))?)?;
            }
            of.like(out.finish())
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = args.positional(name, 1)?;
            let width = usize::try_from(integer(&width.unwrap_or(Value::None))?.max(0)).unwrap_or(usize::MAX);
            let fill = match &fill {
                None => ' ',
                Some(fill) => {
                    let fill = text_of(fill, "The fill character")?;
                    let mut characters = fill.chars();
                    match (characters.next(), characters.next()) {
                        (Some(c), None) => c,
                        _ => return Err(type_error("The fill character must be exactly one character long")),
                    }
                }
            };
            if name == "center" {
                return of.like(centered(text, width, fill)?);
            }
            let room = width.saturating_sub(text.chars().count());
            let (before, after) = if name == "ljust" { (0, room) } else { (room, 0) };
            let mut out = Writer::new();
            pad(&mut out, text, fill, before, after)?;
            of.like(out.finish())
        }
        "zfill" => {
            let [width] = args.positional(name, 1)?;
            let width = usize::try_from(integer(&width.unwrap_or(Value::None))?.max(0)).unwrap_or(usize::MAX);
            let sign = text.len() - text.strip_prefix(['+', '-']).unwrap_or(text).len();
            let mut out = Writer::new();
            out.push(&text[..sign])?;
            out.fill('0', width.saturating_sub(text.chars().count()))?;
            out.push(&text[sign..])?;
            of.like(out.finish())
        }
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"], 0)?;
            let size =
                usize::try_from(size.map_or(Ok(8), |size| integer(&size))?.max(0)).unwrap_or(usize::MAX);
            let mut out = Writer::new();
            let mut column = 0;
            for c in text.chars() {
                if c == '\t' {
                    let fill = if size == 0 { 0 } else { size - column % size };
                    out.fill(' ', fill)?;
                    column += fill;
                    continue;
                }
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                out.push_char(c)?;
            }
            of.like(out.finish())
        }
        "format" => {
            let markup = of.markup;
            of.like(braces(state, text, &args, markup)?)
        }
        "format_map" => {
            let [map] = args.positional(name, 1)?;
            let named = match map.unwrap_or(Value::None) {
                Value::Dict(dict) => {
                    let named = dict.entries().iter();
                    named.filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.clone()))).collect()
                }
                Value::Undefined(missing) => return Err(Value::misused(&missing)),
                other => {
                    return Err(fault(
                        Class::Type,
                        format!("'{}' object is not a mapping", other.type_name()),
                    ));
                }
            };
            of.like(braces(state, text, &Args { list: Vec::new(), named }, of.markup)?)
        }
        _ => Err(unsupported(format!("the method {name} of strings"))),
    }
}

/// A text without characters at its ends; white space unless they are named.
pub(in super::super) fn stripped<'t>(
    text: &'t str,
    name: &str,
    characters: Option<&Value>,
) -> Result<&'t str> {
    let within: Box<dyn Fn(char) -> bool> = match characters {
        None | Some(Value::None) => Box::new(is_space),
        Some(characters) => {
            let all: std::collections::HashSet<char> = text_of(characters, "strip arg")?.chars().collect();
            Box::new(move |c| all.contains(&c))
        }
    };
    Ok(match name {
        "lstrip" => text.trim_start_matches(within),
        "rstrip" => text.trim_end_matches(within),
        _ => text.trim_start_matches(&within).trim_end_matches(&within),
    })
}
