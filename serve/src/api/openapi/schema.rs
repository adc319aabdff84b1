//! The pieces that schemas are made of.

use serde_json::{Map, Value, json};

/// An object with these properties and no others, some of which it must have. Null stands for one that is left out.
pub(super) fn object(required: &[&str], properties: Value) -> Value {
    let Value::Object(properties) = properties else { return json!(false) };
    let all: Map<String, Value> = properties
        .into_iter()
        .map(|(name, schema)| match required.contains(&name.as_str()) {
            true => (name, schema),
            false => (name, or_null(schema)),
        })
        .collect();
    json!({ "type": "object", "required": required, "properties": all, "additionalProperties": false })
}

/// A schema that null meets too.
fn or_null(schema: Value) -> Value {
    match schema["type"].as_str() {
        // Where values are listed, their type alone does not let null through.
        Some(kind) if schema.get("enum").is_none() && schema.get("const").is_none() => {
            let kinds = json!([kind, "null"]);
            let mut schema = schema;
            schema["type"] = kinds;
            schema
        }
        _ if schema == json!({}) => schema,
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// Several sets of properties as one.
pub(super) fn together(sets: impl IntoIterator<Item = Value>) -> Value {
    let all = sets.into_iter().filter_map(|set| match set {
        Value::Object(set) => Some(set),
        _ => None,
    });
    Value::Object(all.flatten().collect())
}

/// One of the shared schemas.
pub(super) fn shared(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

pub(super) fn number(least: f64, most: f64) -> Value {
    json!({ "type": "number", "minimum": least, "maximum": most })
}

pub(super) fn count(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

pub(super) fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// A list that is not empty.
pub(super) fn some(items: Value) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1 })
}

pub(super) fn any_of(schemas: Vec<Value>) -> Value {
    json!({ "anyOf": schemas })
}

pub(super) fn one_word_of(words: &[&str]) -> Value {
    json!({ "enum": words })
}

/// What may hold anything, since it changes nothing.
pub(super) fn anything() -> Value {
    json!({})
}
