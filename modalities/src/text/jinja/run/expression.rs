//! Rendering: expressions.

use std::rc::Rc;

use super::super::ast::{Arguments, Compare, Expr, Kind};
use super::super::fault::{Class, Result, fault, type_error};
use super::super::meter::{Writer, spend};
use super::super::strings::escape;
use super::super::value::{
    Dict, Global, Missing, Value, binary, contains, equal, iterate, negative, ordered, positive, slice,
    to_str,
};
use super::super::{filters, tests};
use super::State;
use super::arguments::Args;

impl State<'_> {
    pub(super) fn eval(&mut self, expr: &Expr) -> Result<Value> {
        spend(1)?;
        self.deeper(|state| state.value_of(expr)).map_err(|mut error| {
            error.line.get_or_insert(expr.line);
            error
        })
    }

    fn all(&mut self, exprs: &[Expr]) -> Result<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    fn value_of(&mut self, expr: &Expr) -> Result<Value> {
        Ok(match &expr.kind {
            Kind::None => Value::None,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Int(value) => Value::Int(*value),
            Kind::Float(value) => Value::Float(*value),
            Kind::Str(text) => Value::str(text.as_str())?,
            Kind::Name(name) => self.name(*name),
            Kind::List(items) => Value::list(self.all(items)?)?,
            Kind::Tuple(items) => Value::tuple(self.all(items)?)?,
            Kind::Dict(items) => {
                let mut dict = Dict::new();
                for (name, value) in items {
                    let name = self.eval(name)?;
                    dict.insert(name, self.eval(value)?)?;
                }
                dict.finish()?
            }
            Kind::If { test, then, otherwise } => {
                if self.eval(test)?.truth()? {
                    self.eval(then)?
                } else if let Some(otherwise) = otherwise {
                    self.eval(otherwise)?
                } else {
                    // Jinja is never strict about what such an expression gives.
                    let why = format!(
                        "the inline if-expression on line {} evaluated to false and no else section was defined.",
                        expr.line
                    );
                    Value::Undefined(Rc::new(Missing { why, class: Class::Undefined, strict: false }))
                }
            }
            Kind::Or(a, b) => {
                let a = self.eval(a)?;
                if a.truth()? { a } else { self.eval(b)? }
            }
            Kind::And(a, b) => {
                let a = self.eval(a)?;
                if a.truth()? { self.eval(b)? } else { a }
            }
            Kind::Not(a) => Value::Bool(!self.eval(a)?.truth()?),
            Kind::Neg(a) => negative(&self.eval(a)?)?,
            Kind::Pos(a) => positive(&self.eval(a)?)?,
            Kind::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                let mut holds = true;
                for (operator, right) in rest {
                    let right = self.eval(right)?;
                    holds = self.compare(*operator, &left, &right)?;
                    if !holds {
                        break;
                    }
                    left = right;
                }
                Value::Bool(holds)
            }
            Kind::Binary(operator, a, b) => {
                let a = self.eval(a)?;
                let b = self.eval(b)?;
                binary(*operator, &a, &b)?
            }
            Kind::Concat(parts) => self.concat(parts)?,
            Kind::Attribute(of, name) => {
                let of = self.eval(of)?;
                self.attribute(&of, name)?
            }
            Kind::Item(of, at) => {
                let of = self.eval(of)?;
                let at = self.eval(at)?;
                self.item(&of, &at)?
            }
            Kind::Slice(of, parts) => {
                let of = self.eval(of)?;
                let mut values = [Value::None, Value::None, Value::None];
                for (value, part) in values.iter_mut().zip(parts) {
                    if let Some(part) = part {
                        *value = self.eval(part)?;
                    }
                }
                match slice(&of, &values) {
                    // Jinja works out what is constant before rendering, where such a slice is undefined;
                    // where that does not do, it slices again.
                    Err(error) if error.class == Class::Type && expr.is_constant() => {
                        let (why, class) = (error.message, Class::Type);
                        Value::Undefined(Rc::new(Missing { why, class, strict: self.strict }))
                    }
                    sliced => sliced?,
                }
            }
            Kind::Call(..) => self.eval_call(expr, None)?,
            Kind::Filter(value, name, arguments) => {
                if !filters::exists(name) {
                    return Err(fault(Class::TemplateRuntime, format!("No filter named '{name}' found.")));
                }
                let value = match value {
                    Some(value) => self.eval(value)?,
                    None => self.block.clone().unwrap_or(Value::None),
                };
                let args = self.arguments(arguments)?;
                filters::apply(self, name, value, args)?
            }
            Kind::Test(value, name, arguments) => {
                if !tests::exists(name) {
                    return Err(fault(Class::TemplateRuntime, format!("No test named '{name}' found.")));
                }
                let value = self.eval(value)?;
                let args = self.arguments(arguments)?;
                Value::Bool(tests::apply(self, name, value, args)?)
            }
        })
    }

    fn name(&self, name: u32) -> Value {
        if let Some(value) = self.scope.get(name) {
            return value;
        }
        let name = self.tree.names.get(name as usize).map_or("", String::as_str);
        match name {
            "range" => Value::Global(Global::Range),
            "dict" => Value::Global(Global::Dict),
            "namespace" => Value::Global(Global::Namespace),
            "cycler" => Value::Global(Global::Cycler),
            "joiner" => Value::Global(Global::Joiner),
            "lipsum" => Value::Global(Global::Lipsum),
            "raise_exception" => Value::Global(Global::RaiseException),
            "strftime_now" => Value::Global(Global::StrftimeNow),
            _ => self.undefined(format!("'{name}' is undefined")),
        }
    }

    fn compare(&mut self, operator: Compare, a: &Value, b: &Value) -> Result<bool> {
        Ok(match operator {
            Compare::Eq => equal(a, b)?,
            Compare::Ne => !equal(a, b)?,
            Compare::Lt => ordered(a, b, "<")?.is_some_and(|o| o.is_lt()),
            Compare::Le => ordered(a, b, "<=")?.is_some_and(|o| o.is_le()),
            Compare::Gt => ordered(a, b, ">")?.is_some_and(|o| o.is_gt()),
            Compare::Ge => ordered(a, b, ">=")?.is_some_and(|o| o.is_ge()),
            Compare::In => contains(self, b, a)?,
            Compare::NotIn => !contains(self, b, a)?,
        })
    }

    fn concat(&mut self, parts: &[Expr]) -> Result<Value> {
        let values = self.all(parts)?;
        // What is escaped escapes the rest, where text is escaped at all; but not among constants, which
        // Jinja joins before rendering.
        let constant = parts.iter().all(Expr::is_constant);
        let markup = self.autoescape && !constant && values.iter().any(Value::is_markup);
        let mut out = Writer::new();
        for value in &values {
            match value {
                Value::Str(text) if markup && !text.markup => escape(&mut out, &text.text)?,
                Value::Str(text) => out.push(&text.text)?,
                other if markup => escape(&mut out, &to_str(other)?)?,
                other => out.push(&to_str(other)?)?,
            }
        }
        Value::text(out.finish(), markup)
    }

    /// Arguments with those of `*list` and `**mapping`.
    pub(super) fn arguments(&mut self, arguments: &Arguments) -> Result<Args> {
        let mut list = self.all(&arguments.list)?;
        let mut named = Vec::with_capacity(arguments.named.len());
        for (name, value) in &arguments.named {
            named.push((name.clone(), self.eval(value)?));
        }
        if let Some(more) = &arguments.more {
            let more = self.eval(more)?;
            let iter = iterate(&more)?;
            list.extend(self.drain(iter)?);
        }
        if let Some(more) = &arguments.more_named {
            let more = self.eval(more)?;
            let Value::Dict(dict) = &more else {
                return Err(match &more {
                    Value::Undefined(missing) => Value::misused(missing),
                    other => {
                        type_error(format!("argument after ** must be a mapping, not {}", other.type_name()))
                    }
                });
            };
            for (name, value) in dict.entries() {
                let Some(name) = name.as_str() else { return Err(type_error("keywords must be strings")) };
                if named.iter().any(|(known, _)| known == name) {
                    return Err(type_error(format!("got multiple values for keyword argument '{name}'")));
                }
                named.push((name.to_owned(), value.clone()));
            }
        }
        Ok(Args { list, named })
    }

    /// A call, with the body of a call block as its `caller`.
    pub(super) fn eval_call(&mut self, expr: &Expr, caller: Option<Value>) -> Result<Value> {
        let Kind::Call(callee, arguments) = &expr.kind else {
            return Err(fault(Class::TemplateSyntax, "expected call"));
        };
        let callee = self.eval(callee)?;
        let mut args = self.arguments(arguments)?;
        if let Some(caller) = caller {
            args.named.push(("caller".into(), caller));
        }
        self.call(&callee, args)
    }
}
