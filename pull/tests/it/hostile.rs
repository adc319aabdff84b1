//! A server of HTTP that breaks every rule on request, by the first part of the path.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub at: Instant,
    /// How many requests for this path came before.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The number that the path ends with.
    pub fn size(&self) -> usize {
        self.path.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(1000)
    }

    /// Where the wanted range begins.
    pub fn offset(&self) -> usize {
        let range = self.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |n| n.parse().unwrap())
    }
}

/// A server that runs until the test ends.
pub struct Server {
    pub port: u16,
    pub log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serve each request by `answer`, which says whether the connection may go on.
    pub fn start(
        answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                thread::spawn(move || converse(stream.unwrap(), &*answer, &seen));
            }
        });
        Self { port, log }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.log.lock().unwrap().iter().filter(|r| r.path == path).cloned().collect()
    }
}

fn converse(
    mut stream: TcpStream,
    answer: &dyn Fn(&Request, &mut TcpStream) -> std::io::Result<bool>,
    seen: &Mutex<Vec<Request>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader, seen) {
        // A client that hangs up is what many of these tests are about.
        if !answer(&request, &mut stream).unwrap_or(false) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(reader: &mut BufReader<TcpStream>, seen: &Mutex<Vec<Request>>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let header = |line: &String| line.split_once(':').map(|(n, v)| (n.to_lowercase(), v.trim().to_owned()));
    let headers = lines[1..].iter().filter_map(header).collect();
    let mut seen = seen.lock().unwrap();
    let nth = seen.iter().filter(|r| r.path == path).count();
    let request = Request { path, headers, at: Instant::now(), nth };
    seen.push(request.clone());
    Some(request)
}

/// Bytes that look like a JPEG, differ from path to path and do not repeat.
pub fn body(path: &str, size: usize) -> Vec<u8> {
    let mut bytes = b"\xff\xd8\xff".to_vec();
    let block: [u8; 32] = Sha256::digest(path).into();
    for count in 0_u64.. {
        if bytes.len() >= size {
            break;
        }
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    bytes.truncate(size);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A head of an answer.
pub fn head(stream: &mut TcpStream, status: &str, headers: &[(&str, String)]) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    stream.write_all((text + "\r\n").as_bytes())
}

/// A whole good answer, ranges included.
pub fn good(request: &Request, stream: &mut TcpStream, bytes: &[u8], etag: &str) -> std::io::Result<bool> {
    serve(request, stream, bytes, etag, bytes.len())?;
    Ok(true)
}

/// An answer that breaks off before byte `end` of the file.
pub fn serve(
    request: &Request,
    stream: &mut TcpStream,
    bytes: &[u8],
    etag: &str,
    end: usize,
) -> std::io::Result<()> {
    let etag = format!("\"{etag}\"");
    let offset = request.offset();
    if offset > 0 && request.header("if-range") == Some(&etag) {
        let range = format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len());
        let length = (bytes.len() - offset).to_string();
        head(
            stream,
            "206 Partial Content",
            &[("Content-Range", range), ("Content-Length", length), ("ETag", etag)],
        )?;
        return stream.write_all(&bytes[offset..end.max(offset)]);
    }
    head(stream, "200 OK", &[("Content-Length", bytes.len().to_string()), ("ETag", etag)])?;
    stream.write_all(&bytes[..end])
}

/// The hostile server: each path's first part names its vice.
pub fn hostile() -> Server {
    Server::start(|request, stream| {
        let path = request.path.as_str();
        let bytes = body(path, request.size());
        let half = bytes.len() / 2;
        let length = |n: usize| ("Content-Length", n.to_string());
        let redirect = |stream: &mut TcpStream, to: String| {
            head(stream, "302 Found", &[("Location", to), ("Content-Length", "0".into())])?;
            Ok(true)
        };
        let tagged = |stream: &mut TcpStream, tag: &str| {
            head(stream, "200 OK", &[("X-Robots-Tag", tag.into()), length(bytes.len())])?;
            stream.write_all(&bytes)?;
            Ok(true)
        };
        match path.split('/').nth(1).unwrap_or_default() {
            "good" => good(request, stream, &bytes, "g"),
            "unsized" => {
                head(stream, "200 OK", &[("Connection", "close".into())])?;
                stream.write_all(&bytes)?;
                Ok(false)
            }
            "chunked" => {
                head(stream, "200 OK", &[("Transfer-Encoding", "chunked".into())])?;
                for chunk in bytes.chunks(700) {
                    write!(stream, "{:x}\r\n", chunk.len())?;
                    stream.write_all(chunk)?;
                    stream.write_all(b"\r\n")?;
                }
                stream.write_all(b"0\r\n\r\n")?;
                Ok(true)
            }
            // Breaks off twice on the way, and continues where it is asked to.
            "drops" => {
                let end = bytes.len() * (request.nth + 1).min(3) / 3;
                serve(request, stream, &bytes, "d", end)?;
                Ok(end == bytes.len())
            }
            "always-drops" => {
                head(stream, "200 OK", &[length(bytes.len())])?;
                stream.write_all(&bytes[..half])?;
                Ok(false)
            }
            "half-chunk" => {
                head(stream, "200 OK", &[("Transfer-Encoding", "chunked".into())])?;
                write!(stream, "{:x}\r\n", bytes.len())?;
                stream.write_all(&bytes[..half])?;
                Ok(false)
            }
            "slams" if request.nth == 0 => Ok(false),
            "too-short" => {
                head(stream, "200 OK", &[length(bytes.len() + 100), ("ETag", "\"s\"".into())])?;
                stream.write_all(&bytes)?;
                Ok(false)
            }
            "too-long" => {
                head(stream, "200 OK", &[length(half)])?;
                stream.write_all(&bytes)?;
                Ok(true)
            }
            "busy" if request.nth == 0 => {
                head(stream, "429 Too Many Requests", &[("Retry-After", "1".into()), length(0)])?;
                Ok(true)
            }
            "busy-for-long" => {
                head(stream, "503 Service Unavailable", &[("Retry-After", "86400".into()), length(0)])?;
                Ok(true)
            }
            "fails-twice" if request.nth < 2 => {
                head(stream, "500 Internal Server Error", &[length(0)])?;
                Ok(true)
            }
            "fails" => {
                head(stream, "500 Internal Server Error", &[length(0)])?;
                Ok(true)
            }
            "missing" => {
                head(stream, "404 Not Found", &[length(0)])?;
                Ok(true)
            }
            "to" => redirect(stream, path.strip_prefix("/to/").unwrap().replace("%3A", ":")),
            "round" => redirect(stream, path.to_owned()),
            "hops" if request.size() > 0 => redirect(stream, format!("/hops/{}", request.size() - 1)),
            "hops" => good(request, stream, &body(path, 1000), "h"),
            "slow" => {
                head(stream, "200 OK", &[length(1 << 20)])?;
                loop {
                    stream.write_all(b"0123456789")?;
                    thread::sleep(Duration::from_millis(50));
                }
            }
            "silent" => {
                thread::sleep(Duration::from_secs(5));
                Ok(false)
            }
            // The file changes after half of it was sent.
            "changes" | "changes-unsaid" => {
                let (etag, bytes) =
                    if request.nth == 0 { ("old", bytes) } else { ("new", body("new", request.size())) };
                if path.starts_with("/changes-unsaid") && request.offset() > 0 {
                    // Goes on with another version although If-Range forbids it.
                    let range = format!("bytes {}-{}/{}", request.offset(), bytes.len() - 1, bytes.len());
                    let rest = &bytes[request.offset()..];
                    let headers = [("Content-Range", range), length(rest.len()), ("ETag", "\"new\"".into())];
                    head(stream, "206 Partial Content", &headers)?;
                    stream.write_all(rest)?;
                    return Ok(true);
                }
                serve(request, stream, &bytes, etag, if request.nth == 0 { half } else { bytes.len() })?;
                Ok(request.nth > 0)
            }
            "forgets" => {
                if request.offset() > 0 {
                    head(stream, "416 Range Not Satisfiable", &[length(0)])?;
                    return Ok(true);
                }
                serve(request, stream, &bytes, "f", if request.nth == 0 { half } else { bytes.len() })?;
                Ok(request.nth > 0)
            }
            "huge" => {
                head(stream, "200 OK", &[("Content-Length", (1_u64 << 50).to_string())])?;
                stream.write_all(&bytes)?;
                Ok(false)
            }
            "endless" => {
                head(stream, "200 OK", &[("Transfer-Encoding", "chunked".into())])?;
                loop {
                    stream.write_all(b"1000\r\n")?;
                    stream.write_all(&[7; 0x1000])?;
                    stream.write_all(b"\r\n")?;
                }
            }
            "noai" => tagged(stream, "noai"),
            "not-us" => tagged(stream, "nofollow, percept: noindex"),
            "not-them" => tagged(stream, "otherbot: noai"),
            "gzip" => {
                head(stream, "200 OK", &[("Content-Encoding", "gzip".into()), length(bytes.len())])?;
                stream.write_all(&bytes)?;
                Ok(true)
            }
            "empty" => {
                head(stream, "200 OK", &[length(0)])?;
                Ok(true)
            }
            "junk" => {
                stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")?;
                Ok(false)
            }
            "talks" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
                loop {
                    stream.write_all(b"X-More: and more and more and more\r\n")?;
                }
            }
            _ => good(request, stream, &bytes, "g"),
        }
    })
}
