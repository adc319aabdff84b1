//! One request over HTTP: redirects followed by hand, so that every hop is checked.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, HeaderName, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, BodyReader, Proxy};
use url::Url;

use super::Settings;
use super::address::{AllowPrivate, PublicResolver};
use super::excess::WatchConnector;
use super::fault::Fault;
use super::hosts::Hosts;
use super::status::Outcome;

const MOST_REDIRECTS: usize = 10;

/// Makes requests. Connections are kept open and shared by the threads.
pub(super) struct Client {
    agent: Agent,
    pub hosts: Hosts,
    token: Option<Token>,
}

/// A secret and the only origin it is sent to.
pub(super) struct Token {
    pub secret: String,
    pub origin: url::Origin,
}

/// An answer that is no redirect; the body is still to come.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: BodyReader<'static>,
}

impl Answer {
    /// A header's value as text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Seconds or a date until which the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header(header::RETRY_AFTER)?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => {
                let date = jiff::fmt::rfc2822::parse(value).ok()?;
                Some(SystemTime::from(date.timestamp()).duration_since(SystemTime::now()).unwrap_or_default())
            }
        }
    }
}

impl Client {
    pub fn new(settings: &Settings, token: Option<Token>) -> Self {
        let timeout = Some(settings.timeout);
        // A proxy looks names up itself, where this program cannot check them.
        let proxy = if settings.allow_private == AllowPrivate::All { Proxy::try_from_env() } else { None };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("percept/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .proxy(proxy)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_send_request(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .max_idle_connections(settings.threads)
            .max_idle_connections_per_host(settings.threads)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        let connector = DefaultConnector::new().chain(WatchConnector);
        let agent = Agent::with_parts(config, connector, PublicResolver::new(settings.allow_private.clone()));
        Self { agent, hosts: Hosts::new(settings.rate), token }
    }

    /// Ask for an address, from `from.0` on if it still is the version that `from.1` names.
    ///
    /// The first request is the caller's to space out; those after redirects are spaced here.
    pub fn get(&self, url: &Url, from: Option<(u64, &str)>) -> Result<Answer, Fault> {
        let mut url = url.clone();
        for hop in 0..=MOST_REDIRECTS {
            check(&url)?;
            if hop > 0 {
                std::thread::sleep(self.hosts.reserve(&url));
            }
            let mut request = self.agent.get(url.as_str());
            if let Some((offset, version)) = from {
                request = request.header("Range", format!("bytes={offset}-")).header("If-Range", version);
            }
            if let Some(token) = self.token.as_ref().filter(|token| token.origin == url.origin()) {
                request = request.header("Authorization", format!("Bearer {}", token.secret));
            }
            let (parts, body) = request.call()?.into_parts();
            let status = parts.status.as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { status, headers: parts.headers, body: body.into_reader() });
            }
            let location = parts.headers.get(header::LOCATION).map(|l| String::from_utf8_lossy(l.as_bytes()));
            let next = location.as_deref().map(|l| url.join(l));
            url = match next {
                Some(Ok(next)) => next,
                _ => {
                    let why = "a redirect that leads nowhere";
                    return Err(Fault::last(Outcome::Http, why).with_http(status));
                }
            };
        }
        Err(Fault::last(Outcome::Http, format!("more than {MOST_REDIRECTS} redirects")))
    }
}

fn check(url: &Url) -> Result<(), Fault> {
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(()),
        other => {
            Err(Fault::last(Outcome::Refused, format!("it leads to {other}, and only http(s) is followed")))
        }
    }
}
