//! Filters of lists and of what can be gone through.

use std::rc::Rc;

use super::super::fault::{Class, Result, fault, type_error};
use super::super::meter::{Writer, spend};
use super::super::run::State;
use super::super::run::arguments::{Args, integer};
use super::super::value::{
    Dict, Iter, List, Seen, Value, collect, equal, iterate, less, room_for_items, to_str,
};
use super::{escaped, path, truth};

/// Sorts by a comparison that may fail; equal items keep their order.
pub(in super::super) fn sorted<T: Clone>(
    items: Vec<T>,
    less: &mut impl FnMut(&T, &T) -> Result<bool>,
) -> Result<Vec<T>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let mut left = items;
    let right = left.split_off(left.len() / 2);
    let (left, right) = (sorted(left, less)?, sorted(right, less)?);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        spend(1)?;
        let from_right = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => less(b, a)?,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => return Ok(merged),
        };
        merged.extend(if from_right { right.next() } else { left.next() });
    }
}

/// A key without its case.
fn folded(value: Value, case_sensitive: bool) -> Result<Value> {
    match &value {
        Value::Str(text) if !case_sensitive => Value::str(text.text.to_lowercase()),
        _ => Ok(value),
    }
}

/// Items by a key each, sorted by it.
fn by_key(items: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<(Value, Value)>> {
    room_for_items(items.len().saturating_mul(2))?;
    sorted(items, &mut |a: &(Value, Value), b: &(Value, Value)| {
        if reverse { less(&b.0, &a.0) } else { less(&a.0, &b.0) }
    })
}

fn values(items: Vec<(Value, Value)>) -> Vec<Value> {
    items.into_iter().map(|(_, value)| value).collect()
}

pub(super) fn apply(state: &mut State, name: &str, value: Value, args: Args) -> Result<Value> {
    match name {
        "list" => {
            let [] = args.bind("do_list", [], 0)?;
            Value::list(collect(state, &value)?)
        }
        "first" => {
            let [] = args.bind("do_first", [], 0)?;
            let first = iterate(&value)?.next(state)?;
            Ok(first.unwrap_or_else(|| state.undefined("No first item, sequence was empty.")))
        }
        "last" => {
            let [] = args.bind("do_last", [], 0)?;
            let last = match reversed(state, &value)? {
                Some(mut iter) => iter.next(state)?,
                None => return Err(type_error(format!("'{}' object is not reversible", value.type_name()))),
            };
            Ok(last.unwrap_or_else(|| state.undefined("No last item, sequence was empty.")))
        }
        "reverse" => {
            let [] = args.bind("do_reverse", [], 0)?;
            if let Value::Str(text) = &value {
                return text.like(text.text.chars().rev().collect());
            }
            if let Some(iter) = reversed(state, &value)? {
                return iter.value();
            }
            match collect(state, &value) {
                Ok(mut items) => {
                    items.reverse();
                    Value::list(items)
                }
                Err(error) if error.class == Class::Type => {
                    Err(fault(Class::FilterArgument, "argument must be iterable"))
                }
                Err(error) => Err(error),
            }
        }
        "join" => join(state, value, args),
        "sort" => {
            let names = ["reverse", "case_sensitive", "attribute"];
            let [reverse, case_sensitive, attribute] = args.bind("do_sort", names, 0)?;
            let case_sensitive = truth(case_sensitive)?;
            let paths = match &attribute {
                Some(Value::Str(text)) => {
                    let parts = text.text.split(',').map(|part| path(Some(&Value::str(part)?)));
                    parts.collect::<Result<Vec<_>>>()?
                }
                other => vec![path(other.as_ref())?],
            };
            let mut keyed = Vec::new();
            for item in collect(state, &value)? {
                let mut key = Vec::with_capacity(paths.len());
                for path in &paths {
                    let part = state.follow(item.clone(), path, None)?;
                    key.push(folded(part, case_sensitive)?);
                }
                keyed.push((Value::list(key)?, item));
            }
            Value::list(values(by_key(keyed, truth(reverse)?)?))
        }
        "min" | "max" => {
            let [case_sensitive, attribute] = args.bind("do_min", ["case_sensitive", "attribute"], 0)?;
            let (case_sensitive, path) = (truth(case_sensitive)?, path(attribute.as_ref())?);
            let mut iter = iterate(&value)?;
            let mut best: Option<(Value, Value)> = None;
            while let Some(item) = iter.next(state)? {
                let key = state.follow(item.clone(), &path, None)?;
                let key = folded(key, case_sensitive)?;
                let better = match &best {
                    None => true,
                    Some((known, _)) if name == "min" => less(&key, known)?,
                    Some((known, _)) => less(known, &key)?,
                };
                if better {
                    best = Some((key, item));
                }
            }
            Ok(best.map_or_else(|| state.undefined("No aggregated item, sequence was empty."), |best| best.1))
        }
        "groupby" => group(state, value, args),
        _ => {
            let [case_sensitive, by, reverse] =
                args.bind("do_dictsort", ["case_sensitive", "by", "reverse"], 0)?;
            let case_sensitive = truth(case_sensitive)?;
            let by_value = match by.as_ref().map(Value::as_str) {
                None | Some(Some("key")) => false,
                Some(Some("value")) => true,
                _ => {
                    return Err(fault(
                        Class::FilterArgument,
                        "You can only sort by either \"key\" or \"value\"",
                    ));
                }
            };
            let mut keyed = Vec::new();
            for (key, item) in entries(&value)?.entries() {
                let by = if by_value { item.clone() } else { key.clone() };
                keyed.push((folded(by, case_sensitive)?, Value::tuple(vec![key.clone(), item.clone()])?));
            }
            Value::list(values(by_key(keyed, truth(reverse)?)?))
        }
    }
}

/// The dictionary whose items a filter asks for.
pub(super) fn entries(value: &Value) -> Result<&Dict> {
    match value {
        Value::Dict(dict) => Ok(dict),
        Value::Undefined(missing) => Err(Value::misused(missing)),
        other => {
            Err(fault(Class::Attribute, format!("'{}' object has no attribute 'items'", other.type_name())))
        }
    }
}

/// Python's `reversed`; `None` where a value has no order to reverse.
fn reversed(state: &mut State, value: &Value) -> Result<Option<Iter>> {
    let list = match value {
        Value::List(list) | Value::Tuple(list) => list.clone(),
        Value::Dict(_) | Value::View(..) | Value::Range(_) | Value::Str(_) | Value::Undefined(_) => {
            List::new(collect(state, value)?, &[])?
        }
        _ => return Ok(None),
    };
    let length = list.items.len();
    Ok(Some(Iter::Reversed(list, length)))
}

fn join(state: &mut State, value: Value, args: Args) -> Result<Value> {
    let [separator, attribute] = args.bind("do_join", ["d", "attribute"], 0)?;
    let path = path(attribute.as_ref())?;
    let mut items = Vec::new();
    for item in collect(state, &value)? {
        items.push(state.follow(item, &path, None)?);
    }
    let mut separator = separator.map_or_else(|| Value::str(""), Ok)?;
    let markup = state.autoescape && (separator.is_markup() || items.iter().any(Value::is_markup));
    if markup {
        separator = escaped(&separator)?;
    }
    let separator = to_str(&separator)?;
    let mut out = Writer::new();
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(&separator)?;
        }
        let item = if markup { escaped(item)? } else { item.clone() };
        match &item {
            Value::Str(text) => out.push(&text.text)?,
            other => out.push(&to_str(other)?)?,
        }
    }
    Value::text(out.finish(), markup)
}

fn group(state: &mut State, value: Value, args: Args) -> Result<Value> {
    let names = ["attribute", "default", "case_sensitive"];
    let [attribute, default, case_sensitive] = args.bind("do_groupby", names, 1)?;
    let (path, case_sensitive) = (path(attribute.as_ref())?, truth(case_sensitive)?);
    let default = default.filter(|default| !matches!(default, Value::None));
    let mut keyed = Vec::new();
    for item in collect(state, &value)? {
        let key = state.follow(item.clone(), &path, default.as_ref())?;
        keyed.push((folded(key, case_sensitive)?, item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in by_key(keyed, false)? {
        match groups.last_mut() {
            Some((known, items)) if equal(known, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut all = Vec::with_capacity(groups.len());
    for (mut key, items) in groups {
        if !case_sensitive {
            key = state.follow(items[0].clone(), &path, default.as_ref())?;
        }
        let pair = List::new(vec![key, Value::list(items)?], &["grouper", "list"])?;
        all.push(Value::Tuple(pair));
    }
    Value::list(all)
}

/// Python looks at the number and names of a generator's arguments at once.
pub(super) fn check(name: &str, args: &Args) -> Result<()> {
    let args = args.clone();
    match name {
        "batch" => args.bind("do_batch", ["linecount", "fill_with"], 1).map(drop),
        "slice" => args.bind("do_slice", ["slices", "fill_with"], 1).map(drop),
        "unique" => args.bind("do_unique", ["case_sensitive", "attribute"], 0).map(drop),
        _ => args.bind("do_items", [], 0).map(drop),
    }
}

/// The items of `batch`, `slice`, `unique` and `items`.
pub(super) fn whole(state: &mut State, name: &str, value: &Value, args: Args) -> Result<Value> {
    match name {
        "items" => match value {
            Value::Undefined(_) => Value::list(Vec::new()),
            Value::Dict(dict) => {
                let pairs = Value::View(Rc::clone(dict), super::super::value::View::Items);
                Value::list(collect(state, &pairs)?)
            }
            _ => Err(type_error("Can only get item pairs from a mapping.")),
        },
        "unique" => {
            let [case_sensitive, attribute] = args.bind("do_unique", ["case_sensitive", "attribute"], 0)?;
            let (case_sensitive, path) = (truth(case_sensitive)?, path(attribute.as_ref())?);
            let mut seen = Seen::default();
            let mut kept = Vec::new();
            for item in collect(state, value)? {
                let key = state.follow(item.clone(), &path, None)?;
                if seen.add(&folded(key, case_sensitive)?)? {
                    kept.push(item);
                }
            }
            Value::list(kept)
        }
        "batch" => {
            let [count, fill] = args.bind("do_batch", ["linecount", "fill_with"], 1)?;
            let count = count.unwrap_or(Value::None);
            let fill = fill.filter(|fill| !matches!(fill, Value::None));
            let mut rows = Vec::new();
            let mut row: Vec<Value> = Vec::new();
            for item in collect(state, value)? {
                if equal(&Value::Int(row.len() as i128), &count)? {
                    rows.push(Value::list(std::mem::take(&mut row))?);
                }
                row.push(item);
            }
            if !row.is_empty() {
                if let Some(fill) = fill {
                    let count = integer(&count)?;
                    let missing = usize::try_from(count - row.len() as i128).unwrap_or(0);
                    room_for_items(missing)?;
                    row.extend(std::iter::repeat_n(fill, missing));
                }
                rows.push(Value::list(row)?);
            }
            Value::list(rows)
        }
        _ => {
            let [count, fill] = args.bind("do_slice", ["slices", "fill_with"], 1)?;
            let fill = fill.filter(|fill| !matches!(fill, Value::None));
            let items = collect(state, value)?;
            let count = integer(&count.unwrap_or(Value::None))?;
            if count == 0 {
                return Err(fault(Class::ZeroDivision, "integer division or modulo by zero"));
            }
            let slices = usize::try_from(count).unwrap_or(0);
            room_for_items(slices.saturating_mul(2))?;
            let (each, extra) = match slices {
                0 => (0, 0),
                n => (items.len() / n, items.len() % n),
            };
            let mut rows = Vec::with_capacity(slices);
            let mut at = 0;
            for number in 0..slices {
                let length = each + (number < extra) as usize;
                let mut row = items[at..at + length].to_vec();
                at += length;
                if let (Some(fill), true) = (&fill, number >= extra) {
                    row.push(fill.clone());
                }
                rows.push(Value::list(row)?);
            }
            Value::list(rows)
        }
    }
}
