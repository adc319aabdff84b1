//! Jinja's tests: what follows `is`.

use super::ast::Binary;
use super::fault::{Class, Result, fault, type_error};
use super::filters;
use super::methods;
use super::run::State;
use super::run::arguments::Args;
use super::value::{Value, binary, contains, equal, iterate, ordered, to_str};

const NAMES: [&str; 39] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    "ge",
    ">=",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
];

/// Whether there is such a test.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// A value's rest by another, compared with a number.
fn rest_is(value: &Value, by: Value, wanted: i128) -> Result<bool> {
    equal(&binary(Binary::Mod, value, &by)?, &Value::Int(wanted))
}

/// Applies a test.
pub(super) fn apply(state: &mut State, name: &str, value: Value, args: Args) -> Result<bool> {
    if !exists(name) {
        return Err(fault(Class::TemplateRuntime, format!("No test named '{name}'.")));
    }
    let one = |args: Args, parameter: &'static str| -> Result<Value> {
        let [other] = args.bind(&format!("test_{name}"), [parameter], 1)?;
        Ok(other.unwrap_or(Value::None))
    };
    // Python's operators take no names.
    let operand = |args: Args| -> Result<Value> {
        let [other] = args.positional(name, 1)?;
        Ok(other.unwrap_or(Value::None))
    };
    match name {
        "divisibleby" => return rest_is(&value, one(args, "num")?, 0),
        "sameas" => return Ok(value.same(&one(args, "other")?)),
        "in" => {
            let all = one(args, "seq")?;
            return contains(state, &all, &value);
        }
        "==" | "eq" | "equalto" => return equal(&value, &operand(args)?),
        "!=" | "ne" => return Ok(!equal(&value, &operand(args)?)?),
        ">" | "gt" | "greaterthan" => {
            return Ok(ordered(&value, &operand(args)?, ">")?.is_some_and(|o| o.is_gt()));
        }
        ">=" | "ge" => return Ok(ordered(&value, &operand(args)?, ">=")?.is_some_and(|o| o.is_ge())),
        "<" | "lt" | "lessthan" => {
            return Ok(ordered(&value, &operand(args)?, "<")?.is_some_and(|o| o.is_lt()));
        }
        "<=" | "le" => return Ok(ordered(&value, &operand(args)?, "<=")?.is_some_and(|o| o.is_le())),
        _ => {}
    }
    if !args.list.is_empty() || !args.named.is_empty() {
        return Err(type_error(format!("test_{name}() takes no arguments but the value")));
    }
    Ok(match name {
        "odd" => rest_is(&value, Value::Int(2), 1)?,
        "even" => rest_is(&value, Value::Int(2), 0)?,
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" => hashable(&value)?.is_some_and(filters::exists),
        "test" => hashable(&value)?.is_some_and(exists),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "false" => matches!(value, Value::Bool(false)),
        "true" => matches!(value, Value::Bool(true)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "lower" | "upper" => {
            let text = Value::str(to_str(&value)?)?;
            let method = if name == "lower" { "islower" } else { "isupper" };
            methods::call(state, &text, method, Args::default())?.truth()?
        }
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "sequence" => {
            matches!(
                value,
                Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Range(_)
            ) || matches!(&value, Value::Undefined(missing) if !missing.strict)
        }
        "iterable" => match iterate(&value) {
            Ok(_) => true,
            Err(error) if matches!(value, Value::Undefined(_)) => return Err(error),
            Err(_) => matches!(value, Value::Loop(_)),
        },
        "callable" => matches!(
            value,
            Value::Macro(_)
                | Value::Method(_)
                | Value::Global(_)
                | Value::Joiner(_)
                | Value::Loop(_)
                | Value::Undefined(_)
        ),
        _ => value.is_markup(),
    })
}

/// The text of a value that can be a key.
fn hashable(value: &Value) -> Result<Option<&str>> {
    match value {
        Value::List(_) | Value::Dict(_) => {
            Err(type_error(format!("unhashable type: '{}'", value.type_name())))
        }
        other => Ok(other.as_str()),
    }
}
