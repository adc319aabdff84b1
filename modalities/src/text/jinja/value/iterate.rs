//! Going through values one by one. What filters such as `map` give is worked out item by item, as in Python.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::fault::{Class, Result, fault, type_error};
use super::super::meter::spend;
use super::super::run::State;
use super::super::run::arguments::Args;
use super::{Dict, List, Range, Text, Value, View, above};

/// Where an iteration stands.
#[derive(Debug)]
pub(in super::super) enum Iter {
    Items(Rc<List>, usize),
    /// From the last item to the first; the number of those left.
    Reversed(Rc<List>, usize),
    Dict(Rc<Dict>, View, usize),
    Text(Rc<Text>, usize),
    Range(Range, usize),
    /// An iterator that others may hold too.
    Shared(Rc<RefCell<Iter>>),
    Lazy(Box<Lazy>),
}

/// What is done with each item.
#[derive(Debug)]
pub(in super::super) struct Lazy {
    /// `None` until the first item is requested, when Python would look at the value.
    pub(in super::super) value: Option<Value>,
    pub(in super::super) source: Option<Iter>,
    pub(in super::super) action: Selection,
    depth: usize,
}

/// `map`, `select`, `reject`, `selectattr` and `rejectattr`, or the items of a filter that is worked out
/// whole.
#[derive(Debug)]
pub(in super::super) enum Selection {
    Map(Args),
    Select {
        args: Args,
        attribute: bool,
        keep: bool,
    },
    /// A filter by name that gives a list when the first item is requested.
    Whole(&'static str, Args),
}

impl Lazy {
    /// A generator of a filter.
    pub(in super::super) fn value(value: Value, action: Selection) -> Result<Value> {
        let args = match &action {
            Selection::Map(args) | Selection::Select { args, .. } | Selection::Whole(_, args) => args,
        };
        let depth = above([&value].into_iter().chain(args.values()))?;
        let lazy = Lazy { value: Some(value), source: None, action, depth };
        Ok(Value::Iter(Rc::new(RefCell::new(Iter::Lazy(Box::new(lazy))))))
    }

    fn next(&mut self, state: &mut State) -> Result<Option<Value>> {
        if let Some(value) = self.value.take() {
            // An empty value is not even looked through.
            self.source = Some(match &self.action {
                Selection::Whole(name, args) => iterate(&state.whole(name, &value, args.clone())?)?,
                _ if !value.truth()? => Iter::empty(),
                Selection::Map(args) => {
                    state.check_map(args)?;
                    iterate(&value)?
                }
                Selection::Select { args, attribute, .. } => {
                    if *attribute && args.list.is_empty() {
                        return Err(fault(Class::FilterArgument, "Missing parameter for attribute name"));
                    }
                    iterate(&value)?
                }
            });
        }
        let Some(source) = &mut self.source else { return Ok(None) };
        loop {
            spend(1)?;
            let Some(item) = source.next(state)? else { return Ok(None) };
            match &self.action {
                Selection::Whole(..) => return Ok(Some(item)),
                Selection::Map(args) => return state.map_item(item, args).map(Some),
                Selection::Select { args, attribute, keep } => {
                    if state.selects(&item, args, *attribute)? == *keep {
                        return Ok(Some(item));
                    }
                }
            }
        }
    }
}

impl Iter {
    pub(in super::super) fn empty() -> Iter {
        Iter::Range(Range { start: 0, stop: 0, step: 1 }, 0)
    }

    /// The iterator as a value.
    pub(in super::super) fn value(self) -> Result<Value> {
        Ok(Value::Iter(Rc::new(RefCell::new(self))))
    }

    pub(in super::super) fn next(&mut self, state: &mut State) -> Result<Option<Value>> {
        spend(1)?;
        match self {
            Iter::Items(list, at) => {
                let item = list.items.get(*at).cloned();
                *at += 1;
                Ok(item)
            }
            Iter::Reversed(list, left) => {
                *left = match left.checked_sub(1) {
                    Some(left) => left,
                    None => return Ok(None),
                };
                Ok(list.items.get(*left).cloned())
            }
            Iter::Dict(dict, view, at) => {
                let Some((name, value)) = dict.entries().get(*at) else { return Ok(None) };
                *at += 1;
                Ok(Some(match view {
                    View::Keys => name.clone(),
                    View::Values => value.clone(),
                    View::Items => Value::tuple(vec![name.clone(), value.clone()])?,
                }))
            }
            Iter::Text(text, at) => {
                let Some(c) = text.text[*at..].chars().next() else { return Ok(None) };
                *at += c.len_utf8();
                Value::str(c).map(Some)
            }
            Iter::Range(range, at) => {
                if *at >= range.len() {
                    return Ok(None);
                }
                *at += 1;
                Ok(Some(range.at(*at - 1)))
            }
            Iter::Shared(iter) => {
                let busy = |_| fault(Class::Value, "generator already executing");
                state.deeper(|state| iter.try_borrow_mut().map_err(busy)?.next(state))
            }
            Iter::Lazy(lazy) => state.deeper(|state| lazy.next(state)),
        }
    }

    /// Levels of iterators within one another.
    pub(super) fn depth(&self) -> usize {
        match self {
            Iter::Items(list, _) | Iter::Reversed(list, _) => list.depth + 1,
            Iter::Dict(dict, _, _) => dict.depth() + 1,
            Iter::Text(..) | Iter::Range(..) => 1,
            Iter::Shared(iter) => iter.try_borrow().map_or(super::DEEPEST, |iter| iter.depth()) + 1,
            Iter::Lazy(lazy) => lazy.depth,
        }
    }
}

/// Python's `iter`.
pub(in super::super) fn iterate(value: &Value) -> Result<Iter> {
    Ok(match value {
        Value::Undefined(missing) => {
            missing.look()?;
            Iter::empty()
        }
        Value::Str(text) => Iter::Text(text.clone(), 0),
        Value::List(list) | Value::Tuple(list) => Iter::Items(list.clone(), 0),
        Value::Dict(dict) => Iter::Dict(dict.clone(), View::Keys, 0),
        Value::View(dict, view) => Iter::Dict(dict.clone(), *view, 0),
        Value::Range(range) => Iter::Range(**range, 0),
        Value::Iter(iter) => Iter::Shared(iter.clone()),
        Value::Loop(_) => return Err(super::super::fault::unsupported("iterating over `loop`")),
        other => return Err(type_error(format!("'{}' object is not iterable", other.type_name()))),
    })
}
