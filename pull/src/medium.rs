//! Single files that a server is asked for by their addresses, into memory: from hosts of a list, and never from an
//! address that is not public.

use std::io::Read as _;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use url::Url;

use super::address::{AllowPrivate, PublicResolver};
use super::error::Error;

/// Redirects that are followed for one file.
const MOST_REDIRECTS: usize = 3;

/// Fetches single files.
#[derive(Debug)]
pub struct MediaFetcher {
    agent: Agent,
    domains: Vec<String>,
    most: u64,
}

impl MediaFetcher {
    /// From hosts of these names, or with `*.` before a name from those below it; files of at most so many bytes, each within
    /// this time.
    ///
    /// # Errors
    /// When a name is none.
    pub fn new(
        domains: Vec<String>,
        most: u64,
        time: Duration,
        allow_private: AllowPrivate,
    ) -> Result<Self, Error> {
        let is_name = |domain: &String| {
            let name = domain.strip_prefix("*.").unwrap_or(domain);
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        };
        if let Some(wrong) = domains.iter().find(|domain| !is_name(domain)) {
            let why = format!(
                "'{wrong}' is no domain; give a host's name, as in images.example.org or *.example.org"
            );
            return Err(Error::Usage(why));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("percept/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            // A proxy looks names up itself, where this program cannot check them.
            .proxy(None)
            .timeout_global(Some(time))
            .max_idle_connections(0)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::new(), PublicResolver::new(allow_private));
        Ok(Self { agent, domains, most })
    }

    /// The bytes of the file at an address.
    ///
    /// # Errors
    /// When the address, or one that it leads to, is of another host or not public; when the file is too large, does not come
    /// in time, or is not there.
    pub fn get(&self, address: &str) -> Result<Vec<u8>, String> {
        let mut url = Url::parse(address).map_err(|error| format!("it is no address: {error}"))?;
        for _ in 0..=MOST_REDIRECTS {
            self.check(&url)?;
            let answer = self.agent.get(url.as_str()).call().map_err(|error| told(&error))?;
            let (parts, body) = answer.into_parts();
            match parts.status.as_u16() {
                200 => {
                    let mut bytes = Vec::new();
                    let read = body.into_reader().take(self.most + 1).read_to_end(&mut bytes);
                    read.map_err(|error| format!("it does not come whole: {error}"))?;
                    if bytes.len() as u64 > self.most {
                        return Err(format!(
                            "it has more than {} bytes, the most that is fetched",
                            self.most
                        ));
                    }
                    return Ok(bytes);
                }
                301 | 302 | 303 | 307 | 308 => {
                    let location = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
                    let next = location.and_then(|location| url.join(location).ok());
                    url = next.ok_or("it redirects to nowhere")?;
                }
                status => return Err(format!("its server answers with status {status}")),
            }
        }
        Err(format!("it redirects more than {MOST_REDIRECTS} times"))
    }

    fn check(&self, url: &Url) -> Result<(), String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("only http and https are fetched".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("addresses with a user are not fetched".into());
        }
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let is_allowed = |domain: &String| {
            let domain = domain.to_ascii_lowercase();
            match domain.strip_prefix("*.") {
                Some(above) => host.strip_suffix(above).is_some_and(|rest| rest.ends_with('.')),
                None => host == domain,
            }
        };
        match self.domains.iter().any(is_allowed) {
            true => Ok(()),
            false => Err(format!(
                "nothing is fetched from {host}; the server names the domains that it fetches from"
            )),
        }
    }
}

/// What went wrong, without what only the operator of the server should know.
fn told(error: &ureq::Error) -> String {
    match error {
        // Which address a name of the own network has is nobody's to learn.
        ureq::Error::Other(_) => "its host has no public address".into(),
        ureq::Error::Timeout(_) => "it does not come in time".into(),
        _ => "its server cannot be reached".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn fetcher(domains: &[&str], allow: AllowPrivate) -> Result<MediaFetcher, Error> {
        let domains = domains.iter().map(|domain| domain.to_string()).collect();
        MediaFetcher::new(domains, 1000, Duration::from_secs(2), allow)
    }

    /// Answers every request on a port of this machine with what `answer` makes of its path.
    fn server(answer: impl Fn(&str) -> String + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 2048];
                let n = stream.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..n]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let _ = stream.write_all(answer(path).as_bytes());
            }
        });
        port
    }

    #[test]
    fn only_hosts_of_the_list_are_asked_and_no_private_address() {
        let strict = fetcher(&["localhost", "127.0.0.1", "*.example.org"], AllowPrivate::No).unwrap();
        for (url, says) in [
            ("http://localhost/a.png", "no public address"),
            ("http://127.0.0.1/a.png", "no public address"),
            // Other spellings of the same address.
            ("http://2130706433/a.png", "no public address"),
            ("http://0x7f.1/a.png", "no public address"),
            ("http://[::1]/a.png", "nothing is fetched from [::1]"),
            ("http://example.org/a.png", "nothing is fetched from example.org"),
            ("http://badexample.org/a.png", "nothing is fetched from badexample.org"),
            ("http://a.example.org.evil.net/", "nothing is fetched from a.example.org.evil.net"),
            ("ftp://localhost/a.png", "only http and https"),
            ("http://user:word@localhost/a.png", "with a user"),
            ("http://", "no address"),
        ] {
            let why = strict.get(url).unwrap_err();
            assert!(why.contains(says), "{url}: {why}");
        }
        assert!(
            fetcher(&["http://a"], AllowPrivate::No).is_err() && fetcher(&[""], AllowPrivate::No).is_err()
        );
    }

    #[test]
    fn every_hop_is_checked_and_the_size_is_bounded() {
        let answer = |path: &str| {
            match path {
            "/good" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello".to_owned(),
            "/near" => "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
            "/loop" => "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
            "/away" => {
                "HTTP/1.1 302 Found\r\nLocation: http://[::1]/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into()
            }
            "/file" => {
                "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into()
            }
            "/large" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "a".repeat(5000)),
            "/slow" => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\na".into(),
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
        }
        };
        let port = server(answer);
        let open = fetcher(&["127.0.0.1"], AllowPrivate::All).unwrap();
        let get = |path: &str| open.get(&format!("http://127.0.0.1:{port}{path}"));
        assert_eq!(get("/good").unwrap(), b"hello");
        assert_eq!(get("/near").unwrap(), b"hello");
        for (path, says) in [
            ("/loop", "more than 3 times"),
            ("/away", "nothing is fetched from [::1]"),
            ("/file", "only http and https"),
            ("/large", "more than 1000 bytes"),
            ("/slow", "does not come whole"),
            ("/none", "status 404"),
        ] {
            let why = get(path).unwrap_err();
            assert!(why.contains(says), "{path}: {why}");
        }
    }
}
