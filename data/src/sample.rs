//! What a corpus is made of.

use std::sync::Arc;

use percept_modalities::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One sample on its way through the stages: media, a text, a conversation, and what is known about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Names it in its corpus.
    pub key: String,
    /// Media as they are stored.
    pub media: Vec<Blob>,
    /// A caption or document.
    pub text: Option<String>,
    /// Turns that mention the media of each kind in order.
    pub messages: Vec<Message>,
    /// Everything else: scores, sizes, licences.
    pub meta: Map<String, Value>,
}

/// One picture, video or sound, encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob {
    /// Which it is.
    pub kind: Kind,
    /// The usual extension of its format, without a dot: `png`, `mp4`, `wav`.
    pub extension: String,
    /// The file's bytes.
    pub bytes: Arc<[u8]>,
}

/// What a medium is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Kind {
    Image,
    Video,
    Audio,
}

impl Kind {
    /// The kind of a file by its extension, in any case; `None` for what is no medium.
    pub fn of_extension(extension: &str) -> Option<Self> {
        percept_modalities::kind::of_extension(extension).map(Self::from)
    }
}
