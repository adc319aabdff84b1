//! Templates. They are Jinja2 as transformers sets it up for chat templates: the immutable sandbox with
//! trimmed and stripped blocks, loop controls, `{% generation %}`, `raise_exception`, `strftime_now` and a
//! `tojson` without HTML escapes. Values, their methods, their texts and their errors are Python's.
//!
//! A template comes from outside, so a rendering has a budget of steps and bytes that is checked before
//! either is taken ([`meter`]), values and calls nest only so deeply, and no value that a template makes can
//! hold itself but through a namespace, which is emptied at the end.
//!
//! It is an engine of its own because an exact one needs Python's values throughout: `%` and `+` of strings,
//! tuples, generators, views, integers and floats, the order of lookups in `a.b` and `a['b']`; and because a
//! budget must be asked before each value is made.

mod ast;
mod fault;
mod filters;
mod format;
mod lex;
mod meter;
mod methods;
mod parse;
mod run;
mod strings;
mod tests;
mod value;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use fault::{Class, Fault};
use parse::Tree;
use run::State;
use value::Value;

/// Steps that any rendering may take, and those more for each byte that it is given.
const STEPS: u64 = 20_000_000;
const STEPS_PER_BYTE: u64 = 16;
/// Bytes that any rendering may hold, and those more for each byte that it is given.
const BYTES: usize = 16 << 20;
const BYTES_PER_BYTE: usize = 32;
/// The stack of a rendering's thread: the deepest nesting that is let through needs a part of it.
const STACK: usize = 256 << 20;

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template {
    tree: Arc<Tree>,
    strict: bool,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// As Jinja: of syntax, and of filters and tests that do not exist.
    pub fn parse(source: &str) -> Result<Template, Fault> {
        let tree = parse::parse(source).map_err(|fault| *fault)?;
        Ok(Template { tree: Arc::new(tree), strict: false })
    }

    /// The names and texts in the code of a template: a variable or a field that is not among them is not read by its name.
    ///
    /// # Errors
    /// When the text cannot be cut into the pieces of a template.
    pub fn words(source: &str) -> Result<BTreeSet<String>, Fault> {
        let tokens = lex::tokens(source).map_err(|fault| *fault)?;
        let word = |token: lex::Token| match token.piece {
            lex::Piece::Name(word) | lex::Piece::Str(word) => Some(word),
            _ => None,
        };
        Ok(tokens.into_iter().filter_map(word).collect())
    }

    /// The same template, in which printing, testing or comparing what is not defined is an error, as with
    /// Jinja's `StrictUndefined`. Otherwise it is empty and false, and only what is in it is an error.
    pub fn strict(self) -> Template {
        Template { strict: true, ..self }
    }

    /// The text of the template with variables.
    ///
    /// # Errors
    /// Those of Python and Jinja, and [`Class::Limit`] where it would take too many steps or too much memory.
    pub fn render(&self, variables: &serde_json::Map<String, serde_json::Value>) -> Result<String, Fault> {
        let given: usize = variables.iter().map(|(name, value)| name.len() + bytes(value)).sum();
        let tree = &*self.tree;
        let render = || {
            let steps = STEPS.saturating_add(STEPS_PER_BYTE.saturating_mul(given as u64));
            meter::start(steps, BYTES.saturating_add(BYTES_PER_BYTE.saturating_mul(given)));
            let variables =
                variables.iter().map(|(name, value)| Ok((name.clone(), Value::from_json(value)?)));
            State::render(tree, variables.collect::<fault::Result<_>>()?, self.strict)
        };
        // A thread of its own gives the rendering a stack and a meter of known size.
        let rendered = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK);
            thread.spawn_scoped(scope, render).map(std::thread::ScopedJoinHandle::join)
        });
        match rendered {
            Ok(Ok(rendered)) => rendered.map_err(|fault| *fault),
            Ok(Err(_)) => {
                Err(*fault::fault(Class::Unsupported, "the template engine failed on this template"))
            }
            Err(error) => Err(*fault::fault(
                Class::Limit,
                format!("the template's thread could not be started: {error}"),
            )),
        }
    }
}

/// Bytes of a value, about.
fn bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value as Json;
    match value {
        Json::String(text) => text.len() + 16,
        Json::Array(items) => items.iter().map(bytes).sum::<usize>() + 16,
        Json::Object(entries) => {
            entries.iter().map(|(name, value)| name.len() + 16 + bytes(value)).sum::<usize>() + 16
        }
        _ => 16,
    }
}
