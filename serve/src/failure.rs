//! What a client is told when a request fails: a status and one JSON document in the shape that its library reads.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percept_infer::Error as InferError;
use serde_json::{Value, json};

/// A request that failed. Its message says what is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The status of the response.
    pub status: StatusCode,
    /// The kind of error, as OpenAI names it.
    pub kind: &'static str,
    /// A word that programs may compare.
    pub code: Option<&'static str>,
    /// The field of the request that is wrong.
    pub param: Option<String>,
    /// What is wrong, where, and what to do.
    pub message: String,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A failure with nothing but a status, a kind and a message.
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into(), retry_after: None }
    }

    /// The request is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field of the request is wrong.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::bad(message).at(param)
    }

    /// A field that others honour and this server does not.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: Some("unsupported_parameter"), ..Self::field(param, message) }
    }

    /// Nothing has this name.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// The server failed.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The server cannot answer now.
    pub fn unavailable(message: impl Into<String>, retry_after: u64) -> Self {
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        Self { code: Some("unavailable"), retry_after: Some(retry_after), ..failure }
    }

    /// Too many requests are under way.
    pub fn busy(message: impl Into<String>, retry_after: u64) -> Self {
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        Self { code: Some("queue_full"), retry_after: Some(retry_after), ..failure }
    }

    /// Something is larger than the server takes.
    pub fn too_large(message: impl Into<String>) -> Self {
        let failure = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message);
        Self { code: Some("too_large"), ..failure }
    }

    /// The same, with the field that is wrong where none is named yet.
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param.get_or_insert_with(|| param.into());
        self
    }

    /// The same, with a word for programs.
    pub fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// OpenAI's document of it.
    pub fn openai(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        } })
    }

    /// What the engine refuses or fails at.
    pub fn of_infer(error: &InferError) -> Self {
        use percept_model::Error as ModelError;
        match error {
            InferError::TooLong { .. } => Self::bad(error.to_string()).with_code("context_length_exceeded"),
            InferError::Setting(_) | InferError::Constraint(_) => Self::bad(error.to_string()),
            InferError::Media(error) | InferError::Model(ModelError::Media(error)) => Self::of_media(error),
            InferError::Model(ModelError::Inputs(_)) => Self::bad(error.to_string()),
            // No answer that ends makes room for this one.
            InferError::CacheFull { room, wanted, .. } if wanted > room => Self::bad(format!(
                "the prompt takes {wanted} rows of the cache, which has {room}; shorten it"
            ))
            .with_code("context_length_exceeded"),
            InferError::CacheFull { .. } => Self::unavailable(error.to_string(), 1),
            _ => Self::server(error.to_string()),
        }
    }

    /// What cannot be read or prepared.
    pub fn of_media(error: &percept_modalities::Error) -> Self {
        match error {
            percept_modalities::Error::TooLarge { .. } => Self::bad(error.to_string()).with_code("too_large"),
            percept_modalities::Error::Config { .. } => Self::server(error.to_string()),
            _ => Self::bad(error.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.openai());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // Whoever wraps errors in another shape finds it here.
        response.extensions_mut().insert(self);
        response
    }
}

/// A JSON document as a response.
pub(crate) fn json_response(status: StatusCode, document: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}
