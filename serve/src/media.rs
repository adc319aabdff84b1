//! The media of messages, decoded within the limits.

use std::collections::HashMap;

use percept_infer::Error as InferError;
use percept_modalities::{Content, Inputs, Media, Message, Part, Source, audio, image, video};
use percept_model::CausalModel;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::fields::nothing_but;
use crate::models::{Language, Reads};
use crate::options::Limits;

/// The messages of a request; errors name the one that is wrong.
pub(crate) fn messages(value: Value) -> Result<Vec<Message>, Failure> {
    let Value::Array(list) = value else {
        return Err(Failure::field("messages", "`messages` must be a list of messages"));
    };
    if list.is_empty() {
        return Err(Failure::field("messages", "`messages` is empty; give at least one"));
    }
    let read = |(i, value): (usize, Value)| {
        let place = format!("messages[{i}]");
        check(&value, &place)?;
        let mut message: Message = serde_json::from_value(value)
            .map_err(|error| Failure::field(&place, format!("{place}: {error}")))?;
        plain(&mut message);
        open_arguments(&mut message);
        Ok(message)
    };
    list.into_iter().enumerate().map(read).collect()
}

/// Arguments of calls as the objects that templates read: OpenAI's clients send them as text.
fn open_arguments(message: &mut Message) {
    let calls = message.fields.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let Some(arguments) = call.get_mut("function").and_then(|function| function.get_mut("arguments"))
        else {
            continue;
        };
        let object = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(object) = object.filter(Value::is_object) {
            *arguments = object;
        }
    }
}

/// Refuses what a message says in its parts and its calls and nobody would read.
fn check(message: &Value, place: &str) -> Result<(), Failure> {
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for (i, call) in calls.into_iter().flatten().enumerate() {
        let place = format!("{place}.tool_calls[{i}]");
        // What is no object, here and below, templates refuse.
        let Some(call) = call.as_object() else { continue };
        // Clients send what streams gave them, with the number of each call.
        nothing_but(&["id", "type", "index", "function"], call, &place)?;
        if let Some(function) = call.get("function").and_then(Value::as_object) {
            nothing_but(&["name", "arguments", "index"], function, &format!("{place}.function"))?;
        }
    }
    let parts = message.get("content").and_then(Value::as_array);
    for (i, part) in parts.into_iter().flatten().enumerate() {
        let place = format!("{place}.content[{i}]");
        // What is no part at all is told where it is read.
        let Some(fields) = part.as_object() else { continue };
        let Some(kind) = fields.get("type").and_then(Value::as_str) else { continue };
        let inner: &[&str] = match kind {
            "text" => &[],
            "image_url" => &["url", "detail"],
            "video_url" | "audio_url" => &["url"],
            "input_audio" => &["data", "format"],
            _ => {
                let kind: String = kind.chars().take(40).collect();
                let why = format!(
                    "{place}: parts of type `{kind}` are not supported; there are text, image_url, video_url, audio_url \
                     and input_audio"
                );
                return Err(Failure::unsupported(&place, why));
            }
        };
        nothing_but(&["type", kind], fields, &place)?;
        if let Some(medium) = fields.get(kind).and_then(Value::as_object) {
            nothing_but(inner, medium, &format!("{place}.{kind}"))?;
        }
    }
    Ok(())
}

/// Texts whose fields stand in another order, or have a null among them, are texts.
fn plain(message: &mut Message) {
    let Content::Parts(parts) = &mut message.content else { return };
    for part in parts {
        if let Some(text) = part.text().map(str::to_owned) {
            *part = Part::Text { text };
        }
    }
}

/// Media that were fetched, or why they were not, by their addresses.
pub(crate) type Fetched = HashMap<String, Result<Vec<u8>, String>>;

/// The http(s) addresses of media in messages, as many as a request may hold.
pub(crate) fn addresses(messages: &[Message], limits: &Limits) -> Vec<String> {
    let parts = messages.iter().flat_map(|message| match &message.content {
        Content::Parts(parts) => parts.as_slice(),
        _ => &[],
    });
    let paths = parts.filter_map(|part| match part {
        Part::Image { path } | Part::Video { path } | Part::Audio { path } => path.clone(),
        Part::Text { .. } | Part::Other(_) => None,
    });
    let is_http = |path: &String| {
        let scheme = path.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        matches!(scheme.as_deref(), Some("http" | "https"))
    };
    paths.filter(is_http).take(limits.media).collect()
}

/// What a model reads for a conversation. Takes long: it decodes media, and cuts text into tokens.
///
/// # Errors
/// When a medium cannot be read, the chat template refuses the messages, or a field of a message changes nothing.
pub(crate) fn inputs(
    language: &Language,
    mut messages: Vec<Message>,
    variables: Map<String, Value>,
    fetched: &Fetched,
    limits: &Limits,
) -> Result<Inputs, Failure> {
    let (model, reads) = (language.model(), language.reads);
    let media = Media { variables, ..gather(model, reads, &mut messages, fetched, limits)? };
    let inputs = model.processor().chat(&messages, &media);
    let inputs = inputs.map_err(|error| Failure::of_infer(&InferError::from(error)).at("messages"))?;
    let prompt_without = |doubtful: &str| {
        let mut messages = messages.clone();
        messages.iter_mut().for_each(|message| drop(message.fields.shift_remove(doubtful)));
        model.processor().chat(&messages, &media).ok().map(|inputs| inputs.prompt)
    };
    for (place, name) in doubtful(language, &messages)? {
        // A template that prints a message whole reads fields that it does not name.
        if prompt_without(name).as_ref() == Some(&inputs.prompt) {
            return Err(unread(&place, name));
        }
    }
    Ok(inputs)
}

/// Fields of messages by which their protocol says which call a result is of, and what a model thought before, which
/// templates leave out of earlier turns.
const OF_PROTOCOLS: [&str; 4] = ["tool_call_id", "reasoning_content", "reasoning", "thinking"];

/// Fields of messages that are doubtful in one request at most.
const DOUBTFUL: usize = 16;

/// Fields of messages that the chat template may not read, each with the first message that has it: those that its code does
/// not name, and the name of a speaker, since tools have names too.
fn doubtful<'m>(language: &Language, messages: &'m [Message]) -> Result<Vec<(String, &'m str)>, Failure> {
    let mut all: Vec<(String, &str)> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        for (name, value) in &message.fields {
            let is_tool = matches!(message.role.as_str(), "tool" | "function");
            let is_known = OF_PROTOCOLS.contains(&name.as_str())
                || (name == "name" && is_tool)
                || (name != "name" && language.reads_named(name));
            // Who says nothing changes nothing.
            let is_empty = match value {
                Value::Null => true,
                Value::Array(list) => list.is_empty(),
                _ => false,
            };
            if is_known || is_empty || all.iter().any(|(_, other)| other == name) {
                continue;
            }
            let place = format!("messages[{i}]");
            if all.len() == DOUBTFUL {
                return Err(unread(&place, name));
            }
            all.push((place, name));
        }
    }
    Ok(all)
}

/// The failure of a field of a message that changes nothing.
fn unread(place: &str, name: &str) -> Failure {
    let name = format!("{place}.{}", name.chars().take(80).collect::<String>());
    let why = format!("`{name}` is not known here: the model's chat template does not read it; leave it out");
    Failure::field(&name, why).with_code("unknown_parameter")
}

/// The media that the messages hold, which are taken out of them: a template has no use for their bytes.
fn gather(
    model: &dyn CausalModel,
    reads: Reads,
    messages: &mut [Message],
    fetched: &Fetched,
    limits: &Limits,
) -> Result<Media, Failure> {
    let mut media = Media::default();
    let mut left = limits.media;
    let mut samples = 0;
    for (i, message) in messages.iter_mut().enumerate() {
        let Content::Parts(parts) = &mut message.content else { continue };
        for (k, part) in parts.iter_mut().enumerate() {
            let (kind, taken, path) = match part {
                Part::Text { .. } | Part::Other(_) => continue,
                Part::Image { path } => ("images", reads.image, path),
                Part::Video { path } => ("video", reads.video, path),
                Part::Audio { path } => ("audio", reads.audio, path),
            };
            let place = format!("messages[{i}].content[{k}]");
            if !taken {
                let why = format!("{place}: this model takes no {kind}; it takes {}", listed(reads));
                return Err(Failure::field(&place, why).with_code("unsupported_modality"));
            }
            left = left.checked_sub(1).ok_or_else(|| {
                let why = format!("{place}: a request may hold {} media at most", limits.media);
                Failure::field(&place, why).with_code("too_large")
            })?;
            let bytes = bytes_of(path.take(), fetched, &place)?;
            let named = |error: percept_modalities::Error| {
                let failure = Failure::of_media(&error);
                Failure { message: format!("{place}: {}", failure.message), ..failure }.at(&place)
            };
            let processor = model.processor();
            match (part, processor.video_sampling(), processor.audio_rate()) {
                (Part::Video { .. }, Some(sampling), _) => {
                    let (pixels, decoded) = (limits.pixels, limits.decoded);
                    let limits = video::Limits { pixels, decoded, ..video::Limits::default() };
                    let clip = video::sample_bytes("the video", bytes.as_slice().into(), &sampling, &limits);
                    media.videos.push(clip.map_err(named)?);
                }
                (Part::Audio { .. }, _, Some(rate)) => {
                    let most = (limits.seconds as usize).saturating_mul(rate as usize);
                    let within = audio::Limits { samples: most.saturating_sub(samples) };
                    let wave = audio::decode_bytes("the audio", &bytes, rate, &within).map_err(named)?;
                    samples += wave.samples.len();
                    media.audios.push(wave);
                }
                _ => {
                    let limits = image::Limits { max_pixels: limits.pixels };
                    media.images.push(image::decode(&bytes, &limits).map_err(named)?);
                }
            }
        }
    }
    Ok(media)
}

/// What a model takes, in words.
fn listed(reads: Reads) -> String {
    let all = [(true, "text"), (reads.image, "images"), (reads.video, "video"), (reads.audio, "audio")];
    let named: Vec<&str> = all.iter().filter(|(takes, _)| *takes).map(|(_, name)| *name).collect();
    match named.as_slice() {
        [one] => format!("{one} alone"),
        all => all.join(", "),
    }
}

/// The bytes of a medium. The files of the server's machine are nobody's to name.
fn bytes_of(path: Option<String>, fetched: &Fetched, place: &str) -> Result<Vec<u8>, Failure> {
    let wrong = |why: String| Failure::field(place, format!("{place}: {why}"));
    let path = path.ok_or_else(|| wrong("it holds no medium; give a data: URL".into()))?;
    let scheme = path.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("data") => {}
        Some("http" | "https") => {
            if let Some(answer) = fetched.get(&path) {
                let why = |why: &String| {
                    wrong(format!("the medium cannot be fetched: {why}")).with_code("unsupported_url")
                };
                return answer.clone().map_err(|error| why(&error));
            }
            let why = "media are not fetched from URLs; send them in the request, as a data: URL";
            return Err(wrong(why.into()).with_code("unsupported_url"));
        }
        _ => {
            let why = "a medium is given as a data: URL (data:image/png;base64,...), and files of the server are not read";
            return Err(wrong(why.into()).with_code("unsupported_url"));
        }
    }
    match Source::of(&path) {
        Ok(Source::Bytes(bytes)) if bytes.is_empty() => Err(wrong("the data: URL is empty".into())),
        Ok(Source::Bytes(bytes)) => Ok(bytes),
        Ok(Source::File(_)) => Err(wrong("write `data:` in lower case".into())),
        Err(error) => Err(wrong(error.to_string())),
    }
}
