//! Rendering: calls of macros and of the functions that every template has.

use std::cell::Cell;
use std::rc::Rc;

use super::super::fault::{Class, Result, fault, type_error, unsupported, value_error};
use super::super::methods;
use super::super::value::{Closure, Cycler, Dict, Global, List, Range, Value, to_str};
use super::arguments::{Args, integer};
use super::{Scope, State};

/// The longest range that the sandbox allows.
const LONGEST_RANGE: usize = 100_000;

impl State<'_> {
    /// Calls a value.
    pub(in super::super) fn call(&mut self, callee: &Value, args: Args) -> Result<Value> {
        match callee {
            Value::Macro(closure) => {
                let closure = closure.clone();
                self.deeper(|state| state.call_macro(&closure, args))
            }
            Value::Method(method) => {
                let method = method.clone();
                self.deeper(|state| methods::call(state, &method.0, &method.1, args))
            }
            Value::Global(global) => self.call_global(*global, args),
            Value::Loop(looping) => {
                let [over] = args.bind("__call__", ["iterable"], 1)?;
                self.recurse(looping, &over.unwrap_or(Value::None))
            }
            Value::Joiner(joiner) => {
                let [] = args.positional("__call__", 0)?;
                if joiner.1.replace(true) { Ok(joiner.0.clone()) } else { Value::str("") }
            }
            Value::Undefined(missing) => Err(Value::misused(missing)),
            other => Err(type_error(format!("'{}' object is not callable", other.type_name()))),
        }
    }

    fn call_macro(&mut self, closure: &Rc<Closure>, mut args: Args) -> Result<Value> {
        let node = &closure.node;
        let title = node.name.as_deref().unwrap_or("None");
        let known = node.parameters.len();
        let more = args.list.split_off(known.min(args.list.len()));
        let scope = Scope::new(Some(closure.scope.clone()));
        let mut given: Vec<Option<Value>> = args.list.drain(..).map(Some).collect();
        for (_, name) in &node.parameters[given.len()..] {
            let value = args.take(name);
            given.push(value);
        }
        if let Some(caller) = node.caller {
            let value = args.take("caller").filter(|caller| !matches!(caller, Value::None));
            scope.set(caller, value.unwrap_or_else(|| self.undefined("No caller defined")));
        }
        match node.kwargs {
            Some(kwargs) => {
                let mut dict = Dict::new();
                for (name, value) in args.named.drain(..) {
                    dict.insert(Value::str(name)?, value)?;
                }
                scope.set(kwargs, dict.finish()?);
            }
            None => {
                if args.named.iter().any(|(name, _)| name == "caller") {
                    let why = "was invoked with two values for the special caller argument";
                    return Err(type_error(format!("macro '{title}' {why}")));
                }
                if let Some((name, _)) = args.named.first() {
                    return Err(type_error(format!("macro '{title}' takes no keyword argument '{name}'")));
                }
            }
        }
        match node.varargs {
            Some(varargs) => scope.set(varargs, Value::tuple(more)?),
            None if !more.is_empty() => {
                return Err(type_error(format!("macro '{title}' takes not more than {known} argument(s)")));
            }
            None => {}
        }
        let first_default = known - node.defaults.len();
        let (text, _) = self.within(scope, |state| {
            for (i, ((name, text), value)) in node.parameters.iter().zip(given).enumerate() {
                let value = match value {
                    Some(value) => value,
                    None if i >= first_default => state.eval(&node.defaults[i - first_default])?,
                    None => state.undefined(format!("parameter '{text}' was not provided")),
                };
                state.scope.set(*name, value);
            }
            state.capture(|state| state.run(&node.body))
        })?;
        Value::text(text, self.autoescape)
    }

    fn call_global(&mut self, global: Global, args: Args) -> Result<Value> {
        match global {
            Global::Range => {
                let [a, b, c] = args.positional("range", 1)?;
                let number = |value: &Option<Value>| value.as_ref().map(integer).transpose();
                let (start, stop) = match (number(&a)?, number(&b)?) {
                    (Some(start), Some(stop)) => (start, stop),
                    (Some(stop), None) => (0, stop),
                    (None, _) => return Err(type_error("range expected at least 1 argument, got 0")),
                };
                let step = number(&c)?.unwrap_or(1);
                if step == 0 {
                    return Err(value_error("range() arg 3 must not be zero"));
                }
                // So that no sum of these overflows.
                const FARTHEST: i128 = 1 << 100;
                let far = |n: i128| n.abs() > FARTHEST;
                let range = Range { start, stop, step };
                if far(start) || far(stop) || far(step) || range.len() > LONGEST_RANGE {
                    return Err(fault(
                        Class::Overflow,
                        format!(
                            "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({LONGEST_RANGE})."
                        ),
                    ));
                }
                Ok(Value::Range(range.into()))
            }
            Global::Dict => self.dict(args),
            Global::Namespace => self.namespace(args),
            Global::Cycler => {
                if let Some((name, _)) = args.named.first() {
                    return Err(type_error(format!(
                        "Cycler.__init__() got an unexpected keyword argument '{name}'"
                    )));
                }
                if args.list.is_empty() {
                    return Err(fault(Class::Runtime, "at least one item has to be provided"));
                }
                let items = List::new(args.list, &[])?;
                Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0) })))
            }
            Global::Joiner => {
                let [separator] = args.bind("Joiner.__init__", ["sep"], 0)?;
                let separator = match separator {
                    Some(separator) => separator,
                    None => Value::str(", ")?,
                };
                Value::joiner(separator)
            }
            Global::Lipsum => Err(unsupported("lipsum(), whose text is random,")),
            Global::RaiseException => {
                let [message] = args.bind("raise_exception", ["message"], 1)?;
                let message = message.map_or(Ok(String::new()), |message| to_str(&message))?;
                Err(fault(Class::Template, message))
            }
            Global::StrftimeNow => {
                let [format] = args.bind("strftime_now", ["format"], 1)?;
                let Some(Value::Str(format)) = format else {
                    return Err(type_error("strftime() argument 1 must be str"));
                };
                let now = jiff::Zoned::now();
                let text = jiff::fmt::strtime::format(format.text.as_bytes(), &now);
                Value::str(text.map_err(|error| value_error(error.to_string()))?)
            }
        }
    }

    /// A method of a value, before it is called.
    pub(super) fn method(&self, of: &Value, name: &str) -> Value {
        Value::Method(Rc::new((of.clone(), name.to_owned())))
    }
}
