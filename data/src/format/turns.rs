//! Conversations in the shapes that data sets have them.

use percept_modalities::{Content, Message, Part};
use serde_json::{Map, Value};

use crate::reject::Reject;
use crate::sample::Kind;

/// Turns from a column: `[{role, content}]`, LLaVA's `[{from, value}]`, Cauldron's `[{user, assistant}]`, or the JSON
/// text of one of them. `<image>`, `<video>` and `<audio>` in a text stand for media.
pub(super) fn turns(value: Value) -> Result<Vec<Message>, Reject> {
    let malformed = |why: String| Reject::new("malformed", format!("its turns {why}"));
    let value = match value {
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|e| malformed(format!("are a text that is no JSON: {e}")))?
        }
        value => value,
    };
    let Value::Array(turns) = value else { return Err(malformed("are not a list".into())) };
    let mut messages = Vec::with_capacity(turns.len());
    for mut turn in turns {
        // One that calls tools need not say anything.
        let calls = turn.get("tool_calls").is_some_and(|calls| !calls.is_null());
        let mut take = |name: &str| turn.get_mut(name).map(Value::take);
        let nothing = calls.then_some(Value::Null);
        if let (Some(role), Some(content)) = (take("role"), take("content").or(nothing)) {
            let role = role.as_str().ok_or_else(|| malformed("have a role that is no text".into()))?;
            let content = content_of(content)?;
            let mut fields = std::mem::take(turn.as_object_mut().unwrap_or(&mut Map::new()));
            let own = |name: &str| name == "role" || name == "content";
            // Writers of tables fill the fields that other turns have with nulls.
            fields.retain(|name, value| !value.is_null() || own(name));
            let place = |name: &str| fields.keys().position(|key| key == name).unwrap_or(0);
            let places = (place("role"), place("content"));
            fields.retain(|name, _| !own(name));
            messages.push(Message { role: role.to_owned(), content, fields, places });
        } else if let (Some(from), Some(Value::String(value))) = (take("from"), take("value")) {
            let role = match from.as_str() {
                Some("human" | "user") => "user",
                Some("gpt" | "assistant" | "model") => "assistant",
                Some("system") => "system",
                _ => return Err(malformed(format!("are from {from}; human, gpt and system are known"))),
            };
            // What else a turn says goes with it, such as the weight that tells whether it is learnt.
            let mut fields = std::mem::take(turn.as_object_mut().unwrap_or(&mut Map::new()));
            fields.retain(|name, value| name != "from" && name != "value" && !value.is_null());
            messages.push(Message { fields, ..Message::new(role, with_media(value)) });
        } else if let (Some(Value::String(user)), Some(Value::String(assistant))) =
            (take("user"), take("assistant"))
        {
            messages.push(Message::new("user", with_media(user)));
            messages.push(Message::new("assistant", Content::Text(assistant)));
        } else {
            return Err(malformed(
                "have neither role and content, from and value, nor user and assistant".into(),
            ));
        }
    }
    Ok(messages)
}

fn content_of(content: Value) -> Result<Content, Reject> {
    match content {
        Value::Null => Ok(Content::Nothing),
        Value::String(text) => Ok(with_media(text)),
        Value::Array(mut parts) => {
            // Writers of tables fill the fields that other parts have with nulls.
            for part in &mut parts {
                if let Value::Object(fields) = part {
                    fields.retain(|_, value| !value.is_null());
                }
            }
            let parts = serde_json::from_value(Value::Array(parts));
            let malformed =
                |e| Reject::new("malformed", format!("its turns have parts of another shape: {e}"));
            parts.map(Content::Parts).map_err(malformed)
        }
        other => Err(Reject::new("malformed", format!("its turns have a content that is {other}"))),
    }
}

/// A text taken apart at its placeholders.
pub(crate) fn with_media(text: String) -> Content {
    const MARKS: [(&str, Kind); 3] =
        [("<image>", Kind::Image), ("<video>", Kind::Video), ("<audio>", Kind::Audio)];
    let mut parts = Vec::new();
    let mut rest = text.as_str();
    loop {
        let next = MARKS
            .iter()
            .filter_map(|(mark, kind)| Some((rest.find(mark)?, *mark, *kind)))
            .min_by_key(|n| n.0);
        let Some((at, mark, kind)) = next else { break };
        // The line break beside a placeholder belongs to it.
        let before = rest[..at].strip_suffix('\n').unwrap_or(&rest[..at]);
        if !before.is_empty() {
            parts.push(Part::Text { text: before.to_owned() });
        }
        parts.push(Part::of(kind.into()));
        let after = &rest[at + mark.len()..];
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    if parts.is_empty() {
        return Content::Text(text);
    }
    if !rest.is_empty() {
        parts.push(Part::Text { text: rest.to_owned() });
    }
    Content::Parts(parts)
}

/// Puts placeholders of all media before the first turn of the user, for turns that mention none.
pub(crate) fn mention(messages: &mut [Message], kinds: impl Iterator<Item = Kind>) {
    let mentions = |message: &Message| message.content.parts().iter().any(|part| part.medium().is_some());
    if messages.iter().any(mentions) {
        return;
    }
    let Some(first) = messages.iter_mut().find(|message| message.role == "user") else { return };
    first.content = std::mem::take(&mut first.content).after(kinds.map(Kind::into));
}

/// The files that turns name themselves, in order; the turns then mention them without their names.
pub(super) fn named_media(messages: &mut [Message]) -> Vec<(String, Kind)> {
    let mut named = Vec::new();
    for message in messages {
        let Content::Parts(parts) = &mut message.content else { continue };
        for part in parts {
            let (path, kind) = match part {
                Part::Text { .. } | Part::Other(_) => continue,
                Part::Image { path } => (path, Kind::Image),
                Part::Video { path } => (path, Kind::Video),
                Part::Audio { path } => (path, Kind::Audio),
            };
            named.extend(path.take().map(|path| (path, kind)));
        }
    }
    named
}
