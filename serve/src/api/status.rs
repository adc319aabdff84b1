//! What the server is and does: `/health`, `/ready`, `/metrics` and `/v1/models`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::app::{Phase, Shared};
use crate::failure::{Failure, json_response};
use crate::models::{Entry, Kind};

/// The server lives.
pub(crate) async fn health() -> Response {
    json_response(StatusCode::OK, &json!({ "status": "ok" }))
}

/// The server takes requests.
pub(crate) async fn ready(State(app): State<Shared>) -> Response {
    let why = match app.phase() {
        Phase::Serving => app.registry.unready(),
        _ => Some("the server is stopping".into()),
    };
    match why {
        None => json_response(StatusCode::OK, &json!({ "status": "ready" })),
        Some(why) => {
            json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "reason": why }))
        }
    }
}

/// What Prometheus reads.
pub(crate) async fn metrics(State(app): State<Shared>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.document(&app.registry)).into_response()
}

/// The models that there are.
pub(crate) async fn models(State(app): State<Shared>) -> Response {
    let all: Vec<Value> = app.registry.entries().iter().map(|entry| described(entry)).collect();
    json_response(StatusCode::OK, &json!({ "object": "list", "data": all }))
}

/// One model. Its name may have slashes in it.
pub(crate) async fn model(
    State(app): State<Shared>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let Ok(Path(name)) = name else {
        return Err(Failure::not_found("the name of the model is no text").with_code("model_not_found"));
    };
    let (entry, _) = app.registry.find(&name)?;
    Ok(json_response(StatusCode::OK, &described(&entry)))
}

/// What is told of a model.
pub(crate) fn described(entry: &Entry) -> Value {
    let mut model = json!({
        "id": entry.name, "object": "model", "created": entry.created, "owned_by": "percept",
    });
    if let Some(parent) = &entry.parent {
        model["parent"] = json!(parent);
    }
    match entry.kind() {
        None => model["loading"] = json!(true),
        Some(Kind::Language(language)) => {
            let reads = language.reads;
            let all =
                [(true, "text"), (reads.image, "image"), (reads.video, "video"), (reads.audio, "audio")];
            let named: Vec<&str> = all.iter().filter(|(takes, _)| *takes).map(|(_, name)| *name).collect();
            model["task"] = json!("generate");
            model["input_modalities"] = json!(named);
            model["max_model_len"] = json!(language.model().decoder().context);
        }
        Some(Kind::Texts(..) | Kind::Pairs(_)) => model["task"] = json!("embed"),
        Some(Kind::Speech(_)) => model["task"] = json!("transcribe"),
    }
    model
}
