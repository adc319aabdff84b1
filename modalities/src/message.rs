//! A conversation, as chat templates take it.

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::kind::Medium;

/// Fields of a turn that say whether it is learnt.
const MARKS: [&str; 3] = ["weight", "train", "training"];

/// One turn of a conversation. Its fields keep their order, in which a chat template may print them.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or any other that the chat template knows.
    pub role: String,
    /// What was said and shown.
    pub content: Content,
    /// Everything else, which the chat template reads: `tool_calls`, `tool_call_id`, `name`, `reasoning_content` ...
    pub fields: Map<String, Value>,
    /// The places of the role and of the content among all of these.
    pub places: (usize, usize),
}

impl Message {
    /// A turn with nothing but a role and a content.
    pub fn new(role: impl Into<String>, content: Content) -> Message {
        Message { role: role.into(), content, fields: Map::new(), places: (0, 1) }
    }

    /// Whether a model that learns the conversation is to learn this turn: one of the assistant's, and not marked with
    /// `weight: 0`, as files for OpenAI's fine-tuning have it, or with `train: false` or `training: false`.
    ///
    /// # Errors
    /// When a mark is neither yes nor no, such as a weight of a half.
    pub fn is_learnt(&self) -> Result<bool> {
        let mut learnt = self.role == "assistant";
        for (name, value) in MARKS.iter().filter_map(|name| Some((name, self.fields.get(*name)?))) {
            learnt &= match (value, value.as_f64()) {
                (Value::Null | Value::Bool(true), _) | (_, Some(1.0)) => true,
                (Value::Bool(false), _) | (_, Some(0.0)) => false,
                _ => {
                    return Err(Error::Prompt(format!(
                        "a turn of '{}' has {name}: {value}; a turn is learnt (1, true) or not (0, false)",
                        self.role
                    )));
                }
            };
        }
        Ok(learnt)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut fields: Map<String, Value> = Map::deserialize(deserializer)?;
        fields.retain(|name, value| name != "content" || !value.is_null());
        let place = |name: &str| fields.keys().position(|key| key == name);
        let role_at = place("role").ok_or_else(|| D::Error::missing_field("role"))?;
        let content_at = place("content").unwrap_or(role_at + 1);
        let role = match fields.shift_remove("role") {
            Some(Value::String(role)) => role,
            other => {
                let other = other.unwrap_or_default();
                return Err(D::Error::custom(format!("the role of a message is a text, not {other}")));
            }
        };
        let content = match fields.shift_remove("content") {
            Some(content) => serde_json::from_value(content).map_err(D::Error::custom)?,
            None => Content::Nothing,
        };
        Ok(Message { role, content, fields, places: (role_at, content_at) })
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        enum Field<'m> {
            Role,
            Content,
            Other(&'m String, &'m Value),
        }
        let mut fields: Vec<Field> =
            self.fields.iter().map(|(name, value)| Field::Other(name, value)).collect();
        let mut own = [(self.places.0, Field::Role), (self.places.1, Field::Content)];
        own.sort_by_key(|(place, _)| *place);
        for (place, field) in own {
            if !matches!(field, Field::Content) || self.content != Content::Nothing {
                fields.insert(place.min(fields.len()), field);
            }
        }
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for field in fields {
            match field {
                Field::Role => map.serialize_entry("role", &self.role)?,
                Field::Content => map.serialize_entry("content", &self.content)?,
                Field::Other(name, value) => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// What a turn holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// Nothing: the content is null or absent, as beside `tool_calls`.
    #[default]
    Nothing,
    /// Plain text.
    Text(String),
    /// Text and media in order.
    Parts(Vec<Part>),
}

impl Content {
    /// These media, and then this content, as people show something and ask about it. Without media it stays as it is.
    pub fn after(self, media: impl IntoIterator<Item = Medium>) -> Content {
        let mut parts: Vec<Part> = media.into_iter().map(Part::of).collect();
        if parts.is_empty() {
            return self;
        }
        match self {
            Content::Nothing => {}
            Content::Text(text) => parts.push(Part::Text { text }),
            Content::Parts(old) => parts.extend(old),
        }
        Content::Parts(parts)
    }

    /// Its parts; none of plain text.
    pub fn parts(&self) -> &[Part] {
        match self {
            Content::Nothing | Content::Text(_) => &[],
            Content::Parts(parts) => parts,
        }
    }

    /// Its texts, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let plain = if let Content::Text(text) = self { Some(text.as_str()) } else { None };
        plain.into_iter().chain(self.parts().iter().filter_map(Part::text))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Content::Nothing),
            Value::String(text) => Ok(Content::Text(text)),
            parts @ Value::Array(_) => {
                serde_json::from_value(parts).map(Content::Parts).map_err(D::Error::custom)
            }
            other => {
                Err(D::Error::custom(format!("a content is a text, a list of parts or null, not {other}")))
            }
        }
    }
}

/// A piece of a turn. Media are taken from [`Media`](crate::Media) in the order in which they are mentioned; `path`
/// names the file, or holds the medium as a `data:` URL, when the conversation itself does.
///
/// OpenAI's parts `image_url`, `video_url`, `audio_url` and `input_audio` are read as the media that they hold.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Part {
    Text {
        text: String,
    },
    Image {
        path: Option<String>,
    },
    Video {
        path: Option<String>,
    },
    Audio {
        path: Option<String>,
    },
    /// A part of another type, for the chat template alone; or a text that says more than its type and its text, or in
    /// another order, as the template may print all of it.
    Other(Map<String, Value>),
}

/// What a part may say beside its medium in other software, and what would change the prompt if it were read.
const SETTINGS: [&str; 9] = [
    "min_pixels",
    "max_pixels",
    "resized_height",
    "resized_width",
    "fps",
    "nframes",
    "num_frames",
    "video_start",
    "video_end",
];

impl Part {
    /// A medium that is taken from [`Media`](crate::Media).
    pub fn of(medium: Medium) -> Part {
        match medium {
            Medium::Image => Part::Image { path: None },
            Medium::Video => Part::Video { path: None },
            Medium::Audio => Part::Audio { path: None },
        }
    }

    /// The text, of a part of type text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Part::Text { text } => Some(text),
            Part::Other(fields) if fields.get("type").is_some_and(|kind| kind == "text") => {
                fields.get("text")?.as_str()
            }
            _ => None,
        }
    }

    /// The medium that it shows.
    pub fn medium(&self) -> Option<Medium> {
        match self {
            Part::Image { .. } => Some(Medium::Image),
            Part::Video { .. } => Some(Medium::Video),
            Part::Audio { .. } => Some(Medium::Audio),
            Part::Text { .. } | Part::Other(_) => None,
        }
    }

    /// A part from its JSON.
    fn from_fields(fields: Map<String, Value>) -> std::result::Result<Part, String> {
        let Some(kind) = fields.get("type").and_then(Value::as_str).map(str::to_owned) else {
            return Err("a part has no `type`; text, image, video and audio are known".into());
        };
        let medium = match kind.as_str() {
            "image" | "image_url" => "image",
            "video" | "video_url" => "video",
            "audio" | "audio_url" | "input_audio" => "audio",
            "text" => {
                return match fields.get("text") {
                    Some(Value::String(text)) if fields.keys().eq(["type", "text"]) => {
                        Ok(Part::Text { text: text.clone() })
                    }
                    Some(Value::String(_)) => Ok(Part::Other(fields)),
                    _ => Err("a part of type text has no text".into()),
                };
            }
            _ => return Ok(Part::Other(fields)),
        };
        if let Some(setting) =
            SETTINGS.iter().find(|setting| fields.get(**setting).is_some_and(|v| !v.is_null()))
        {
            return Err(format!("`{setting}` of a part of type {kind} is not supported; leave it out"));
        }
        let path = match kind.as_str() {
            "input_audio" => Some(input_audio(fields.get("input_audio"))?),
            "image_url" | "video_url" | "audio_url" => Some(url(&kind, fields.get(&kind))?),
            _ => ["path", medium, "url", "base64"]
                .iter()
                .find_map(|key| match fields.get(*key) {
                    Some(Value::String(data)) if *key == "base64" => Some(Ok(format!("data:;base64,{data}"))),
                    Some(Value::String(path)) => Some(Ok(path.clone())),
                    None | Some(Value::Null) => None,
                    Some(_) => Some(Err(format!("`{key}` of a part of type {kind} must be a text"))),
                })
                .transpose()?,
        };
        Ok(match medium {
            "image" => Part::Image { path },
            "video" => Part::Video { path },
            _ => Part::Audio { path },
        })
    }
}

/// The place of OpenAI's `{"url": ...}`, or of the text that some write instead.
fn url(kind: &str, value: Option<&Value>) -> std::result::Result<String, String> {
    let url = match value {
        Some(Value::Object(fields)) => {
            only(fields, kind, &["url", "detail"])?;
            if let Some(detail) =
                fields.get("detail").filter(|detail| **detail != "auto" && !detail.is_null())
            {
                return Err(format!("the detail {detail} of an {kind} is not supported; leave it out"));
            }
            fields.get("url").and_then(Value::as_str)
        }
        Some(Value::String(url)) => Some(url.as_str()),
        _ => None,
    };
    url.map(str::to_owned)
        .ok_or_else(|| format!("a part of type {kind} needs {{\"{kind}\": {{\"url\": ...}}}}"))
}

/// OpenAI's `{"data": base64, "format": ...}`.
fn input_audio(value: Option<&Value>) -> std::result::Result<String, String> {
    let needed = "a part of type input_audio needs {\"input_audio\": {\"data\": base64, \"format\": ...}}";
    let fields = value.and_then(Value::as_object).ok_or(needed)?;
    only(fields, "input_audio", &["data", "format"])?;
    let data = fields.get("data").and_then(Value::as_str).ok_or(needed)?;
    // Decoding goes by the bytes, whatever the format is called.
    let format = match fields.get("format") {
        None | Some(Value::Null) => "wav",
        Some(Value::String(format)) => format,
        Some(other) => {
            return Err(format!("the format of input_audio is a text such as \"wav\", not {other}"));
        }
    };
    Ok(format!("data:audio/{format};base64,{data}"))
}

/// Refuses fields of an object that nothing here reads.
fn only(fields: &Map<String, Value>, object: &str, known: &[&str]) -> std::result::Result<(), String> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            Err(format!("the field '{key}' of {object} is not supported; known: {}", known.join(", ")))
        }
        None => Ok(()),
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Part::from_fields(Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let medium = |kind: &str, path: &Option<String>| match path {
            Some(path) => json!({ "type": kind, "path": path }),
            None => json!({ "type": kind }),
        };
        match self {
            Part::Text { text } => json!({ "type": "text", "text": text }),
            Part::Image { path } => medium("image", path),
            Part::Video { path } => medium("video", path),
            Part::Audio { path } => medium("audio", path),
            Part::Other(fields) => Value::Object(fields.clone()),
        }
        .serialize(serializer)
    }
}

/// Where a medium of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The path of a file.
    File(String),
    /// The bytes in the message itself.
    Bytes(Vec<u8>),
}

impl Source {
    /// What a part's `path` says: a path, a `file:` URL, or a `data:` URL.
    ///
    /// # Errors
    /// When it is a URL of another kind, which is never fetched, or its data are no base64.
    pub fn of(path: &str) -> Result<Source> {
        if let Some(data) = path.strip_prefix("data:") {
            return data_url(data).map(Source::Bytes);
        }
        if let Some(file) = path.strip_prefix("file://") {
            let file = file.strip_prefix("localhost").unwrap_or(file);
            return Ok(Source::File(percent_decoded(file)));
        }
        match path.split_once("://") {
            Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b)) => {
                let most: String = path.chars().take(80).collect();
                Err(Error::Prompt(format!(
                    "{most}: media are not fetched from {scheme} URLs; download it and give its path, or a data: URL"
                )))
            }
            _ => Ok(Source::File(path.to_owned())),
        }
    }
}

/// The bytes of what follows `data:`.
fn data_url(data: &str) -> Result<Vec<u8>> {
    use base64::Engine;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let wrong = |why: String| Error::Decode { what: "a data: URL".into(), why };
    let (head, body) = data.split_once(',').ok_or_else(|| wrong("it has no comma before its data".into()))?;
    if !head.split(';').skip(1).any(|word| word.trim() == "base64") && head.trim() != "base64" {
        return Err(wrong("only data in base64 are supported (data:image/png;base64,...)".into()));
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    GeneralPurpose::new(&STANDARD, config).decode(body).map_err(|error| wrong(error.to_string()))
}

/// A path without the escapes of a URL.
fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: Value) -> std::result::Result<Message, String> {
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    #[test]
    fn media_stand_before_what_is_said_of_them() {
        let (image, audio) = (Part::Image { path: None }, Part::Audio { path: None });
        let said = Content::Text("which?".into());
        assert_eq!(said.clone().after([]), said);
        let shown = said.after([Medium::Image, Medium::Audio]);
        let text = Part::Text { text: "which?".into() };
        assert_eq!(shown, Content::Parts(vec![image.clone(), audio.clone(), text.clone()]));
        assert_eq!(shown.texts().collect::<Vec<_>>(), ["which?"]);
        assert_eq!(shown.parts()[1].medium(), Some(Medium::Audio));
        assert_eq!(Content::Nothing.after([Medium::Audio]), Content::Parts(vec![audio.clone()]));
        let more = shown.after([Medium::Audio]);
        assert_eq!(more, Content::Parts(vec![audio.clone(), image, audio, text]));
    }

    #[test]
    fn messages_keep_every_field() {
        let call = json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": 1 }], "name": "x" });
        let read = message(call).unwrap();
        assert_eq!((read.content.clone(), read.fields.len()), (Content::Nothing, 2));
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written, json!({ "role": "assistant", "tool_calls": [{ "id": 1 }], "name": "x" }));
        // As they stand: templates may print whole messages.
        for text in [
            r#"{"role":"tool","tool_call_id":"1","name":"f","content":"6"}"#,
            r#"{"content":"6","role":"tool"}"#,
            r#"{"name":"f","content":[],"role":"tool","id":"1"}"#,
            r#"{"name":"f","role":"assistant"}"#,
            r#"{"role":"assistant","content":"a","name":"f"}"#,
        ] {
            let read: Message = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        let said = message(json!({ "role": "ipython", "content": "6", "tool_call_id": "1" })).unwrap();
        assert_eq!(serde_json::to_value(&said).unwrap()["tool_call_id"], "1");
        let other = json!({ "role": "user", "content": [{ "type": "thinking", "thinking": "hm", "n": 1 }] });
        assert_eq!(serde_json::to_value(message(other.clone()).unwrap()).unwrap(), other);
        let cached = json!({ "role": "user", "content": [{ "type": "text", "text": "a", "cache_control": { "type": "ephemeral" } },
            { "text": "b", "type": "text" }, { "type": "text", "text": "c" }] });
        let read = message(cached.clone()).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), cached.to_string());
        let Content::Parts(parts) = read.content else { panic!("no parts") };
        assert_eq!(parts.iter().filter_map(Part::text).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(message(json!({ "role": "user", "content": 5 })).unwrap_err().contains("not 5"));
        assert!(message(json!({ "content": "a" })).unwrap_err().contains("role"));
    }

    #[test]
    fn parts_of_openai_are_the_media_that_they_hold() {
        let parts = json!([
            { "type": "text", "text": "look" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=", "detail": "auto" } },
            { "type": "image_url", "image_url": "a.png" },
            { "type": "input_audio", "input_audio": { "data": "aGk", "format": "mp3" } },
            { "type": "video_url", "video_url": { "url": "file:///a%20b.mp4" } },
            { "type": "audio_url", "audio_url": { "url": "c.wav" } },
            { "type": "image", "url": "d.png" },
            { "type": "image", "base64": "aGk=" },
            { "type": "image" },
        ]);
        let Content::Parts(parts) = message(json!({ "role": "user", "content": parts })).unwrap().content
        else {
            panic!("no parts")
        };
        let paths: Vec<Option<String>> = parts
            .iter()
            .map(|part| match part {
                Part::Image { path } | Part::Video { path } | Part::Audio { path } => path.clone(),
                _ => None,
            })
            .collect();
        let sources: Vec<Option<Source>> =
            paths.iter().map(|path| path.as_ref().map(|path| Source::of(path).unwrap())).collect();
        let bytes = Some(Source::Bytes(b"hi".to_vec()));
        let file = |name: &str| Some(Source::File(name.into()));
        let expected = [
            None,
            bytes.clone(),
            file("a.png"),
            bytes.clone(),
            file("/a b.mp4"),
            file("c.wav"),
            file("d.png"),
            bytes,
            None,
        ];
        assert_eq!(sources, expected);
        assert!(matches!(parts[3], Part::Audio { .. }) && matches!(parts[4], Part::Video { .. }));
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let part = |part: Value| message(json!({ "role": "user", "content": [part] })).unwrap_err();
        assert!(part(json!({ "type": "image", "max_pixels": 5 })).contains("max_pixels"));
        assert!(
            part(json!({ "type": "image_url", "image_url": { "url": "a", "detail": "high" } }))
                .contains("detail")
        );
        assert!(part(json!({ "type": "image_url" })).contains("image_url"));
        assert!(part(json!({ "type": "input_audio", "input_audio": {} })).contains("input_audio"));
        let audio = |format: Value, more: &str| {
            part(
                json!({ "type": "input_audio", "input_audio": { "data": "aGk", "format": format, more: 1 } }),
            )
        };
        assert!(
            audio(json!(3), "data ").contains("'data '") && audio(json!("wav"), "rate").contains("'rate'")
        );
        let typed = part(json!({ "type": "input_audio", "input_audio": { "data": "aGk", "format": 3 } }));
        assert!(typed.contains("not 3"), "{typed}");
        let url = json!({ "url": "data:,", "mime": "image/png" });
        assert!(part(json!({ "type": "image_url", "image_url": url })).contains("'mime'"));
        assert!(part(json!({ "text": "a" })).contains("type"));
        assert!(part(json!({ "type": "text" })).contains("text"));
        for scheme in ["http", "https", "s3"] {
            let error = Source::of(&format!("{scheme}://host/a.png")).unwrap_err().to_string();
            assert!(error.contains(&format!("{scheme} URLs")) && error.contains("host/a.png"), "{error}");
        }
        for data in ["data:image/png,abc", "data:nothing", "data:;base64,@@"] {
            assert!(Source::of(data).is_err(), "{data}");
        }
    }
}
