//! `/admin/models`: models are loaded and unloaded while the server runs.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::status::described;
use crate::app::Shared;
use crate::core::parsed;
use crate::failure::{Failure, json_response};
use crate::fields::Fields;
use crate::models::Kind;
use crate::observe::Record;
use crate::options::{Wanted, WantedKind};

/// Loads a model, and answers when it is loaded. A client that leaves meanwhile changes nothing.
pub(crate) async fn load(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let wanted = parsed(&app, &headers, body, wanted).await?;
    record.model(&wanted.name);
    let name = wanted.name.clone();
    let opened = app.clone();
    let source = tokio::task::spawn_blocking(move || match &opened.admin {
        Some(admin) => (admin.open)(&wanted),
        None => Err(Failure::not_found("no models are loaded while the server runs")),
    });
    let source = source.await.map_err(|_| Failure::server("opening the model failed"))??;
    let load = app.registry.load(source)?;
    let loaded = load.await.map_err(|_| Failure::unavailable("the server is stopping", 5))?;
    loaded.map_err(|error| Failure::field("path", error.to_string()).with_code("cannot_load"))?;
    let (entry, _) = app.registry.find(&name)?;
    Ok(json_response(StatusCode::CREATED, &described(&entry)))
}

/// What is to be loaded.
fn wanted(app: &Shared, mut fields: Fields) -> Result<Wanted, Failure> {
    let name = fields.needed_text("name")?;
    if !(1..=200).contains(&name.len()) || name.chars().any(char::is_control) {
        let why = "`name` must have 1 to 200 bytes and no control characters";
        return Err(Failure::field("name", why));
    }
    let path = fields.needed_text("path")?;
    let what = "\"model\", \"adapter\" or \"embedding\"";
    let kind = fields.read("kind", what, |value| match value.as_str()? {
        kind @ ("model" | "adapter" | "embedding") => Some(kind.to_owned()),
        _ => None,
    })?;
    let kind = kind.ok_or_else(|| fields.missing("kind"))?;
    let base = fields.text("base")?;
    fields.finish()?;
    let kind = match (kind.as_str(), base) {
        ("adapter", base) => WantedKind::Adapter(under(app, base)?),
        (_, Some(_)) => return Err(Failure::field("base", "only an adapter has a `base`; leave it out")),
        ("embedding", None) => WantedKind::Embedding,
        (_, None) => WantedKind::Model,
    };
    Ok(Wanted { name, path, kind })
}

/// The model that an adapter is to stand on: the one that is named, or the only one.
fn under(app: &Shared, base: Option<String>) -> Result<String, Failure> {
    let entries = app.registry.entries();
    let generates = entries
        .iter()
        .filter(|entry| entry.parent.is_none() && matches!(entry.kind(), Some(Kind::Language(_))));
    let names: Vec<&str> = generates.map(|entry| entry.name.as_str()).collect();
    let known =
        if names.is_empty() { "there is none".into() } else { format!("there are: {}", names.join(", ")) };
    match (base, names.as_slice()) {
        (Some(base), names) if names.contains(&base.as_str()) => Ok(base),
        (Some(base), _) => {
            let base: String = base.chars().take(80).collect();
            let why = format!("'{base}' is no loaded model that an adapter can stand on; {known}");
            Err(Failure::field("base", why).with_code("unknown_base"))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            let why = format!("`base` must name the model that the adapter stands on; {known}");
            Err(Failure::field("base", why).with_code("unknown_base"))
        }
    }
}

/// Unloads a model: who asks for it from now on is told that there is none, and what it answers is answered. Its name may have
/// slashes in it.
pub(crate) async fn unload(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let Ok(Path(name)) = name else {
        return Err(Failure::not_found("the name of the model is no text").with_code("model_not_found"));
    };
    record.model(&name);
    app.registry.unload(&name)?;
    Ok(json_response(StatusCode::OK, &json!({ "id": name, "object": "model", "deleted": true })))
}
