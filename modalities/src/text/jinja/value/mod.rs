//! Values as Python has them.

mod compare;
mod dict;
mod iterate;
mod json;
mod operate;
mod write;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

pub(super) use compare::{equal, less, ordered};
pub(super) use dict::{Dict, Seen};
pub(super) use iterate::{Iter, Lazy, Selection, iterate};
pub(super) use json::Json;
pub(super) use operate::{binary, collect, contains, drain, negative, positive, slice, slice_indices};
pub(super) use write::{float_repr, printable, repr, to_str};

use super::ast;
use super::fault::{Class, Fault, Result, fault, type_error};
use super::meter::{Charge, DEEPEST, room_for, spend};
use super::run::{Scope, State};

/// A value. Lists and dictionaries never change, as in Jinja's immutable sandbox.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Undefined(Rc<Missing>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<Text>),
    List(Rc<List>),
    Tuple(Rc<List>),
    Dict(Rc<Dict>),
    View(Rc<Dict>, View),
    Range(Rc<Range>),
    Iter(Rc<RefCell<Iter>>),
    Namespace(Rc<Namespace>),
    Cycler(Rc<Cycler>),
    Joiner(Rc<(Value, Cell<bool>)>),
    Loop(Rc<LoopState>),
    Macro(Rc<Closure>),
    Method(Rc<(Value, String)>),
    Global(Global),
}

/// What `dict.keys()`, `values()` and `items()` give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

/// The functions that every template has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

/// Why a value is not defined, and what using it raises.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) why: String,
    pub(super) class: Class,
    /// Whether looking at it is an error too, as with Jinja's `StrictUndefined`; else it is empty and false.
    pub(super) strict: bool,
}

impl Missing {
    /// An error where the value may not even be looked at.
    pub(super) fn look(&self) -> Result<()> {
        if self.strict { Err(Value::misused(self)) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: Box<str>,
    /// Escaped already: Python's `Markup`.
    pub(super) markup: bool,
    _charge: Charge,
}

/// The items of a list or tuple.
#[derive(Debug)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    /// Names of a tuple's items.
    pub(super) names: &'static [&'static str],
    depth: usize,
    _charge: Charge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: i128,
    pub(super) stop: i128,
    pub(super) step: i128,
}

impl Range {
    pub(super) fn len(&self) -> usize {
        let span = if self.step > 0 { self.stop - self.start } else { self.start - self.stop };
        if span <= 0 { 0 } else { ((span - 1) / self.step.abs() + 1) as usize }
    }

    pub(super) fn at(&self, index: usize) -> Value {
        Value::Int(self.start + self.step * index as i128)
    }
}

/// The one thing that a template can change.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) values: RefCell<Vec<(String, Value)>>,
    pub(super) charge: RefCell<Charge>,
}

#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: Rc<List>,
    pub(super) at: Cell<usize>,
}

/// Where a `for` loop stands: the variable `loop`.
#[derive(Debug)]
pub(super) struct LoopState {
    pub(super) node: Arc<ast::Loop>,
    /// The variables around the loop, until it ends.
    pub(super) scope: RefCell<Option<Rc<Scope>>>,
    pub(super) depth0: usize,
    pub(super) inner: RefCell<LoopInner>,
}

#[derive(Debug)]
pub(super) struct LoopInner {
    pub(super) iter: Iter,
    /// Whether the items that are left have passed the loop's test.
    pub(super) tested: bool,
    pub(super) length: Option<usize>,
    pub(super) index0: i128,
    pub(super) before: Option<Value>,
    pub(super) current: Option<Value>,
    pub(super) after: Option<Value>,
    pub(super) changed: Option<Value>,
}

/// A macro with the variables around it.
#[derive(Debug)]
pub(super) struct Closure {
    pub(super) node: Arc<ast::Macro>,
    pub(super) scope: Rc<Scope>,
}

impl Value {
    pub(super) fn str(text: impl Into<String>) -> Result<Value> {
        Self::text(text.into(), false)
    }

    pub(super) fn markup(text: impl Into<String>) -> Result<Value> {
        Self::text(text.into(), true)
    }

    pub(super) fn text(text: String, markup: bool) -> Result<Value> {
        let charge = Charge::new(text.len() + 48)?;
        Ok(Value::Str(Rc::new(Text { text: text.into_boxed_str(), markup, _charge: charge })))
    }

    pub(super) fn list(items: Vec<Value>) -> Result<Value> {
        Ok(Value::List(List::new(items, &[])?))
    }

    /// What gives nothing at first, and then a separator.
    pub(super) fn joiner(separator: Value) -> Result<Value> {
        above(std::iter::once(&separator))?;
        Ok(Value::Joiner(Rc::new((separator, Cell::new(false)))))
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Value> {
        Ok(Value::Tuple(List::new(items, &[])?))
    }

    /// Values of JSON.
    pub(super) fn from_json(json: &serde_json::Value) -> Result<Value> {
        use serde_json::Value as Json;
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(int), _) => Value::Int(int),
                (None, Some(float)) => Value::Float(float),
                (None, None) => return Err(fault(Class::Value, format!("{number} is no number"))),
            },
            Json::String(text) => Value::str(text.as_str())?,
            Json::Array(items) => Value::list(items.iter().map(Value::from_json).collect::<Result<_>>()?)?,
            Json::Object(entries) => {
                let mut dict = Dict::new();
                for (key, value) in entries {
                    dict.insert(Value::str(key.as_str())?, Value::from_json(value)?)?;
                }
                dict.finish()?
            }
        })
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(&text.text),
            _ => None,
        }
    }

    pub(super) fn is_markup(&self) -> bool {
        matches!(self, Value::Str(text) if text.markup)
    }

    /// An integer, as Python's `__index__` gives it.
    pub(super) fn as_index(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Bool(value) => Some(*value as i128),
            _ => None,
        }
    }

    /// A number as a float.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            other => other.as_index().map(|value| value as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    /// The error that using an undefined value raises.
    pub(super) fn misused(missing: &Missing) -> Box<Fault> {
        fault(missing.class, missing.why.clone())
    }

    /// Python's truth.
    pub(super) fn truth(&self) -> Result<bool> {
        Ok(match self {
            Value::Undefined(missing) => {
                missing.look()?;
                false
            }
            Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Str(text) => !text.text.is_empty(),
            Value::List(list) | Value::Tuple(list) => !list.items.is_empty(),
            Value::Dict(dict) | Value::View(dict, _) => dict.len() > 0,
            Value::Range(range) => range.len() > 0,
            _ => true,
        })
    }

    /// Python's `len`.
    pub(super) fn length(&self) -> Result<usize> {
        Ok(match self {
            Value::Undefined(missing) => {
                missing.look()?;
                0
            }
            Value::Str(text) => {
                spend(text.text.len() / 64)?;
                text.text.chars().count()
            }
            Value::List(list) | Value::Tuple(list) => list.items.len(),
            Value::Dict(dict) | Value::View(dict, _) => dict.len(),
            Value::Range(range) => range.len(),
            other => return Err(type_error(format!("object of type '{}' has no len()", other.type_name()))),
        })
    }

    /// Levels of values within one another.
    fn depth(&self) -> usize {
        match self {
            Value::List(list) | Value::Tuple(list) => list.depth,
            Value::Dict(dict) | Value::View(dict, _) => dict.depth(),
            Value::Iter(iter) => iter.try_borrow().map_or(DEEPEST, |iter| iter.depth()),
            Value::Cycler(cycler) => cycler.items.depth + 1,
            Value::Joiner(joiner) => joiner.0.depth() + 1,
            Value::Method(method) => method.0.depth() + 1,
            _ => 0,
        }
    }

    /// The name of the Python type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(missing) if missing.strict => "StrictUndefined",
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(text) if text.markup => "Markup",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(_, View::Keys) => "dict_keys",
            Value::View(_, View::Values) => "dict_values",
            Value::View(_, View::Items) => "dict_items",
            Value::Range(_) => "range",
            Value::Iter(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Cycler(_) => "Cycler",
            Value::Joiner(_) => "Joiner",
            Value::Loop(_) => "LoopContext",
            Value::Macro(_) => "Macro",
            Value::Method(_) => "builtin_function_or_method",
            Value::Global(_) => "function",
        }
    }

    /// Whether `a is b`.
    pub(super) fn same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => Rc::ptr_eq(a, b) || (a.text == b.text && a.markup == b.markup),
            (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
            (Value::Tuple(a), Value::Tuple(b)) => {
                Rc::ptr_eq(a, b) || (a.items.is_empty() && b.items.is_empty())
            }
            (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
            (Value::Undefined(a), Value::Undefined(b)) => Rc::ptr_eq(a, b),
            (Value::Global(a), Value::Global(b)) => a == b,
            _ => false,
        }
    }
}

/// The depth of something that holds these values, refused beyond the deepest.
fn above<'v>(values: impl Iterator<Item = &'v Value>) -> Result<usize> {
    let depth = 1 + values.map(Value::depth).max().unwrap_or(0);
    if depth > DEEPEST {
        return Err(fault(Class::Limit, "the template nests values too deeply"));
    }
    Ok(depth)
}

impl List {
    pub(super) fn new(items: Vec<Value>, names: &'static [&'static str]) -> Result<Rc<List>> {
        spend(items.len())?;
        let charge = Charge::new(items.capacity() * size_of::<Value>() + 64)?;
        let depth = above(items.iter())?;
        Ok(Rc::new(List { items, names, depth, _charge: charge }))
    }
}

impl Text {
    /// Another text, escaped if this one is.
    pub(super) fn like(&self, text: String) -> Result<Value> {
        Value::text(text, self.markup)
    }
}

/// Room for a list of so many items.
pub(super) fn room_for_items(count: usize) -> Result<()> {
    spend(count)?;
    room_for(count, size_of::<Value>())
}

impl LoopState {
    /// What a loop still holds is let go when it ends, so that a loop that holds itself, or a chain of loops,
    /// is dropped.
    pub(super) fn end(&self) {
        if let Ok(mut inner) = self.inner.try_borrow_mut() {
            inner.iter = Iter::empty();
            inner.before = None;
            inner.current = None;
            inner.after = None;
            inner.changed = None;
        }
        self.scope.borrow_mut().take();
    }

    /// Takes the next item.
    pub(super) fn advance(&self, state: &mut State) -> Result<Option<Value>> {
        let peeked = self.inner.borrow_mut().after.take();
        let next = match peeked {
            Some(value) => Some(value),
            None => self.pull(state)?,
        };
        let Some(value) = next else { return Ok(None) };
        let mut inner = self.inner.borrow_mut();
        inner.index0 += 1;
        inner.before = inner.current.replace(value.clone());
        Ok(Some(value))
    }

    /// Looks at the next item.
    pub(super) fn peek(&self, state: &mut State) -> Result<Option<Value>> {
        if let Some(value) = &self.inner.borrow().after {
            return Ok(Some(value.clone()));
        }
        let next = self.pull(state)?;
        self.inner.borrow_mut().after = next.clone();
        Ok(next)
    }

    /// The next item that passes the loop's test.
    fn pull(&self, state: &mut State) -> Result<Option<Value>> {
        loop {
            spend(1)?;
            let busy = || fault(Class::Value, "generator already executing");
            let mut iter =
                std::mem::replace(&mut self.inner.try_borrow_mut().map_err(|_| busy())?.iter, Iter::empty());
            let next = iter.next(state);
            self.inner.borrow_mut().iter = iter;
            let Some(value) = next? else { return Ok(None) };
            let tested = self.inner.borrow().tested;
            if tested || state.passes(self, &value)? {
                return Ok(Some(value));
            }
        }
    }

    /// How many items there are; those of a generator are taken to count them.
    pub(super) fn length(&self, state: &mut State) -> Result<usize> {
        if let Some(length) = self.inner.borrow().length {
            return Ok(length);
        }
        let mut rest = Vec::new();
        while let Some(value) = self.pull(state)? {
            room_for_items(1)?;
            rest.push(value);
        }
        let mut inner = self.inner.borrow_mut();
        let length = rest.len() + (inner.index0 + 1) as usize + inner.after.is_some() as usize;
        inner.length = Some(length);
        inner.tested = true;
        inner.iter = iterate(&Value::list(rest)?)?;
        Ok(length)
    }
}
