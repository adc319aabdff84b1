//! The fields of a JSON object, each taken once: what is left was not honoured, and is refused by name.

use serde_json::{Map, Value};

use crate::failure::Failure;

/// The fields of an object that were not taken yet.
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Where the object stands in the request, such as `messages[2]`; empty for the request itself.
    place: String,
    /// Fields that another name is taken for, with the names that clients know.
    renamed: Vec<(&'static str, &'static str)>,
}

impl Fields {
    /// The object that a request's body holds.
    pub fn of_body(body: &[u8]) -> Result<Self, Failure> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            Failure::bad(format!("the body is not JSON: {error}")).with_code("invalid_json")
        })?;
        Self::of(value, "")
    }

    /// The object that stands at a place of the request.
    pub fn of(value: Value, place: &str) -> Result<Self, Failure> {
        match value {
            Value::Object(map) => Ok(Self { map, place: place.into(), renamed: Vec::new() }),
            other => {
                let what = if place.is_empty() { "the body" } else { place };
                Err(Failure::bad(format!("{what} must be a JSON object, not {}", kind(&other))).at(place))
            }
        }
    }

    /// The full name of a field.
    pub fn name(&self, field: &str) -> String {
        let field = self.renamed.iter().find(|(to, _)| *to == field).map_or(field, |(_, from)| from);
        named(&self.place, field)
    }

    /// Lets a field be taken under another name, which the protocol of the request does not have.
    pub fn rename(&mut self, from: &'static str, to: &'static str) -> Result<(), Failure> {
        if self.map.contains_key(to) {
            let name = self.name(to);
            return Err(Failure::field(
                &name,
                format!("`{name}` is not known here; this protocol calls it `{from}`"),
            )
            .with_code("unknown_parameter"));
        }
        if let Some(value) = self.map.remove(from) {
            self.map.insert(to.into(), value);
        }
        self.renamed.push((to, from));
        Ok(())
    }

    /// Lets go of a field that has a value with which it says nothing.
    pub fn drop_if(&mut self, field: &str, value: &Value) {
        if self.map.get(field) == Some(value) {
            self.map.remove(field);
        }
    }

    /// A field as it stands; null counts as absent.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    /// A field that `read` understands; `what` says what it must be.
    pub fn read<T>(
        &mut self,
        field: &str,
        what: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(value) = self.take(field) else { return Ok(None) };
        match read(&value) {
            Some(found) => Ok(Some(found)),
            None => {
                let name = self.name(field);
                Err(Failure::field(&name, format!("`{name}` must be {what}, not {}", brief(&value))))
            }
        }
    }

    /// A text.
    pub fn text(&mut self, field: &str) -> Result<Option<String>, Failure> {
        self.read(field, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// A text that must be there.
    pub fn needed_text(&mut self, field: &str) -> Result<String, Failure> {
        let text = self.text(field)?;
        text.ok_or_else(|| self.missing(field))
    }

    /// The failure of a field that is not there.
    pub fn missing(&self, field: &str) -> Failure {
        let name = self.name(field);
        Failure::field(&name, format!("`{name}` is missing")).with_code("missing_parameter")
    }

    /// True or false.
    pub fn flag(&mut self, field: &str) -> Result<Option<bool>, Failure> {
        self.read(field, "true or false", Value::as_bool)
    }

    /// A whole number between two bounds, both included.
    pub fn count(&mut self, field: &str, least: u64, most: u64) -> Result<Option<u64>, Failure> {
        let what = if most == u64::MAX {
            format!("a whole number of at least {least}")
        } else {
            format!("a whole number from {least} to {most}")
        };
        self.read(field, &what, |value| value.as_u64().filter(|n| (least..=most).contains(n)))
    }

    /// A number between two bounds, both included.
    pub fn number(&mut self, field: &str, least: f64, most: f64) -> Result<Option<f64>, Failure> {
        let what = format!("a number from {least} to {most}");
        self.read(field, &what, |value| value.as_f64().filter(|n| (least..=most).contains(n)))
    }

    /// Fields that change nothing of an answer and may hold anything.
    pub fn accept(&mut self, fields: &[&str]) {
        for field in fields {
            self.map.remove(*field);
        }
    }

    /// A field that is honoured only where it has one of these values, with which it changes nothing.
    pub fn only(&mut self, field: &str, values: &[Value], why: &str) -> Result<(), Failure> {
        match self.take(field) {
            Some(value) if !values.contains(&value) => {
                let name = self.name(field);
                Err(Failure::unsupported(
                    &name,
                    format!("`{name}`: {} is not supported: {why}", brief(&value)),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Fields that others honour and this server does not, each with what to do instead.
    pub fn refuse(&mut self, fields: &[(&str, &str)]) -> Result<(), Failure> {
        for (field, why) in fields {
            if self.take(field).is_some() {
                let name = self.name(field);
                return Err(Failure::unsupported(&name, format!("`{name}` is not supported: {why}")));
            }
        }
        Ok(())
    }

    /// Refuses what was not taken.
    pub fn finish(self) -> Result<(), Failure> {
        nothing_but(&[], &self.map, &self.place)
    }
}

/// Refuses what an object at a place of the request holds beside these fields.
pub(crate) fn nothing_but(known: &[&str], map: &Map<String, Value>, place: &str) -> Result<(), Failure> {
    let other = map.iter().find(|(field, value)| !value.is_null() && !known.contains(&field.as_str()));
    let Some((field, _)) = other else { return Ok(()) };
    let name = named(place, &field.chars().take(80).collect::<String>());
    Err(Failure::field(&name, format!("`{name}` is not known here; leave it out"))
        .with_code("unknown_parameter"))
}

/// The full name of a field of the object at a place.
fn named(place: &str, field: &str) -> String {
    if place.is_empty() { field.to_owned() } else { format!("{place}.{field}") }
}

/// The JSON type of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value in an error: whole where it is short.
fn brief(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > 60 => format!("a text of {} bytes", text.len()),
        Value::Array(_) | Value::Object(_) => kind(value).into(),
        short => short.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_named() {
        let mut fields = Fields::of_body(br#"{"a": 1, "b": null, "c": [1]}"#).unwrap();
        assert_eq!(fields.count("a", 0, 5).unwrap(), Some(1));
        let failure = fields.finish().unwrap_err();
        assert_eq!((failure.param.as_deref(), failure.code), (Some("c"), Some("unknown_parameter")));
        let mut fields = Fields::of_body(br#"{"a": 9, "b": "x", "store": true}"#).unwrap();
        assert!(fields.count("a", 0, 5).unwrap_err().message.contains("from 0 to 5, not 9"));
        assert!(fields.flag("b").unwrap_err().message.contains("true or false, not \"x\""));
        let failure = fields.only("store", &[Value::Bool(false)], "nothing is kept").unwrap_err();
        assert_eq!(failure.code, Some("unsupported_parameter"));
        assert!(Fields::of_body(b"[1]").err().unwrap().message.contains("not a list"));
        assert_eq!(Fields::of_body(b"{").err().unwrap().code, Some("invalid_json"));
        let deep = "[".repeat(100_000);
        assert_eq!(Fields::of_body(deep.as_bytes()).err().unwrap().code, Some("invalid_json"));
    }
}
