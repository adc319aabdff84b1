//! Why one try at a sample failed, and whether another may succeed.

use std::io;
use std::time::Duration;

use super::address::Private;
use super::status::Outcome;

/// Why one attempt to fetch a file failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub outcome: Outcome,
    /// A sentence without figures that depend on timing, so that every run words it alike.
    pub reason: String,
    pub http: Option<u16>,
    pub again: Again,
    /// Whether the try brought the file forward by much; such a try is not counted as failed.
    pub progress: bool,
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    /// After the usual pause.
    Later,
    /// When the server said.
    After(Duration),
}

impl Fault {
    pub fn last(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into(), http: None, again: Again::Never, progress: false }
    }

    pub fn passing(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { again: Again::Later, ..Self::last(outcome, reason) }
    }

    pub fn with_http(self, status: u16) -> Self {
        Self { http: Some(status), ..self }
    }

    /// Whether the connection was lost.
    pub fn is_disconnection(&self) -> bool {
        self.reason == BROKE_OFF
    }

    /// A server's answer that is an error; `wait` is its `Retry-After`.
    pub fn status(status: u16, wait: Option<Duration>) -> Self {
        let again = match (status, wait) {
            (429 | 503, Some(wait)) if wait <= LONGEST_WAIT => Again::After(wait),
            (429 | 503, Some(_)) => Again::Never,
            (408 | 425 | 429 | 500 | 502..=504 | 506..=599, _) => Again::Later,
            _ => Again::Never,
        };
        let reason = match wait.filter(|_| again == Again::Never) {
            Some(wait) => format!("status {status}, to be requested again in {} s", wait.as_secs()),
            None => format!("status {status}{}", meaning(status)),
        };
        Self { again, ..Self::last(Outcome::Http, reason) }.with_http(status)
    }
}

/// A server that wants to be left alone for longer is left alone until the next run.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

fn meaning(status: u16) -> &'static str {
    match status {
        401 => ": needs a login",
        403 => ": forbidden",
        404 => ": not found",
        410 => ": gone",
        429 => ": too many requests",
        451 => ": withheld for legal reasons",
        500..=599 => ": the server failed",
        _ => "",
    }
}

impl From<ureq::Error> for Fault {
    fn from(error: ureq::Error) -> Self {
        use ureq::Error as E;
        match error {
            E::Other(inner) if inner.is::<Private>() => Fault::last(Outcome::Refused, inner.to_string()),
            E::Timeout(ureq::Timeout::Resolve) => network("timed out while looking its host up"),
            E::Timeout(ureq::Timeout::Connect) => network("timed out while connecting"),
            E::Timeout(_) => network("timed out: nothing came"),
            E::HostNotFound => network("its host has no address"),
            E::Io(error) => Fault::from(error),
            E::Rustls(error) => Fault::last(Outcome::Network, format!("no safe connection: {error}")),
            E::Protocol(error) if is_disconnection(&error.to_string()) => network(BROKE_OFF),
            E::Protocol(error) => network(&format!("the answer is not HTTP: {error}")),
            error @ (E::BadUri(_) | E::Http(_)) => {
                Fault::last(Outcome::Invalid, format!("its address is not one: {error}"))
            }
            error @ E::LargeResponseHeader(..) => Fault::last(Outcome::Http, error.to_string()),
            error => network(&error.to_string()),
        }
    }
}

const BROKE_OFF: &str = "the connection broke off";

fn network(reason: &str) -> Fault {
    Fault::passing(Outcome::Network, reason)
}

fn is_disconnection(error: &str) -> bool {
    error.contains("disconnected") || error.contains("closed")
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let error = match error.downcast::<ureq::Error>() {
            Ok(inner) => return Fault::from(inner),
            Err(error) => error,
        };
        use io::ErrorKind as K;
        match error.kind() {
            K::ConnectionRefused => network("the connection was refused"),
            K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof => {
                network(BROKE_OFF)
            }
            K::TimedOut | K::WouldBlock => network("timed out: nothing came"),
            K::InvalidData => network(&format!("no safe connection: {error}")),
            _ => network(&error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_what_stays_is_not() {
        let secs = |s| Some(Duration::from_secs(s));
        assert_eq!(Fault::status(404, None).again, Again::Never);
        assert_eq!(Fault::status(500, None).again, Again::Later);
        assert_eq!(Fault::status(501, None).again, Again::Never);
        assert_eq!(Fault::status(429, None).again, Again::Later);
        assert_eq!(Fault::status(429, secs(7)).again, Again::After(Duration::from_secs(7)));
        assert_eq!(Fault::status(503, secs(7)).again, Again::After(Duration::from_secs(7)));
        let busy = Fault::status(429, secs(86_400));
        assert_eq!((busy.again, busy.reason.contains("86400 s")), (Again::Never, true));
    }
}
