//! Embeddings, transcripts and tokens are those of the models alone.

use percept::hal::CompileOptions;
use percept::infer::{Embedder, Pooling, TextEmbedder, TranscribeOptions, Transcriber};
use percept::modalities::audio::Reader;
use percept::model::Model;
use percept::serve::{Limits, Loaded, Options, Source};
use serde_json::{Value, json};

use super::client::{Reply, Running, ask, model, session};
use crate::devices;

fn texts() -> TextEmbedder {
    let Model::Causal(model) = model("qwen3") else { panic!("qwen3 is no language model") };
    TextEmbedder::new(model, devices::device("cpu"), CompileOptions::default()).unwrap()
}

fn pairs() -> Embedder {
    let Model::Contrastive(model) = model("clip") else { panic!("clip embeds nothing") };
    Embedder::new(model, devices::device("cpu"), CompileOptions::default())
}

fn speech() -> Transcriber {
    let Model::Speech(model) = model("whisper") else { panic!("whisper transcribes nothing") };
    let options = TranscribeOptions::default();
    Transcriber::new(model, devices::device("cpu"), CompileOptions::default(), options).unwrap()
}

fn source(name: &str, open: impl FnMut() -> Result<Loaded, String> + Send + 'static) -> Source {
    Source { name: name.into(), parent: None, open: Box::new(open), over: None }
}

fn server(limits: Limits) -> Running {
    let sources = vec![
        source("texts", || Ok(Loaded::Texts(Box::new(texts()), Pooling::Mean))),
        source("pairs", || Ok(Loaded::Pairs(Box::new(pairs())))),
        source("speech", || Ok(Loaded::Speech(Box::new(speech())))),
        super::client::language("qwen2"),
    ];
    Running::start(sources, Options { limits, ..Options::default() })
}

fn vector(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|x| (x.as_f64().unwrap() as f32).to_bits()).collect()
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn embeddings_are_those_of_the_model_alone() {
    let server = server(Limits::default());
    let given = ["red square", "12 34"];
    let mut alone = texts();
    let mut alone_pairs = pairs();
    let expected = [
        ("texts", given.map(|text| bits(&alone.text(text, Pooling::Mean).unwrap()))),
        ("pairs", given.map(|text| bits(&alone_pairs.texts(&[text.to_owned()]).unwrap()[0]))),
    ];
    for (name, expected) in expected {
        let whole = server.post("/v1/embeddings", &json!({ "model": name, "input": given })).good();
        assert_eq!((&whole["object"], &whole["model"]), (&json!("list"), &json!(name)));
        assert!(whole["usage"]["prompt_tokens"].as_u64().unwrap() > 2);
        let coded = json!({ "model": name, "input": given, "encoding_format": "base64", "user": "u" });
        let coded = server.post("/v1/embeddings", &coded).good();
        for (i, expected) in expected.iter().enumerate() {
            assert_eq!(vector(&whole["data"][i]["embedding"]), *expected, "{name}");
            assert_eq!(whole["data"][i]["index"], i);
            use base64::Engine as _;
            let text = coded["data"][i]["embedding"].as_str().unwrap();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            let found: Vec<u32> =
                bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            assert_eq!(found, *expected, "{name}");
        }
    }
    let long = "12 34 ".repeat(3000);
    for (document, says) in [
        (json!({ "model": "texts" }), "`input` is missing"),
        (json!({ "model": "texts", "input": [] }), "none of them empty"),
        (json!({ "model": "texts", "input": "" }), "empty"),
        (json!({ "model": "texts", "input": [1, 2] }), "a list of 1 to"),
        (json!({ "model": "texts", "input": "a", "dimensions": 8 }), "`dimensions` is not supported"),
        (json!({ "model": "texts", "input": "a", "encoding_format": "hex" }), "base64"),
        (json!({ "model": "texts", "input": long }), "context"),
        (json!({ "model": "pairs", "input": long }), "context"),
        (
            json!({ "model": "qwen2", "input": "a" }),
            "'qwen2' generates text; this request needs one that embeds texts",
        ),
        (json!({ "model": "none", "input": "a" }), "there are: texts, pairs, speech, qwen2"),
    ] {
        let error = server.post("/v1/embeddings", &document).error();
        assert!(error["message"].as_str().unwrap().contains(says), "{says}: {error}");
    }
    let error = server.post("/v1/chat/completions", &ask("texts", "a", json!({}))).error();
    assert!(error["message"].as_str().unwrap().contains("'texts' embeds texts"), "{error}");
}

/// A form with an audio file.
fn form(fields: &[(&str, &str)], audio: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.into_bytes());
    }
    if !audio.is_empty() {
        let head = "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n";
        body.extend(head.as_bytes());
        body.extend(audio);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
        Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

#[test]
fn transcripts_are_those_of_the_model_alone_in_every_format() {
    let server = server(Limits::default());
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/media/chirp7.wav");
    let audio = std::fs::read(&file).unwrap();
    let mut alone = speech();
    alone.set_options(TranscribeOptions { words: true, ..TranscribeOptions::default() }).unwrap();
    let rate = alone.rate();
    let expected = alone.transcribe(Reader::open(&file, rate).unwrap(), |_| {}, |_| {}).unwrap();
    let send = |fields: &[(&str, &str)]| {
        let fields: Vec<(&str, &str)> = [("model", "speech")].iter().chain(fields).copied().collect();
        Reply::of(&server.raw(&form(&fields, &audio)))
    };
    let plain = send(&[]).good();
    assert_eq!(plain["text"], expected.text.as_str());
    assert_eq!(plain["usage"]["type"], "duration");
    let verbose = send(&[
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("temperature", "0"),
    ]);
    let verbose = verbose.good();
    assert_eq!((&verbose["task"], &verbose["language"]), (&json!("transcribe"), &json!(expected.language)));
    assert_eq!(verbose["duration"], expected.seconds);
    let segments = verbose["segments"].as_array().unwrap();
    assert_eq!(segments.len(), expected.segments.len());
    for (found, expected) in segments.iter().zip(&expected.segments) {
        assert_eq!((&found["start"], &found["end"]), (&json!(expected.start), &json!(expected.end)));
        assert_eq!(found["text"], expected.text.as_str());
    }
    let words: Vec<&str> = expected.segments.iter().flat_map(|s| &s.words).map(|w| w.text.as_str()).collect();
    let found: Vec<&str> =
        verbose["words"].as_array().unwrap().iter().map(|w| w["word"].as_str().unwrap()).collect();
    assert_eq!(found, words);
    assert_eq!(send(&[("response_format", "text")]).text().trim_end(), expected.text);
    assert!(send(&[("response_format", "vtt")]).text().starts_with("WEBVTT\n\n"));
    assert_eq!(send(&[("response_format", "srt")]).status, 200);
    let streamed = send(&[("stream", "true")]);
    let text = streamed.text();
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, deltas) = events.split_last().unwrap();
    assert_eq!((&last["type"], &last["text"]), (&json!("transcript.text.done"), &json!(expected.text)));
    assert!(deltas.iter().all(|event| event["type"] == "transcript.text.delta"));

    for (fields, says) in [
        (vec![("model", "speech"), ("prompt", "a")], "`prompt` is not supported"),
        (vec![("model", "speech"), ("response_format", "xml")], "verbose_json"),
        (vec![("model", "speech"), ("temperature", "5")], "from 0 to 1"),
        (vec![("model", "speech"), ("language", "klingon")], "klingon"),
        (vec![("model", "speech"), ("timestamp_granularities[]", "word")], "needs `response_format`"),
        (vec![("model", "speech"), ("frobnicate", "1")], "`frobnicate` is not known"),
        (vec![("model", "qwen2")], "transcribes speech"),
        (vec![], "`model` is missing"),
    ] {
        let error = Reply::of(&server.raw(&form(&fields, &audio))).error();
        assert!(error["message"].as_str().unwrap().contains(says), "{says}: {error}");
    }
    let error = Reply::of(&server.raw(&form(&[("model", "speech")], b""))).error();
    assert_eq!(error["param"], "file");
    let error = Reply::of(&server.raw(&form(&[("model", "speech")], b"no sound"))).error();
    assert!(error["message"].as_str().unwrap().contains("the audio"), "{error}");
    // So is what a stream fails at before its first event.
    let stream = [("model", "speech"), ("stream", "true")];
    let reply = Reply::of(&server.raw(&form(&stream, b"no sound")));
    assert_eq!((reply.status, &reply.error()["type"]), (400, &json!("invalid_request_error")));
    let klingon = [stream[0], stream[1], ("language", "klingon")];
    assert_eq!(Reply::of(&server.raw(&form(&klingon, &audio))).status, 400);
    let error = server.post("/v1/audio/transcriptions", &json!({})).error();
    assert!(error["message"].as_str().unwrap().contains("multipart/form-data"), "{error}");
}

#[test]
fn audio_that_is_too_long_is_refused() {
    let server = server(Limits { seconds: 1, ..Limits::default() });
    let mut wave = b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    wave.extend(16_000u32.to_le_bytes());
    wave.extend(32_000u32.to_le_bytes());
    wave.extend(b"\x02\0\x10\0data");
    wave.extend(96_000u32.to_le_bytes());
    wave.extend(vec![0; 96_000]);
    let error = Reply::of(&server.raw(&form(&[("model", "speech")], &wave))).error();
    assert!(error["message"].as_str().unwrap().contains("1 s at most"), "{error}");
}

#[test]
fn tokens_are_those_of_the_tokenizer() {
    let server = server(Limits::default());
    let session = session("qwen2");
    let tokenizer = session.model().processor().tokenizer();
    let ids = tokenizer.encode("red square", true).unwrap();
    let document = json!({ "model": "qwen2", "prompt": "red square", "return_token_strs": true });
    let whole = server.post("/tokenize", &document).good();
    assert_eq!((&whole["tokens"], &whole["count"]), (&json!(ids), &json!(ids.len())));
    assert_eq!(whole["max_model_len"], session.model().decoder().context);
    let spelled: String =
        whole["token_strs"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert!(spelled.ends_with("red square"), "{spelled}");
    let back = server.post("/detokenize", &json!({ "model": "qwen2", "tokens": ids })).good();
    assert_eq!(back["prompt"], tokenizer.decode(&ids, false).unwrap());
    let talk = json!([{ "role": "user", "content": "red square" }]);
    let of_talk = server.post("/tokenize", &json!({ "model": "qwen2", "messages": talk })).good();
    let used =
        server.post("/v1/chat/completions", &ask("qwen2", "red square", json!({ "max_tokens": 1 }))).good();
    assert_eq!(of_talk["count"], used["usage"]["prompt_tokens"]);
    for (path, document, says) in [
        ("/tokenize", json!({ "model": "qwen2" }), "`prompt` or `messages`"),
        ("/detokenize", json!({ "model": "qwen2", "tokens": [100_000] }), "token 100000"),
        ("/detokenize", json!({ "model": "qwen2", "tokens": "a" }), "a list of token ids"),
    ] {
        let error = server.post(path, &document).error();
        assert!(error["message"].as_str().unwrap().contains(says), "{says}: {error}");
    }
}
