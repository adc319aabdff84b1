//! A template, and a conversation and other values for it.

use std::collections::BTreeMap;

use percept_modalities::text::ChatTemplate;
use percept_modalities::text::jinja::Template;
use serde_json::{Map, Value, json};

/// The bytes are a template. It is rendered as one of a checkpoint, and as one of a recipe, where what is not defined is
/// an error: then it cannot succeed where the other fails, and gives the same where it succeeds.
pub fn run(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let Value::Object(variables) = variables() else { return };
    if let Ok(template) = ChatTemplate::new(&source, BTreeMap::new()) {
        let _ = template.render(&variables["messages"], true, &Map::new());
    }
    let Ok(template) = Template::parse(&source) else { return };
    let loose = template.render(&variables);
    let strict = template.strict().render(&variables);
    // The time goes on between the two, and what is not defined is a sequence in one of them alone.
    let differ = source.contains("now") || source.contains("sequence");
    if let (false, Ok(strict)) = (differ, strict) {
        assert_eq!(Some(&strict), loose.as_ref().ok(), "{loose:?}");
    }
}

fn variables() -> Value {
    json!({
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "hi <b> 'ü'"}, {"type": "image"}]},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": {"a": [1, 2.0, null, true, "é\n"]}}}
            ]},
            {"role": "tool", "content": "6", "tool_call_id": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "text": "the quick  brown fox\njumps over the lazy dog",
        "html": "<b>\"bold\" & 'it'</b>",
        "n": 7,
        "big": 12345678901234567890u64,
        "f": -2.5,
        "yes": true,
        "nothing": null,
        "nums": [3, 1, 2],
        "nested": [[1, 2], [3, [4, 5]]],
        "d": {"b": 2, "a": 1, "items": "mine", "nested": {"x": [1, {"y": "z"}]}},
        "people": [{"name": "bob", "age": 30, "city": "Rome"}, {"name": "Al", "age": 25, "city": "rome"}],
    })
}
