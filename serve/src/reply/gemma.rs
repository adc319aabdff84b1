//! Calls as FunctionGemma writes them: `call:name{key:<escape>text<escape>,other:5}`.

use serde_json::{Map, Number, Value};

/// What texts begin and end with.
const ESCAPE: &str = "<escape>";

/// A call's name and arguments; `None` when it is none.
pub(super) fn call(text: &str) -> Option<(String, Value)> {
    let text = text.trim().strip_prefix("call:")?;
    let at = text.find('{')?;
    let name = text[..at].trim();
    let mut reader = Text { rest: &text[at..], depth: 0 };
    let arguments = reader.value()?;
    (!name.is_empty() && reader.rest.trim().is_empty()).then(|| (name.to_owned(), arguments))
}

struct Text<'t> {
    rest: &'t str,
    depth: usize,
}

/// Lists and objects within one another at most.
const DEEPEST: usize = 64;

impl Text<'_> {
    fn skip(&mut self, mark: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(mark) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let value = if self.skip(ESCAPE) {
            Value::String(self.until_escape()?)
        } else if self.skip("{") {
            Value::Object(self.members()?)
        } else if self.skip("[") {
            Value::Array(self.items()?)
        } else {
            let end = self.rest.find([',', '}', ']']).unwrap_or(self.rest.len());
            let word = self.rest[..end].trim();
            let value = plain(word)?;
            self.rest = &self.rest[end..];
            value
        };
        self.depth -= 1;
        Some(value)
    }

    fn until_escape(&mut self) -> Option<String> {
        let (text, rest) = self.rest.split_once(ESCAPE)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn members(&mut self) -> Option<Map<String, Value>> {
        let mut members = Map::new();
        if self.skip("}") {
            return Some(members);
        }
        loop {
            let key = if self.skip(ESCAPE) {
                let key = self.until_escape()?;
                self.skip(":").then_some(key)?
            } else {
                let (key, rest) = self.rest.split_once(':')?;
                self.rest = rest;
                key.trim().to_owned()
            };
            let value = self.value()?;
            members.insert(key, value);
            if self.skip("}") {
                return Some(members);
            }
            self.skip(",").then_some(())?;
        }
    }

    fn items(&mut self) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        if self.skip("]") {
            return Some(items);
        }
        loop {
            items.push(self.value()?);
            if self.skip("]") {
                return Some(items);
            }
            self.skip(",").then_some(())?;
        }
    }
}

/// A number, a truth value or null.
fn plain(word: &str) -> Option<Value> {
    match word {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        "null" => Some(Value::Null),
        _ => serde_json::from_str::<Number>(word).ok().map(Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_read_with_values_of_every_kind() {
        let text = "call:plan{city:<escape>São Paulo, {x}<escape>,days:3,exact:true,to:[<escape>a<escape>,1.5],of:{k:null}}";
        let expected = json!({ "city": "São Paulo, {x}", "days": 3, "exact": true, "to": ["a", 1.5], "of": { "k": null } });
        assert_eq!(call(text), Some(("plan".into(), expected)));
        assert_eq!(call("call:now{}"), Some(("now".into(), json!({}))));
        for wrong in [
            "",
            "call:",
            "call:a",
            "call:{}",
            "call:a{b:}",
            "call:a{b:1",
            "call:a{b:1}x",
            "call:a{b:<escape>c}",
        ] {
            assert_eq!(call(wrong), None, "{wrong}");
        }
        assert_eq!(call(&format!("call:a{{b:{}", "[".repeat(100_000))), None);
    }
}
