//! JSON put to one server that the user names, as other programs' interfaces take it.

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};
use url::Url;

use super::error::Error;

/// Bytes of an answer that are read.
const MOST: u64 = 64 << 20;

/// A server, and the key that it wants.
#[derive(Debug)]
pub struct JsonClient {
    agent: Agent,
    base: Url,
    key: Option<String>,
}

impl JsonClient {
    /// A server at an address such as `http://host:8000/v1`. Each answer may take this time. The key, if there is one, is sent to it
    /// alone: redirects are not followed.
    ///
    /// # Errors
    /// When the address is none of http or https.
    pub fn new(address: &str, key: Option<String>, time: Duration) -> Result<Self, Error> {
        let mut base =
            Url::parse(address).map_err(|e| Error::Usage(format!("'{address}' is no address: {e}")))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(Error::Usage(format!("'{address}' is no address of http or https")));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("percept/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(time))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        Ok(Self { agent: Agent::new_with_config(config), base, key })
    }

    /// Put a document to a path below the address; gives the status and the answer, which is null where it is no JSON.
    ///
    /// # Errors
    /// In words, when the server cannot be reached or its answer does not come whole.
    pub fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let url = self.url(path)?;
        let request = self.agent.post(url.as_str()).header("Content-Type", "application/json");
        let request = match &self.key {
            Some(key) => request.header("Authorization", format!("Bearer {key}")),
            None => request,
        };
        read(&url, request.send(body.to_string().as_bytes()))
    }

    /// Ask for a path below the address, as [`JsonClient::post`].
    ///
    /// # Errors
    /// As [`JsonClient::post`].
    pub fn get(&self, path: &str) -> Result<(u16, Value), String> {
        let url = self.url(path)?;
        let request = self.agent.get(url.as_str());
        let request = match &self.key {
            Some(key) => request.header("Authorization", format!("Bearer {key}")),
            None => request,
        };
        read(&url, request.call())
    }

    fn url(&self, path: &str) -> Result<Url, String> {
        self.base.join(path).map_err(|e| e.to_string())
    }
}

fn read(url: &Url, answer: Result<Response<Body>, ureq::Error>) -> Result<(u16, Value), String> {
    let (parts, body) = answer.map_err(|e| format!("{url}: {e}"))?.into_parts();
    let mut bytes = Vec::new();
    let whole = body.into_reader().take(MOST).read_to_end(&mut bytes);
    whole.map_err(|e| format!("{url}: its answer does not come whole: {e}"))?;
    Ok((parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or_default()))
}
