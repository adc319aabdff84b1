//! `/v1/audio/transcriptions` and `/v1/audio/translations`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use percept_infer::{Captions, Error as InferError, Segment, Transcribe, TranscribeOptions, Transcript};
use percept_modalities::audio::Reader;
use serde_json::json;
use tokio::sync::mpsc;

use super::event;
use crate::app::Shared;
use crate::body;
use crate::failure::{Failure, json_response};
use crate::models::{Kind, wrong_kind};
use crate::observe::Record;

/// How a transcript is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Verbose,
    Captions(Captions),
}

/// A request that was understood.
struct Ask {
    name: String,
    audio: Vec<u8>,
    options: TranscribeOptions,
    format: Format,
    segments: bool,
    streams: bool,
}

/// Transcribes audio in the language that is spoken.
pub(crate) async fn transcriptions(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    request: Request,
) -> Result<Response, Failure> {
    answer(app, record, request, false).await
}

/// Translates the speech of audio into English.
pub(crate) async fn translations(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    request: Request,
) -> Result<Response, Failure> {
    answer(app, record, request, true).await
}

async fn answer(
    app: Shared,
    record: Arc<Record>,
    request: Request,
    translate: bool,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    // The body is read within the limits first; only then is it taken apart.
    let read = body::read(&app, &head.headers, body).await?;
    let whole = Request::from_parts(head, Body::from(read.bytes));
    let multipart = Multipart::from_request(whole, &()).await;
    let multipart = multipart.map_err(|error| {
        let why = "send the request as multipart/form-data, with the audio as `file`";
        Failure::new(error.status(), "invalid_request_error", format!("{error}: {why}"))
    })?;
    let ask = parse(multipart, translate).await?;
    record.model(&ask.name);
    let (_, kind) = app.registry.find(&ask.name)?;
    let Kind::Speech(worker) = &kind else { return Err(wrong_kind(&ask.name, &kind, "transcribes speech")) };
    let Ask { name: _, audio, options, format, segments, streams } = ask;
    let most = app.limits.seconds;
    if !streams {
        let words = options.words;
        let job = move |model: &mut Box<dyn Transcribe>, is_left: &dyn Fn() -> bool| {
            transcribe(&mut **model, &audio, options, most, is_left, |_| {})
        };
        let transcript = worker.work(job).await?;
        return Ok(written(&transcript, format, words, segments, translate));
    }
    let (sender, mut pieces) = mpsc::unbounded_channel::<String>();
    let worker = worker.clone();
    let mut work = Box::pin(async move {
        let job = move |model: &mut Box<dyn Transcribe>, is_left: &dyn Fn() -> bool| {
            let is_left = || is_left() || sender.is_closed();
            transcribe(&mut **model, &audio, options, most, &is_left, |segment| {
                // Who left need not be told.
                let _ = sender.send(segment.text.clone());
            })
        };
        worker.work(job).await
    });
    // What fails before there is anything to tell is told by the status.
    let (mut first, mut ended) = (None, None);
    tokio::select! {
        biased;
        Some(piece) = pieces.recv() => first = Some(piece),
        done = &mut work => ended = Some(done?),
    }
    let (response, writer) = body::stream("text/event-stream");
    tokio::spawn(async move {
        let mut told = String::new();
        let done = loop {
            let piece = match first.take() {
                Some(piece) => piece,
                None => tokio::select! {
                    biased;
                    Some(piece) = pieces.recv() => piece,
                    () = writer.left() => return,
                    done = async { match ended.take() { Some(done) => Ok(done), None => work.as_mut().await } } => break done,
                },
            };
            let piece = if told.is_empty() { piece } else { format!(" {}", piece.trim_start()) };
            told.push_str(&piece);
            let delta = event(&json!({ "type": "transcript.text.delta", "delta": piece }));
            if !writer.send(delta).await {
                return;
            }
        };
        let last = match done {
            Ok(transcript) => event(&json!({
                "type": "transcript.text.done", "text": transcript.text,
                "usage": { "type": "duration", "seconds": transcript.seconds.ceil() as u64 },
            })),
            Err(failure) => {
                record.failed(&failure);
                event(&failure.openai())
            }
        };
        writer.send(last).await;
    });
    Ok(response)
}

/// Transcribes the bytes of an audio file, window by window, until nobody waits for it any more.
fn transcribe(
    model: &mut dyn Transcribe,
    audio: &[u8],
    options: TranscribeOptions,
    most: u32,
    is_left: &dyn Fn() -> bool,
    mut found: impl FnMut(&Segment),
) -> Result<Transcript, InferError> {
    model.set_options(options)?;
    let reader = Reader::from_bytes("the audio", audio, model.rate())?;
    let (seconds, most) = (most, (most as usize).saturating_mul(model.rate() as usize));
    let mut samples = 0;
    let mut pieces = reader.map(|piece| {
        if is_left() {
            return Err(percept_modalities::Error::Prompt("the client left".into()));
        }
        let piece = piece?;
        samples += piece.len();
        if samples > most {
            return Err(percept_modalities::Error::TooLarge {
                what: "the audio".into(),
                why: format!("the server takes {seconds} s at most; send it in parts"),
            });
        }
        Ok(piece)
    });
    model.transcribe_pieces(&mut pieces, &mut found, &mut |_| {})
}

/// The response of a transcript.
fn written(
    transcript: &Transcript,
    format: Format,
    words: bool,
    segments: bool,
    translate: bool,
) -> Response {
    let usage = json!({ "type": "duration", "seconds": transcript.seconds.ceil() as u64 });
    let document = match format {
        Format::Captions(captions) => {
            let text = match captions {
                Captions::Text => format!("{}\n", transcript.text),
                _ => {
                    let all = transcript.segments.iter().enumerate();
                    let all = all.map(|(i, segment)| captions.segment(i, segment));
                    std::iter::once(captions.head().to_owned()).chain(all).collect()
                }
            };
            let kind = if captions == Captions::Vtt {
                "text/vtt; charset=utf-8"
            } else {
                "text/plain; charset=utf-8"
            };
            return ([(header::CONTENT_TYPE, kind)], text).into_response();
        }
        Format::Json => json!({ "text": transcript.text, "usage": usage }),
        Format::Verbose => {
            let mut document = json!({
                "task": if translate { "translate" } else { "transcribe" }, "language": transcript.language,
                "duration": transcript.seconds, "text": transcript.text, "usage": usage,
            });
            if segments {
                let one = |(i, s): (usize, &Segment)| json!({ "id": i, "start": s.start, "end": s.end, "text": s.text });
                document["segments"] = transcript.segments.iter().enumerate().map(one).collect();
            }
            if words {
                let all = transcript.segments.iter().flat_map(|segment| &segment.words);
                document["words"] = all
                    .map(|word| json!({ "word": word.text, "start": word.start, "end": word.end }))
                    .collect();
            }
            document
        }
    };
    json_response(StatusCode::OK, &document)
}

/// Bytes of a field that is no file, at most.
const FIELD: usize = 4096;

async fn parse(mut multipart: Multipart, translate: bool) -> Result<Ask, Failure> {
    let broken = |error: MultipartError| Failure::bad(format!("the form cannot be read: {error}"));
    let (mut name, mut audio, mut format, mut streams) = (None, None, None, false);
    let mut options = TranscribeOptions { translate, ..TranscribeOptions::default() };
    let mut granularities: Vec<String> = Vec::new();
    while let Some(field) = multipart.next_field().await.map_err(broken)? {
        let key = field.name().unwrap_or_default().to_owned();
        if key == "file" {
            audio = Some(field.bytes().await.map_err(broken)?.to_vec());
            continue;
        }
        let value = field.text().await.map_err(broken)?;
        if value.len() > FIELD {
            return Err(Failure::field(&key, format!("`{key}` has more than {FIELD} bytes")));
        }
        match key.as_str() {
            "model" => name = Some(value),
            "language" if !translate => options.language = Some(value).filter(|code| !code.is_empty()),
            "response_format" => format = Some(format_of(&value)?),
            "temperature" => {
                let t = value.parse::<f32>().ok().filter(|t| (0.0..=1.0).contains(t));
                let t = t.ok_or_else(|| {
                    Failure::field("temperature", "`temperature` must be a number from 0 to 1")
                })?;
                // 0 leaves it to the model, which raises it where a transcript repeats itself.
                if t > 0.0 {
                    options.temperatures = vec![t];
                }
            }
            "timestamp_granularities[]" | "timestamp_granularities" if !translate => {
                granularities.push(value)
            }
            "stream" => {
                let given = value.parse::<bool>();
                streams = given.map_err(|_| Failure::field("stream", "`stream` must be true or false"))?;
            }
            "prompt" => {
                return Err(Failure::unsupported("prompt", "`prompt` is not supported: leave it out"));
            }
            "include[]" | "include" | "chunking_strategy" => {
                return Err(Failure::unsupported(&key, format!("`{key}` is not supported: leave it out")));
            }
            _ => {
                let key: String = key.chars().take(80).collect();
                let failure = Failure::field(&key, format!("`{key}` is not known here; leave it out"));
                return Err(failure.with_code("unknown_parameter"));
            }
        }
    }
    let format = format.unwrap_or(Format::Json);
    if let Some(wrong) = granularities.iter().find(|g| !matches!(g.as_str(), "word" | "segment")) {
        let wrong: String = wrong.chars().take(40).collect();
        let why = format!("`timestamp_granularities`: \"{wrong}\" is neither \"word\" nor \"segment\"");
        return Err(Failure::field("timestamp_granularities", why));
    }
    if !granularities.is_empty() && format != Format::Verbose {
        let why = "`timestamp_granularities` needs `response_format`: verbose_json";
        return Err(Failure::field("timestamp_granularities", why));
    }
    if streams && !matches!(format, Format::Json | Format::Captions(Captions::Text)) {
        return Err(Failure::unsupported(
            "stream",
            "a stream gives text; leave `stream` or `response_format` out",
        ));
    }
    options.words = granularities.iter().any(|g| g == "word");
    let missing =
        |field: &str| Failure::field(field, format!("`{field}` is missing")).with_code("missing_parameter");
    Ok(Ask {
        name: name.ok_or_else(|| missing("model"))?,
        audio: audio.ok_or_else(|| missing("file"))?,
        segments: granularities.is_empty() || granularities.iter().any(|g| g == "segment"),
        options,
        format,
        streams,
    })
}

fn format_of(value: &str) -> Result<Format, Failure> {
    match value {
        "json" => Ok(Format::Json),
        "verbose_json" => Ok(Format::Verbose),
        "text" => Ok(Format::Captions(Captions::Text)),
        "srt" => Ok(Format::Captions(Captions::Srt)),
        "vtt" => Ok(Format::Captions(Captions::Vtt)),
        _ => {
            let why = "`response_format` must be json, text, srt, verbose_json or vtt";
            Err(Failure::field("response_format", why))
        }
    }
}
