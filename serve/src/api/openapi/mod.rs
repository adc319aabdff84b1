//! `/openapi.json`: what the server takes and gives, in OpenAPI 3.1, with the names of its models.

mod bodies;
mod parts;
mod schema;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::app::Shared;
use crate::failure::json_response;
use crate::models::Kind;
use crate::options::Limits;
use schema::{count, list, shared, text};

/// The document of this server.
pub(crate) async fn openapi(State(app): State<Shared>) -> Response {
    let mut names = Names::default();
    for entry in app.registry.entries() {
        match entry.kind() {
            Some(Kind::Language(_)) => names.language.push(entry.name.clone()),
            Some(Kind::Texts(..) | Kind::Pairs(_)) => names.embedding.push(entry.name.clone()),
            Some(Kind::Speech(_)) => names.speech.push(entry.name.clone()),
            None => {}
        }
    }
    let endpoints: Vec<&Endpoint> =
        ENDPOINTS.iter().chain(ADMIN.iter().filter(|_| app.admin.is_some())).collect();
    json_response(StatusCode::OK, &document(&endpoints, &names, &app.limits, app.keys.are_asked_for()))
}

/// The names of the models, by what they do.
#[derive(Default)]
struct Names {
    language: Vec<String>,
    embedding: Vec<String>,
    speech: Vec<String>,
}

/// An endpoint: its path and method, what it does, its body and its answer by their schemas' names, and the type in which
/// its answer is streamed.
struct Endpoint(
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
    Option<&'static str>,
);

const EVENTS: Option<&str> = Some("text/event-stream");
const LINES: Option<&str> = Some("application/x-ndjson");

#[rustfmt::skip]
const ENDPOINTS: [Endpoint; 20] = [
    Endpoint("get", "/health", "Whether the server lives", None, "State", None),
    Endpoint("get", "/ready", "Whether the server takes requests", None, "State", None),
    Endpoint("get", "/metrics", "Counts and times for Prometheus", None, "Text", None),
    Endpoint("get", "/openapi.json", "This document", None, "Any", None),
    Endpoint("get", "/v1/models", "The models", None, "ModelList", None),
    Endpoint("get", "/v1/models/{name}", "A model", None, "Model", None),
    Endpoint("post", "/v1/chat/completions", "Answer a conversation", Some("ChatRequest"), "ChatCompletion", EVENTS),
    Endpoint("post", "/v1/completions", "Continue texts", Some("CompletionRequest"), "Completion", EVENTS),
    Endpoint("post", "/v1/responses", "Answer a conversation", Some("ResponseRequest"), "Response", EVENTS),
    Endpoint("post", "/v1/embeddings", "Embed texts", Some("EmbeddingRequest"), "Embeddings", None),
    Endpoint("post", "/v1/audio/transcriptions", "Transcribe speech", Some("TranscriptionRequest"), "Transcription", EVENTS),
    Endpoint("post", "/v1/audio/translations", "Transcribe speech into English", Some("TranslationRequest"), "Transcription", EVENTS),
    Endpoint("post", "/v1/messages", "Answer a conversation, as Anthropic does", Some("MessagesRequest"), "MessagesAnswer", EVENTS),
    Endpoint("post", "/v1/messages/count_tokens", "Count the tokens of a conversation", Some("CountTokensRequest"), "CountTokensAnswer", None),
    Endpoint("post", "/api/chat", "Answer a conversation, as Ollama does", Some("OllamaChatRequest"), "OllamaAnswer", LINES),
    Endpoint("post", "/api/generate", "Answer a prompt, as Ollama does", Some("OllamaGenerateRequest"), "OllamaAnswer", LINES),
    Endpoint("get", "/api/tags", "The models, as Ollama lists them", None, "OllamaModels", None),
    Endpoint("get", "/api/version", "The version of the server", None, "OllamaVersion", None),
    Endpoint("post", "/tokenize", "The tokens of a text or a conversation", Some("TokenizeRequest"), "Tokens", None),
    Endpoint("post", "/detokenize", "The text of tokens", Some("DetokenizeRequest"), "Detokenized", None),
];

/// Those for who loads and unloads models, where anyone may.
#[rustfmt::skip]
const ADMIN: [Endpoint; 2] = [
    Endpoint("post", "/admin/models", "Load a model", Some("LoadRequest"), "Model", None),
    Endpoint("delete", "/admin/models/{name}", "Unload a model", None, "Unloaded", None),
];

fn document(endpoints: &[&Endpoint], names: &Names, limits: &Limits, asks_for_keys: bool) -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints {
        paths.insert(endpoint.1.into(), json!({ endpoint.0: operation(endpoint, asks_for_keys) }));
    }
    let model = |names: &[String]| match names {
        // An enumeration has one value at least.
        [] => text(),
        names => json!({ "enum": names }),
    };
    let models = [
        ("LanguageModel", model(&names.language)),
        ("EmbeddingModel", model(&names.embedding)),
        ("SpeechModel", model(&names.speech)),
    ];
    let all = models.into_iter().chain(parts::all()).chain(bodies::all(limits)).chain(answers());
    let schemas: Map<String, Value> = all.map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Percept", "version": env!("CARGO_PKG_VERSION"),
            "description": "Models over HTTP. A field that is not listed is refused by its name; null stands for one that is left out.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
        },
    })
}

fn operation(endpoint: &Endpoint, asks_for_keys: bool) -> Value {
    let Endpoint(_, path, summary, body, answer, streamed) = endpoint;
    let mut content = Map::new();
    match *answer {
        "Text" => content.insert("text/plain".into(), json!({ "schema": text() })),
        "Any" => content.insert("application/json".into(), json!({ "schema": {} })),
        name => content.insert("application/json".into(), json!({ "schema": shared(name) })),
    };
    if *answer == "Transcription" {
        content.insert("text/plain".into(), json!({ "schema": text() }));
        content.insert("text/vtt".into(), json!({ "schema": text() }));
    }
    // Documents of events have no schema of their own here.
    content.extend(streamed.map(|kind| (kind.to_owned(), json!({ "schema": {} }))));
    let error = match *path {
        path if path.starts_with("/v1/messages") => "MessagesError",
        path if path.starts_with("/api/") => "OllamaError",
        "/ready" => "State",
        _ => "Error",
    };
    let failed = |what: &str| json!({ "description": what, "content": { "application/json": { "schema": shared(error) } } });
    let good = if *body == Some("LoadRequest") { "201" } else { "200" };
    let mut operation = json!({
        "summary": summary, "operationId": format!("{}{}", endpoint.0, path.replace(['/', '.'], "_").replace(['{', '}'], "")),
        "responses": {
            good: { "description": "The answer", "content": content },
            "4XX": failed("The request is wrong, or comes at the wrong time"),
            "503": failed("The server does not answer now"),
            "504": failed("The answer took too long"),
        },
    });
    if let Some(body) = body {
        let kind = if body.starts_with("Trans") { "multipart/form-data" } else { "application/json" };
        operation["requestBody"] =
            json!({ "required": true, "content": { kind: { "schema": shared(body) } } });
    }
    if path.contains("{name}") {
        operation["parameters"] =
            json!([{ "name": "name", "in": "path", "required": true, "schema": text() }]);
    }
    if path.starts_with("/admin/") || (asks_for_keys && !crate::router::is_open(path)) {
        operation["security"] = json!([{ "bearer": [] }, { "key": [] }]);
    }
    operation
}

/// Answers, by the names of their schemas: what clients may rely on.
fn answers() -> Vec<(&'static str, Value)> {
    let has = |properties: Value| {
        let required: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
        json!({ "type": "object", "required": required, "properties": properties })
    };
    let whole = || count(0, u64::MAX);
    let nothing_or = |kind: &str| json!({ "type": [kind, "null"] });
    let usage =
        has(json!({ "prompt_tokens": whole(), "completion_tokens": whole(), "total_tokens": whole() }));
    let choice = |own: Value| {
        let both = json!({ "index": whole(), "logprobs": nothing_or("object"), "finish_reason": text() });
        list(has(schema::together([both, own])))
    };
    let head = |object: &str| json!({ "id": text(), "object": { "const": object }, "created": whole(), "model": text() });
    let error = has(
        json!({ "message": text(), "type": text(), "param": nothing_or("string"), "code": nothing_or("string") }),
    );
    let vector = has(json!({
        "object": { "const": "embedding" }, "index": whole(), "embedding": { "anyOf": [text(), list(json!({ "type": "number" }))] },
    }));
    let output = json!({ "created_at": whole(), "object": { "const": "response" }, "output": list(json!({ "type": "object" })) });
    let message = has(json!({ "role": { "const": "assistant" }, "content": nothing_or("string") }));
    let model =
        json!({ "id": text(), "object": { "const": "model" }, "created": whole(), "owned_by": text() });
    vec![
        ("State", has(json!({ "status": text() }))),
        ("Model", has(model)),
        (
            "Unloaded",
            has(json!({ "id": text(), "object": { "const": "model" }, "deleted": { "const": true } })),
        ),
        ("ModelList", has(json!({ "object": { "const": "list" }, "data": list(shared("Model")) }))),
        (
            "ChatCompletion",
            has(schema::together([
                head("chat.completion"),
                json!({ "choices": choice(json!({ "message": message })), "usage": usage.clone() }),
            ])),
        ),
        (
            "Completion",
            has(schema::together([
                head("text_completion"),
                json!({ "choices": choice(json!({ "text": text() })), "usage": usage }),
            ])),
        ),
        (
            "Response",
            has(schema::together([json!({ "id": text(), "model": text(), "status": text() }), output])),
        ),
        ("Embeddings", has(json!({ "object": { "const": "list" }, "data": list(vector), "model": text() }))),
        ("Transcription", has(json!({ "text": text() }))),
        (
            "MessagesAnswer",
            has(json!({
                "id": text(), "type": { "const": "message" }, "role": { "const": "assistant" }, "model": text(),
                "content": list(json!({ "type": "object" })), "stop_reason": text(), "usage": { "type": "object" },
            })),
        ),
        ("CountTokensAnswer", has(json!({ "input_tokens": whole() }))),
        (
            "OllamaAnswer",
            has(
                json!({ "model": text(), "created_at": text(), "done": { "const": true }, "eval_count": whole() }),
            ),
        ),
        ("OllamaModels", has(json!({ "models": list(has(json!({ "name": text(), "model": text() }))) }))),
        ("OllamaVersion", has(json!({ "version": text() }))),
        ("Tokens", has(json!({ "count": whole(), "max_model_len": whole(), "tokens": list(whole()) }))),
        ("Detokenized", has(json!({ "prompt": text() }))),
        ("Error", has(json!({ "error": error }))),
        (
            "MessagesError",
            has(
                json!({ "type": { "const": "error" }, "error": has(json!({ "type": text(), "message": text() })) }),
            ),
        ),
        ("OllamaError", has(json!({ "error": text() }))),
    ]
}
