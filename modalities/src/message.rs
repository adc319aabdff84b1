//! A conversation, as chat templates take it.

use serde::{Deserialize, Serialize};

/// One turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said and shown.
    pub content: Content,
}

/// What a turn holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Text and media in order.
    Parts(Vec<Part>),
}

/// A piece of a turn. Media are taken from [`Media`](crate::Media) in the order in which they are mentioned; `path`
/// names the file when the conversation itself does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Part {
    Text {
        text: String,
    },
    Image {
        #[serde(default, skip_serializing_if = "Option::is_none", alias = "image", alias = "url")]
        path: Option<String>,
    },
    Video {
        #[serde(default, skip_serializing_if = "Option::is_none", alias = "video", alias = "url")]
        path: Option<String>,
    },
    Audio {
        #[serde(default, skip_serializing_if = "Option::is_none", alias = "audio", alias = "url")]
        path: Option<String>,
    },
}
