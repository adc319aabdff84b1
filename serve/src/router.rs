//! Which path leads where.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;

use crate::api::{
    admin, audio, chat, completions, embeddings, messages, ollama, openapi, responses, status, tokens,
};
use crate::app::Shared;
use crate::error::Error;
use crate::failure::Failure;
use crate::observe::observe;
use crate::page::{self, is_page};

/// All paths, as they are counted. Those that end in a slash stand for all that begin with them.
const PATHS: [&str; 22] = [
    "/admin/models",
    "/admin/models/",
    "/tokenize",
    "/detokenize",
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/models/",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
    "/api/chat",
    "/api/generate",
    "/api/tags",
    "/api/version",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
];

/// The path that a request is counted under.
pub(crate) fn known_path(path: &str) -> &'static str {
    if is_page(path) {
        return "/";
    }
    let matches = |known: &&str| {
        *known == path || (known.len() > 1 && known.ends_with('/') && path.starts_with(*known))
    };
    PATHS.into_iter().find(matches).unwrap_or("other")
}

/// Whether a path is answered without a key, and while the server ends.
pub(crate) fn is_open(path: &str) -> bool {
    matches!(path, "/health" | "/ready" | "/")
}

/// The service of all paths.
///
/// # Errors
/// When an origin is none.
pub(crate) fn router(app: Shared, origins: &[String]) -> Result<Router, Error> {
    let mut routes = Router::new()
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/v1/models", get(status::models))
        .route("/v1/models/{*name}", get(status::model))
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/audio/transcriptions", post(audio::transcriptions))
        .route("/v1/audio/translations", post(audio::translations))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/messages", post(messages::messages))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/tags", get(ollama::tags))
        .route("/api/version", get(ollama::version))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize));
    if app.admin.is_some() {
        routes = routes
            .route("/admin/models", post(admin::load))
            .route("/admin/models/{*name}", delete(admin::unload));
    }
    let routes = routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        // Bodies are read within the limits of the server's own.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app);
    Ok(if origins.is_empty() { routes } else { routes.layer(cors(origins)?) })
}

async fn unknown_path(method: Method, uri: Uri) -> Response {
    let file = if method == Method::GET { page::file(uri.path()) } else { None };
    file.unwrap_or_else(|| nothing_here().into_response())
}

fn nothing_here() -> Failure {
    Failure::not_found("there is nothing at this path; docs/serving.md lists the endpoints")
        .with_code("unknown_url")
}

async fn unknown_method() -> Failure {
    let why = "this path takes another method; docs/serving.md lists the endpoints";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", why).with_code("method_not_allowed")
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Failure::server("the request failed for a fault of the server; please report it").into_response()
}

fn cors(origins: &[String]) -> Result<CorsLayer, Error> {
    let origin = |origin: &String| {
        let plain = origin.starts_with("http://") || origin.starts_with("https://");
        let plain = plain && !origin.ends_with('/') && origin.matches('/').count() == 2;
        let value = HeaderValue::from_str(origin).ok().filter(|_| plain);
        value.ok_or_else(|| {
            Error::Setting(format!(
                "'{origin}' is no origin; give scheme and host, as in https://example.org"
            ))
        })
    };
    let origins: Vec<HeaderValue> = origins.iter().map(origin).collect::<Result<_, _>>()?;
    let own = ["x-request-id", "traceparent", "x-api-key", "anthropic-version"].map(HeaderName::from_static);
    let headers = [header::CONTENT_TYPE, header::AUTHORIZATION].into_iter().chain(own);
    Ok(CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(headers.collect::<Vec<_>>())
        .expose_headers([HeaderName::from_static("x-request-id"), header::RETRY_AFTER]))
}
