//! What all endpoints of conversations do once they have understood a request: the answers begin, and are told as they come or
//! given whole.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use percept_infer::Generation;
use serde_json::Value;

use crate::answers::Usage;
use crate::app::Shared;
use crate::body;
use crate::core::{Asked, begin, parsed};
use crate::failure::{Failure, json_response};
use crate::fields::Fields;
use crate::observe::Record;
use crate::reading::{Reading, Reply};
use crate::telling::{Teller, tell};

/// A request that was understood.
pub(crate) struct Ask<P> {
    pub asked: Asked,
    pub streams: bool,
    pub reading: Reading,
    /// How its answers are given.
    pub protocol: P,
}

/// How the answers to a request are given.
pub(crate) trait Protocol: Send + 'static {
    /// The type of a stream's content.
    const STREAM: &'static str = "text/event-stream";

    /// What tells answers as they come, which begin within the model's reasoning or do not.
    fn teller(self, reading: Reading, is_thinking: bool) -> impl Teller + 'static;

    /// The document of answers that ended.
    ///
    /// # Errors
    /// When one is missing.
    fn document(self, replies: Vec<(Reply, Generation)>, used: Usage) -> Result<Value, Failure>;
}

/// The one answer of a protocol that gives one.
pub(crate) fn only(replies: Vec<(Reply, Generation)>) -> Result<(Reply, Generation), Failure> {
    replies.into_iter().next().ok_or_else(|| Failure::server("an answer ended without a result"))
}

/// Answers the request that `parse` understands.
pub(crate) async fn answer<P: Protocol>(
    app: Shared,
    record: Arc<Record>,
    headers: HeaderMap,
    body: Body,
    parse: impl FnOnce(&Shared, Fields) -> Result<Ask<P>, Failure> + Send + 'static,
) -> Result<Response, Failure> {
    let Ask { asked, streams, reading, protocol } = parsed(&app, &headers, body, parse).await?;
    record.model(&asked.name);
    let n = asked.choice.n;
    let answers = begin(&app, asked, record.arrived).await?;
    if streams {
        let (response, writer) = body::stream(P::STREAM);
        let teller = protocol.teller(reading, answers.is_thinking);
        tokio::spawn(tell(answers, writer, record, teller));
        return Ok(response);
    }
    let (replies, used) = reading.replies(answers, n, &record).await?;
    Ok(json_response(StatusCode::OK, &protocol.document(replies, used)?))
}
