//! What a corpus is made of.

use std::borrow::Cow;
use std::sync::Arc;

use percept_modalities::{Content, Media, Message, Processor, audio, image, video};
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

impl Sample {
    /// Its turns. A text beside media and without turns is their caption: what an assistant answers when it
    /// is given them.
    pub fn turns(&self) -> Cow<'_, [Message]> {
        let (Some(text), true, false) = (&self.text, self.messages.is_empty(), self.media.is_empty()) else {
            return Cow::Borrowed(&self.messages);
        };
        let shown = self.media.iter().map(|medium| medium.kind.into());
        Cow::Owned(vec![
            Message::new("user", Content::Nothing.after(shown)),
            Message::new("assistant", Content::Text(text.clone())),
        ])
    }

    /// The turns up to the last answer, and that answer; `None` when there is none, or when it says nothing, as one that
    /// calls a tool.
    pub fn question(&self) -> Option<(Vec<Message>, String)> {
        let turns = self.turns();
        let last = turns.iter().rposition(|turn| turn.role == "assistant")?;
        let answer: String = turns[last].content.texts().collect();
        (!answer.trim().is_empty()).then(|| (turns[..last].to_vec(), answer))
    }

    /// What the chat template reads beside the turns: the metadata `tools`, a list of objects, and what the object
    /// `chat_template_kwargs` holds. Both may be the text of their JSON, as tables have it. Other tools, such as names of
    /// things in an image, are metadata and nothing else.
    ///
    /// # Errors
    /// When one of them is a text that should be JSON and is not, or names what the conversation itself gives.
    pub fn variables(&self) -> percept_modalities::Result<Map<String, Value>> {
        let mut variables = Map::new();
        if self.messages.is_empty() {
            return Ok(variables);
        }
        let refused = |name: &str, why: String| {
            percept_modalities::Error::Prompt(format!("'{}': its {name} {why}", self.key))
        };
        let read = |name: &str, open: char| match self.meta.get(name) {
            Some(Value::String(text)) if text.trim_start().starts_with(open) => {
                serde_json::from_str(text).map_err(|e| refused(name, format!("are no JSON: {e}")))
            }
            other => Ok(other.cloned().unwrap_or_default()),
        };
        match read("chat_template_kwargs", '{')? {
            Value::Null => {}
            Value::Object(given) => variables.extend(given),
            other => return Err(refused("chat_template_kwargs", format!("are {other}, and no object"))),
        }
        if let Some(name) =
            ["messages", "add_generation_prompt"].iter().find(|name| variables.contains_key(**name))
        {
            return Err(refused(
                "chat_template_kwargs",
                format!("name '{name}', which the conversation itself gives"),
            ));
        }
        if let Value::Array(tools) = read("tools", '[')?
            && !tools.is_empty()
            && tools.iter().all(Value::is_object)
        {
            variables.insert("tools".into(), Value::Array(tools));
        }
        Ok(variables)
    }

    /// Its media, decoded as a model's processor wants them, with the [variables](Self::variables) of its template.
    ///
    /// # Errors
    /// When one cannot be decoded, or the model takes none of its kind; and as for the variables.
    pub fn decode(&self, processor: &dyn Processor) -> percept_modalities::Result<Media> {
        let mut media = Media { variables: self.variables()?, ..Media::default() };
        let takes_none = |kind: &str| {
            percept_modalities::Error::Prompt(format!("'{}': this model takes no {kind}", self.key))
        };
        for medium in &self.media {
            match medium.kind {
                Kind::Image => media.images.push(image::decode(&medium.bytes, &image::Limits::default())?),
                Kind::Video => {
                    let sampling = processor.video_sampling().ok_or_else(|| takes_none("video"))?;
                    let (limits, bytes) = (video::Limits::default(), medium.bytes.clone());
                    media.videos.push(video::sample_bytes(&self.key, bytes, &sampling, &limits)?);
                }
                Kind::Audio => {
                    let rate = processor.audio_rate().ok_or_else(|| takes_none("audio"))?;
                    let limits = audio::Limits::default();
                    media.audios.push(audio::decode_bytes(&self.key, &medium.bytes, rate, &limits)?);
                }
            }
        }
        Ok(media)
    }
}

/// One encoded image, video or audio clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob {
    /// Whether it is an image, a video or audio.
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
