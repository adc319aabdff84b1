//! What is known of a request besides its content: its ids, its time, its status and what it took.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::answers::Usage;
use crate::api::{messages::anthropic, ollama::ollama};
use crate::app::{Phase, Shared};
use crate::clock::timestamp;
use crate::failure::{Failure, json_response};

/// The header of a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header of OpenTelemetry's trace ids.
const TRACE: HeaderName = HeaderName::from_static("traceparent");

/// A word that no other request has.
pub(crate) fn unique() -> String {
    let random = || RandomState::new().hash_one(0u8);
    format!("{:016x}{:016x}", random(), random())
}

/// What is known of a request. Its line of the log is written when nobody needs it any more: after the last piece of a
/// stream.
pub(crate) struct Record {
    app: Shared,
    /// When the request came.
    pub arrived: Instant,
    id: String,
    trace: Option<String>,
    method: String,
    path: &'static str,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    status: u16,
    model: Option<String>,
    usage: Option<Usage>,
    failure: Option<Failure>,
}

impl Record {
    fn with(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The model that answers.
    pub fn model(&self, name: &str) {
        self.with(|told| told.model = Some(name.to_owned()));
    }

    /// What the answers took.
    pub fn usage(&self, usage: Usage) {
        self.with(|told| told.usage = Some(usage));
    }

    /// Why the request, or its stream, failed.
    pub fn failed(&self, failure: &Failure) {
        self.with(|told| told.failure = Some(failure.clone()));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let told = self.told.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.app.metrics.request(self.path, told.status);
        let Some(log) = &self.app.log else { return };
        let mut line = json!({
            "time": timestamp(), "level": if told.status < 500 { "info" } else { "error" }, "request": self.id,
            "method": self.method, "path": self.path, "status": told.status,
            "seconds": self.arrived.elapsed().as_secs_f64(),
        });
        if let Some(trace) = &self.trace {
            line["traceparent"] = json!(trace);
        }
        if let Some(model) = &told.model {
            line["model"] = json!(model);
        }
        if let Some(usage) = told.usage {
            line["prompt_tokens"] = json!(usage.prompt);
            line["cached_tokens"] = json!(usage.cached);
            line["completion_tokens"] = json!(usage.generated);
        }
        if let Some(failure) = &told.failure {
            line["error"] = json!(failure.code.unwrap_or(failure.kind));
            if failure.status.is_server_error() {
                // What is wrong with the server is no content of the request.
                line["message"] = json!(failure.message);
            }
        }
        log(&line);
    }
}

/// Gives every request its record, and every response the request's ids.
pub(crate) async fn observe(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let id = sane(request.headers(), &REQUEST_ID).unwrap_or_else(unique);
    let trace = sane(request.headers(), &TRACE);
    let path = crate::router::known_path(request.uri().path());
    let record = Arc::new(Record {
        app: app.clone(),
        arrived: Instant::now(),
        id: id.clone(),
        trace: trace.clone(),
        method: request.method().as_str().chars().take(16).collect(),
        path,
        told: Mutex::default(),
    });
    request.extensions_mut().insert(record.clone());
    let mut response = match refused(&app, &request, path) {
        Some(failure) => failure.into_response(),
        None => next.run(request).await,
    };
    record.with(|told| told.status = response.status().as_u16());
    if let Some(failure) = response.extensions().get::<Failure>() {
        record.failed(failure);
        response = in_shape(path, failure.clone(), response);
    }
    let headers = response.headers_mut();
    let mut insert = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    insert(REQUEST_ID, &id);
    if let Some(trace) = trace {
        insert(TRACE, &trace);
    }
    if app.phase() != Phase::Serving {
        insert(axum::http::header::CONNECTION, "close");
    }
    response
}

/// A header that is short and plain.
fn sane(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    let plain = (1..=128).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then(|| value.to_owned())
}

/// Why a request is not looked at: it shows no right key, or the server ends.
fn refused(app: &Shared, request: &Request, path: &str) -> Option<Failure> {
    if crate::router::is_open(path) {
        return None;
    }
    let headers = request.headers();
    let bearer = headers.get("authorization").map(HeaderValue::as_bytes);
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
    });
    let shown = bearer.or_else(|| headers.get("x-api-key").map(HeaderValue::as_bytes));
    // Those who load and unload models have keys of their own, which are good for nothing else.
    let (keys, which) = match app.admin.as_ref().filter(|_| path.starts_with("/admin/")) {
        Some(admin) => (&admin.keys, "admin key"),
        None => (&app.keys, "API key"),
    };
    if !keys.allow(shown) {
        let why = if shown.is_some() {
            format!("the {which} is not one of the server's")
        } else {
            format!("the request shows no {which}: send `Authorization: Bearer KEY`")
        };
        let status = axum::http::StatusCode::UNAUTHORIZED;
        return Some(Failure::new(status, "authentication_error", why).with_code("invalid_api_key"));
    }
    (app.phase() != Phase::Serving).then(|| Failure::unavailable("the server is stopping", 5))
}

/// A failure in the shape of the protocol that a path belongs to.
fn in_shape(path: &str, failure: Failure, response: Response) -> Response {
    let document = if path.starts_with("/v1/messages") {
        anthropic(&failure)
    } else if path.starts_with("/api/") {
        ollama(&failure)
    } else {
        return response;
    };
    let mut shaped = json_response(failure.status, &document);
    if let Some(retry) = response.headers().get(axum::http::header::RETRY_AFTER) {
        shaped.headers_mut().insert(axum::http::header::RETRY_AFTER, retry.clone());
    }
    shaped
}
