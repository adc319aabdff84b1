//! Rendering: statements.

pub(super) mod arguments;
mod attribute;
mod call;
mod expression;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Action, Expr, Loop, Name, Statement, Target};
use super::fault::{Class, Result, fault, type_error, value_error};
use super::meter::Writer;
use super::meter::{Charge, spend};
use super::parse::Tree;
use super::strings::escape;
use super::value::{Closure, Dict, Iter, LoopInner, LoopState, Missing, Namespace, Value, iterate, to_str};
use arguments::Args;

/// Expressions, statements and calls within one another. The stack of a rendering's thread has room for them.
const DEEPEST: usize = 2000;

/// Variables of one place in a template, on top of those around it.
#[derive(Debug)]
pub(super) struct Scope {
    values: RefCell<HashMap<Name, Value>>,
    parent: Option<Rc<Scope>>,
}

impl Scope {
    fn new(parent: Option<Rc<Scope>>) -> Rc<Scope> {
        Rc::new(Scope { values: RefCell::new(HashMap::new()), parent })
    }

    fn get(&self, name: Name) -> Option<Value> {
        let mut scope = Some(self);
        while let Some(at) = scope {
            if let Some(value) = at.values.borrow().get(&name) {
                return Some(value.clone());
            }
            scope = at.parent.as_deref();
        }
        None
    }

    fn set(&self, name: Name, value: Value) {
        self.values.borrow_mut().insert(name, value);
    }
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// A rendering.
pub(super) struct State<'t> {
    tree: &'t Tree,
    /// Whether looking at what is undefined is an error.
    strict: bool,
    out: Writer,
    scope: Rc<Scope>,
    root: Rc<Scope>,
    pub(super) autoescape: bool,
    depth: usize,
    /// The number of the name `loop`, where the template mentions it.
    looping: Option<Name>,
    /// Scopes that a macro holds and namespaces, which may hold one another: emptied at the end.
    captured: Vec<Rc<Scope>>,
    kept: Charge,
    namespaces: Vec<Rc<Namespace>>,
    /// The text that a filter block is applied to.
    block: Option<Value>,
}

impl<'t> State<'t> {
    /// Renders a template. `variables` are those it is given; `strict` makes looking at others an error.
    pub(super) fn render(tree: &'t Tree, variables: Vec<(String, Value)>, strict: bool) -> Result<String> {
        let context = Scope::new(None);
        for (name, value) in variables {
            if let Some(number) = tree.names.iter().position(|known| *known == name) {
                context.set(number as Name, value);
            }
        }
        let root = Scope::new(Some(context));
        let mut state = State {
            tree,
            strict,
            out: Writer::new(),
            scope: root.clone(),
            root,
            autoescape: false,
            depth: 0,
            looping: tree.names.iter().position(|name| name == "loop").map(|n| n as Name),
            captured: Vec::new(),
            kept: Charge::new(0)?,
            namespaces: Vec::new(),
            block: None,
        };
        let done = state.run(&tree.body);
        state.let_go();
        done?;
        Ok(state.out.finish())
    }

    /// A value that is not defined, and why.
    pub(super) fn undefined(&self, why: impl Into<String>) -> Value {
        Value::Undefined(Rc::new(Missing { why: why.into(), class: Class::Undefined, strict: self.strict }))
    }

    /// Keeps a scope that a macro holds until the end.
    fn keep(&mut self, scope: &Rc<Scope>) -> Result<()> {
        if self.captured.last().is_none_or(|last| !Rc::ptr_eq(last, scope)) {
            self.kept.grow(512)?;
            self.captured.push(scope.clone());
        }
        Ok(())
    }

    /// Empties what may hold itself.
    fn let_go(&mut self) {
        for scope in &self.captured {
            let values = std::mem::take(&mut *scope.values.borrow_mut());
            drop(values);
        }
        for namespace in &self.namespaces {
            let values = std::mem::take(&mut *namespace.values.borrow_mut());
            drop(values);
        }
    }

    /// One level deeper.
    pub(super) fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            self.depth -= 1;
            return Err(fault(Class::Limit, "the template calls itself too deeply"));
        }
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn run(&mut self, body: &[Statement]) -> Result<Flow> {
        for statement in body {
            spend(1)?;
            let flow = self.deeper(|state| state.statement(&statement.kind)).map_err(|mut error| {
                error.line.get_or_insert(statement.line);
                error
            })?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// Runs statements in a scope of their own.
    fn within<T>(&mut self, scope: Rc<Scope>, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = std::mem::replace(&mut self.scope, scope);
        let result = run(self);
        self.scope = outer;
        result
    }

    /// A scope on top of this one.
    fn inner(&self) -> Rc<Scope> {
        Scope::new(Some(self.scope.clone()))
    }

    /// What statements write, instead of writing it.
    fn capture<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<(String, T)> {
        let outer = std::mem::replace(&mut self.out, Writer::new());
        let result = run(self);
        let text = std::mem::replace(&mut self.out, outer).finish();
        Ok((text, result?))
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Str(text) if self.autoescape && !text.markup => escape(&mut self.out, &text.text),
            Value::Str(text) => self.out.push(&text.text),
            other => {
                let text = to_str(other)?;
                if self.autoescape { escape(&mut self.out, &text) } else { self.out.push(&text) }
            }
        }
    }

    fn statement(&mut self, action: &Action) -> Result<Flow> {
        match action {
            Action::Text(text) => self.out.push(text)?,
            Action::Print(expr) => {
                let value = self.eval(expr)?;
                self.print(&value)?;
            }
            Action::Set(target, expr) => {
                let value = self.eval(expr)?;
                self.assign(target, value)?;
            }
            Action::SetBlock { target, filter, body } => {
                let scope = self.inner();
                let (text, flow) =
                    self.capture(|state| state.within(scope.clone(), |state| state.run(body)))?;
                if flow != Flow::On {
                    return Ok(flow);
                }
                let mut value = Value::text(text, self.autoescape)?;
                if let Some(filter) = filter {
                    value = self.within(scope, |state| state.filtered(filter, value))?;
                }
                self.assign(target, value)?;
            }
            Action::If(branches, otherwise) => {
                for (test, body) in branches {
                    if self.eval(test)?.truth()? {
                        return self.run(body);
                    }
                }
                return self.run(otherwise);
            }
            Action::For(node) => {
                let over = self.eval(&node.over)?;
                if node.recursive {
                    let (text, _) = self.capture(|state| state.run_loop(node, &over, 0))?;
                    self.out.push(&text)?;
                    return Ok(Flow::On);
                }
                return self.run_loop(node, &over, 0);
            }
            Action::With(values, body) => {
                let scope = self.inner();
                for (target, expr) in values {
                    let value = self.eval(expr)?;
                    self.within(scope.clone(), |state| state.assign(target, value))?;
                }
                return self.within(scope, |state| state.run(body));
            }
            Action::Macro(name, node) => {
                let scope = self.scope.clone();
                self.keep(&scope)?;
                let closure = Closure { node: node.clone(), scope };
                self.scope.set(*name, Value::Macro(Rc::new(closure)));
            }
            Action::Call(call, node) => {
                let scope = self.scope.clone();
                self.keep(&scope)?;
                let caller = Value::Macro(Rc::new(Closure { node: node.clone(), scope }));
                let value = self.eval_call(call, Some(caller))?;
                self.print(&value)?;
            }
            Action::Filter(filter, body) => {
                let scope = self.inner();
                let (text, flow) =
                    self.capture(|state| state.within(scope.clone(), |state| state.run(body)))?;
                if flow != Flow::On {
                    return Ok(flow);
                }
                let text = Value::text(text, self.autoescape)?;
                let value = self.within(scope, |state| state.filtered(filter, text))?;
                self.print(&value)?;
            }
            Action::Block { scoped, body } => {
                let around = if *scoped { self.scope.clone() } else { self.root.clone() };
                self.within(Scope::new(Some(around)), |state| state.run(body))?;
            }
            Action::Generation(body) => {
                let scope = self.inner();
                self.within(scope, |state| state.run(body))?;
            }
            Action::Autoescape(on, body) => {
                let on = self.eval(on)?.truth()?;
                let outer = std::mem::replace(&mut self.autoescape, on);
                let scope = self.inner();
                let flow = self.within(scope, |state| state.run(body));
                self.autoescape = outer;
                return flow;
            }
            Action::Load(what) => {
                self.eval(what)?;
                return Err(type_error("no loader for this environment specified"));
            }
            Action::Break => return Ok(Flow::Break),
            Action::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// A filter of a block applied to what the block wrote.
    fn filtered(&mut self, filter: &Expr, text: Value) -> Result<Value> {
        let outer = self.block.replace(text);
        let value = self.eval(filter);
        self.block = outer;
        value
    }

    /// The body of a loop for each item, or what stands for none.
    fn run_loop(&mut self, node: &Arc<Loop>, over: &Value, depth0: usize) -> Result<Flow> {
        let length = if node.test.is_some() { None } else { over.length().ok() };
        let inner = LoopInner {
            iter: iterate(over)?,
            tested: node.test.is_none(),
            length,
            index0: -1,
            before: None,
            current: None,
            after: None,
            changed: None,
        };
        let looping = Rc::new(LoopState {
            node: node.clone(),
            scope: RefCell::new(Some(self.scope.clone())),
            depth0,
            inner: RefCell::new(inner),
        });
        let result = self.run_items(node, &looping);
        looping.end();
        result
    }

    fn run_items(&mut self, node: &Arc<Loop>, looping: &Rc<LoopState>) -> Result<Flow> {
        let mut none = true;
        while let Some(item) = looping.advance(self)? {
            none = false;
            let scope = self.inner();
            let flow = self.within(scope, |state| {
                state.assign(&node.target, item)?;
                if let Some(number) = state.looping {
                    state.scope.set(number, Value::Loop(looping.clone()));
                }
                state.run(&node.body)
            })?;
            if flow == Flow::Break {
                return Ok(Flow::On);
            }
        }
        if none && !node.otherwise.is_empty() {
            let scope = self.inner();
            return self.within(scope, |state| state.run(&node.otherwise));
        }
        Ok(Flow::On)
    }

    /// Whether an item passes a loop's test.
    pub(super) fn passes(&mut self, looping: &LoopState, item: &Value) -> Result<bool> {
        let node = looping.node.clone();
        let Some(test) = &node.test else { return Ok(true) };
        let scope = Scope::new(Some(around(looping)?));
        self.within(scope, |state| {
            state.assign(&node.target, item.clone())?;
            state.eval(test)?.truth()
        })
    }

    /// The body of a recursive loop for other items.
    pub(super) fn recurse(&mut self, looping: &Rc<LoopState>, over: &Value) -> Result<Value> {
        if !looping.node.recursive {
            return Err(type_error("The loop must have the 'recursive' marker to be called recursively."));
        }
        let node = looping.node.clone();
        let scope = around(looping)?;
        let (text, _) = self.deeper(|state| {
            state
                .capture(|state| state.within(scope, |state| state.run_loop(&node, over, looping.depth0 + 1)))
        })?;
        Value::text(text, self.autoescape)
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.scope.set(*name, value),
            Target::Attribute(name, attribute) => match self.scope.get(*name) {
                Some(Value::Namespace(namespace)) => set_attribute(&namespace, attribute, value)?,
                _ => {
                    let why = "cannot assign attribute on non-namespace object";
                    return Err(fault(Class::TemplateRuntime, why));
                }
            },
            Target::Tuple(targets) => {
                let values = self.unpack(&value, targets.len())?;
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value)?;
                }
            }
        }
        Ok(())
    }

    /// So many items of a value, neither fewer nor more.
    pub(super) fn unpack(&mut self, value: &Value, count: usize) -> Result<Vec<Value>> {
        let mut iter = match iterate(value) {
            Ok(iter) => iter,
            Err(error) if error.class == Class::Type => {
                return Err(type_error(format!("cannot unpack non-iterable {} object", value.type_name())));
            }
            Err(error) => return Err(error),
        };
        let mut values = Vec::new();
        while let Some(item) = iter.next(self)? {
            if values.len() == count {
                return Err(value_error(format!("too many values to unpack (expected {count})")));
            }
            values.push(item);
        }
        if values.len() < count {
            let found = values.len();
            return Err(value_error(format!("not enough values to unpack (expected {count}, got {found})")));
        }
        Ok(values)
    }

    /// A new namespace of named values.
    pub(super) fn namespace(&mut self, args: Args) -> Result<Value> {
        let namespace =
            Rc::new(Namespace { values: RefCell::new(Vec::new()), charge: RefCell::new(Charge::new(192)?) });
        for (name, value) in self.dict_entries("Namespace", args)? {
            let Some(name) = name.as_str() else {
                return Err(super::fault::unsupported("a namespace with names that are no strings"));
            };
            set_attribute(&namespace, name, value)?;
        }
        self.namespaces.push(namespace.clone());
        Ok(Value::Namespace(namespace))
    }

    /// What `dict(...)` is given: a mapping or pairs, and named values.
    pub(super) fn dict_entries(&mut self, what: &str, args: Args) -> Result<Vec<(Value, Value)>> {
        let Args { list, named } = args;
        let mut entries = Vec::new();
        match list.as_slice() {
            [] => {}
            [Value::Dict(dict)] => entries.extend_from_slice(dict.entries()),
            [pairs] => {
                let mut iter = iterate(pairs)?;
                while let Some(pair) = iter.next(self)? {
                    let mut pair = self.unpack_pair(&pair)?;
                    let value = pair.pop().unwrap_or(Value::None);
                    entries.push((pair.pop().unwrap_or(Value::None), value));
                }
            }
            more => {
                let found = more.len();
                return Err(type_error(format!("{what} expected at most 1 argument, got {found}")));
            }
        }
        for (name, value) in named {
            entries.push((Value::str(name)?, value));
        }
        Ok(entries)
    }

    fn unpack_pair(&mut self, pair: &Value) -> Result<Vec<Value>> {
        match iterate(pair) {
            Ok(iter) => {
                let items = super::value::drain(self, iter)?;
                if items.len() != 2 {
                    let found = items.len();
                    return Err(value_error(format!(
                        "dictionary update sequence element has length {found}; 2 is required"
                    )));
                }
                Ok(items)
            }
            Err(error) if error.class == Class::Type => {
                Err(type_error("cannot convert dictionary update sequence element to a sequence"))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn dict(&mut self, args: Args) -> Result<Value> {
        let mut dict = Dict::new();
        for (name, value) in self.dict_entries("dict", args)? {
            dict.insert(name, value)?;
        }
        dict.finish()
    }

    /// All items that an iterator gives.
    pub(super) fn drain(&mut self, iter: Iter) -> Result<Vec<Value>> {
        super::value::drain(self, iter)
    }
}

/// The variables around a loop that has not ended.
fn around(looping: &LoopState) -> Result<Rc<Scope>> {
    let scope = looping.scope.borrow().clone();
    scope.ok_or_else(|| super::fault::unsupported("going on with a loop that has ended"))
}

/// Sets an attribute of a namespace; transformers refuses those that begin with an underscore.
fn set_attribute(namespace: &Namespace, name: &str, value: Value) -> Result<()> {
    if name.starts_with('_') {
        return Err(fault(
            Class::Security,
            format!("a namespace cannot have an attribute whose name begins with an underscore: '{name}'"),
        ));
    }
    let mut values = namespace.values.borrow_mut();
    spend(values.len() / 8)?;
    if let Some((_, known)) = values.iter_mut().find(|(known, _)| known == name) {
        let old = std::mem::replace(known, value);
        drop(values);
        drop(old);
        return Ok(());
    }
    namespace.charge.borrow_mut().grow(name.len() + size_of::<Value>() + 24)?;
    values.push((name.to_owned(), value));
    Ok(())
}
