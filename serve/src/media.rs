//! The media of messages, decoded within the limits.

use std::collections::HashMap;

use percept_infer::Error as InferError;
use percept_modalities::{Content, Inputs, Media, Message, Part, Source, audio, image, video};
use percept_model::CausalModel;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::fields::nothing_but;
use crate::models::Reads;
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

/// Refuses what a message says in its parts and nobody would read.
fn check(message: &Value, place: &str) -> Result<(), Failure> {
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
pub(crate) fn inputs(
    model: &dyn CausalModel,
    reads: Reads,
    mut messages: Vec<Message>,
    variables: Map<String, Value>,
    fetched: &Fetched,
    limits: &Limits,
) -> Result<Inputs, Failure> {
    let media = Media { variables, ..gather(model, reads, &mut messages, fetched, limits)? };
    let inputs = model.processor().chat(&messages, &media);
    inputs.map_err(|error| Failure::of_infer(&InferError::from(error)).at("messages"))
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
