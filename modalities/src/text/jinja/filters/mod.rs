//! Jinja's filters.

mod number;
mod sequence;
mod text;
mod wrap;

use super::fault::{Class, Result, fault, type_error, unsupported};
use super::meter::Writer;
use super::run::State;
use super::run::arguments::Args;
use super::strings::escape;
use super::value::{Json, Lazy, Selection, Value, to_str};

pub(super) use sequence::sorted;

const NAMES: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "items",
    "map",
    "min",
    "max",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
    "tojson",
];

/// Whether there is such a filter.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// A value as text: itself where it is one.
fn soft(value: Value) -> Result<Value> {
    match value {
        Value::Str(_) => Ok(value),
        other => Value::str(to_str(&other)?),
    }
}

/// A truth that was perhaps not given.
fn truth(value: Option<Value>) -> Result<bool> {
    value.map_or(Ok(false), |value| value.truth())
}

/// A value with HTML's characters escaped.
fn escaped(value: &Value) -> Result<Value> {
    let mut out = Writer::new();
    match value {
        Value::Str(text) if text.markup => return Ok(value.clone()),
        Value::Str(text) => escape(&mut out, &text.text)?,
        other => escape(&mut out, &to_str(other)?)?,
    }
    Value::markup(out.finish())
}

/// Applies a filter.
pub(super) fn apply(state: &mut State, name: &str, value: Value, args: Args) -> Result<Value> {
    state.deeper(|state| one(state, name, value, args))
}

fn one(state: &mut State, name: &str, value: Value, args: Args) -> Result<Value> {
    match name {
        "abs" | "round" | "int" | "float" | "filesizeformat" | "sum" => {
            number::apply(state, name, value, args)
        }
        "batch" | "slice" | "unique" | "items" => {
            let name = ["batch", "slice", "unique", "items"]
                .into_iter()
                .find(|known| *known == name)
                .unwrap_or("items");
            sequence::check(name, &args)?;
            Lazy::value(value, Selection::Whole(name, args))
        }
        "map" => Lazy::value(value, Selection::Map(args)),
        "select" => Lazy::value(value, Selection::Select { args, attribute: false, keep: true }),
        "reject" => Lazy::value(value, Selection::Select { args, attribute: false, keep: false }),
        "selectattr" => Lazy::value(value, Selection::Select { args, attribute: true, keep: true }),
        "rejectattr" => Lazy::value(value, Selection::Select { args, attribute: true, keep: false }),
        "count" | "length" => {
            let [value] = args.before(value).positional("len", 1)?;
            Ok(Value::Int(value.unwrap_or(Value::None).length()? as i128))
        }
        "dictsort" | "first" | "groupby" | "join" | "last" | "list" | "min" | "max" | "reverse" | "sort" => {
            sequence::apply(state, name, value, args)
        }
        "attr" => {
            let [name] = args.bind("do_attr", ["name"], 1)?;
            let Some(Value::Str(name)) = name else {
                return Err(type_error("attribute name must be string"));
            };
            state.own_attribute(&value, &name.text)
        }
        "d" | "default" => {
            let [default, boolean] = args.bind("do_default", ["default_value", "boolean"], 0)?;
            if value.is_undefined() || (truth(boolean)? && !value.truth()?) {
                return default.map_or_else(|| Value::str(""), Ok);
            }
            Ok(value)
        }
        "e" | "escape" => {
            let [] = args.positional("escape", 0)?;
            escaped(&value)
        }
        "forceescape" => {
            let [] = args.bind("do_forceescape", [], 0)?;
            escaped(&Value::str(to_str(&value)?)?)
        }
        "safe" => {
            let [] = args.bind("do_mark_safe", [], 0)?;
            match &value {
                Value::Str(text) => Value::markup(text.text.to_string()),
                other => Value::markup(to_str(other)?),
            }
        }
        "string" => {
            let [] = args.positional("soft_str", 0)?;
            soft(value)
        }
        "tojson" => {
            let (value, json) = Json::new(args.before(value))?;
            Value::str(json.dump(&value)?)
        }
        "random" => Err(unsupported("the filter random, which would write another prompt each time,")),
        "urlize" => Err(unsupported("the filter urlize")),
        _ if exists(name) => text::apply(state, name, value, args),
        _ => Err(fault(Class::TemplateRuntime, format!("No filter named '{name}'."))),
    }
}

/// Parts of an attribute's path, those of digits as numbers.
fn path(attribute: Option<&Value>) -> Result<Vec<Value>> {
    Ok(match attribute {
        None | Some(Value::None) => Vec::new(),
        Some(Value::Str(text)) => text
            .text
            .split('.')
            .map(|part| match part.parse() {
                Ok(at) if part.bytes().all(|b| b.is_ascii_digit()) => Ok(Value::Int(at)),
                _ => Value::str(part),
            })
            .collect::<Result<_>>()?,
        Some(other) => vec![other.clone()],
    })
}

impl State<'_> {
    /// What a path of attributes leads to.
    fn follow(&mut self, item: Value, path: &[Value], default: Option<&Value>) -> Result<Value> {
        let mut item = item;
        for part in path {
            item = self.item(&item, part)?;
            if let (true, Some(default)) = (item.is_undefined(), default) {
                item = default.clone();
            }
        }
        Ok(item)
    }

    /// Whether the arguments of `map` make sense.
    pub(super) fn check_map(&self, args: &Args) -> Result<()> {
        if !args.list.is_empty() {
            return Ok(());
        }
        if !args.named.iter().any(|(name, _)| name == "attribute") {
            return Err(fault(Class::FilterArgument, "map requires a filter argument"));
        }
        match args.named.iter().find(|(name, _)| name != "attribute" && name != "default") {
            Some((name, _)) => {
                Err(fault(Class::FilterArgument, format!("Unexpected keyword argument '{name}'")))
            }
            None => Ok(()),
        }
    }

    /// One item of `map`.
    pub(super) fn map_item(&mut self, item: Value, args: &Args) -> Result<Value> {
        if let Some((name, rest)) = args.list.split_first() {
            let rest = Args { list: rest.to_vec(), named: args.named.clone() };
            let Some(name) = name.as_str() else {
                return Err(fault(Class::TemplateRuntime, "No filter of that name."));
            };
            return apply(self, name, item, rest);
        }
        let named = |wanted: &str| args.named.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let default = named("default").filter(|default| !matches!(default, Value::None));
        let path = path(named("attribute"))?;
        self.follow(item, &path, default)
    }

    /// Whether an item passes a test of `select` and its like.
    pub(super) fn selects(&mut self, item: &Value, args: &Args, attribute: bool) -> Result<bool> {
        let mut list = args.list.as_slice();
        let mut value = item.clone();
        if let (true, Some((attribute, rest))) = (attribute, list.split_first()) {
            value = self.follow(value, &path(Some(attribute))?, None)?;
            list = rest;
        }
        let Some((name, rest)) = list.split_first() else { return value.truth() };
        let rest = Args { list: rest.to_vec(), named: args.named.clone() };
        let Some(name) = name.as_str() else {
            return Err(fault(Class::TemplateRuntime, "No test of that name."));
        };
        super::tests::apply(self, name, value, rest)
    }

    /// The list that a filter gives when its first item is requested.
    pub(super) fn whole(&mut self, name: &str, value: &Value, args: Args) -> Result<Value> {
        sequence::whole(self, name, value, args)
    }
}
