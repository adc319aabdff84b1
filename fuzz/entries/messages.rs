//! Conversations in JSON: messages as chat templates take them, and the turns of data sets.

use std::collections::BTreeMap;

use percept_modalities::text::ChatTemplate;
use percept_modalities::{Content, Message, Part, Source};
use serde_json::Map;

use super::rows;

/// Looks at everything that a message has.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}{{ m | tojson }}{% if m.content is string %}{{ m.content }}\
    {% else %}{% for part in m.content or [] %}{{ part.type }}{{ part.text }}{% endfor %}{% endif %}{% endfor %}";

/// The bytes are a list of messages, or a table of rows with turns.
pub fn run(data: &[u8]) {
    for sample in rows::read("rows.json", data) {
        kept(&sample.messages);
    }
    let Ok(messages) = serde_json::from_slice::<Vec<Message>>(data) else { return };
    kept(&messages);
    for message in &messages {
        let Content::Parts(parts) = &message.content else { continue };
        for part in parts {
            if let Part::Image { path: Some(path) }
            | Part::Video { path: Some(path) }
            | Part::Audio { path: Some(path) } = part
            {
                let _ = Source::of(path);
            }
        }
    }
    let template = ChatTemplate::new(TEMPLATE, BTreeMap::new()).expect("the template is sound");
    let _ = template.render(&messages, true, &Map::new());
}

/// Messages that are written and read again are the same.
fn kept(messages: &[Message]) {
    let written = serde_json::to_value(messages).expect("messages are JSON");
    let read: Vec<Message> = serde_json::from_value(written).expect("what was written is read");
    assert_eq!(read, messages);
}
