//! The bodies of requests, read within the limits, and those of responses, written as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::app::{App, BODY_UNIT};
use crate::failure::Failure;

/// A body that was read whole, and its share of what all bodies may take.
pub(crate) struct Read {
    pub bytes: Vec<u8>,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads the body of a request whole.
///
/// # Errors
/// When it is too large, comes too slowly, ends early, or too much is held already.
pub(crate) async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Read, Failure> {
    let most = app.limits.body;
    let too_large =
        || Failure::too_large(format!("the body has more than {most} bytes, the most that the server takes"));
    let told = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let collected = timeout(app.limits.body_time, collect(app, body, most, &too_large)).await;
    collected.unwrap_or_else(|_| {
        let why = format!("the body did not come within {} s", app.limits.body_time.as_secs_f64());
        Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", why).with_code("timeout"))
    })
}

async fn collect(
    app: &App,
    mut body: Body,
    most: usize,
    too_large: &impl Fn() -> Failure,
) -> Result<Read, Failure> {
    let mut bytes = Vec::new();
    let mut share: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::bad(format!("the body cannot be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > most {
            return Err(too_large());
        }
        let units = length / BODY_UNIT;
        let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(more) = units.checked_sub(held).filter(|more| *more > 0) {
            let more = app.bodies.clone().try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX));
            let more = more.map_err(|_| {
                Failure::busy(
                    "the requests under way hold as many bytes as the server takes; try again later",
                    1,
                )
            })?;
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Read { bytes, _share: share })
}

/// Pieces of a response that may wait for its client.
const PIECES: usize = 16;

/// Writes a response that is sent as it is made.
pub(crate) struct Writer(mpsc::Sender<Bytes>);

impl Writer {
    /// Sends a piece, when the client has taken those before it; false when the client left.
    pub async fn send(&self, piece: String) -> bool {
        self.0.send(Bytes::from(piece)).await.is_ok()
    }

    /// Returns when the client left.
    pub async fn left(&self) {
        self.0.closed().await;
    }
}

/// A response of this type, and what writes its body.
pub(crate) fn stream(content_type: &'static str) -> (Response, Writer) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        // nginx would otherwise hold the stream back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    ((headers, Body::new(Pieces(receiver))).into_response(), Writer(sender))
}

/// A body of pieces that come.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
