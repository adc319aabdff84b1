//! A server in this process, and a client that writes every byte of its requests itself.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use percept::infer::{Session, SessionOptions};
use percept::model::checkpoint::Checkpoint;
use percept::model::{CausalModel, Model};
use percept::serve::{Error, Limits, Loaded, Options, Server, Source};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::devices;

/// The model of a parity case.
pub fn model(case: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(case).join("model");
    percept::model::open(Arc::new(Checkpoint::open(folder).unwrap())).unwrap()
}

/// A session of a parity case's language model on the cpu.
pub fn session(case: &str) -> Session {
    let Model::Causal(model) = model(case) else { panic!("{case} generates no text") };
    session_of(model)
}

fn session_of(model: Box<dyn CausalModel>) -> Session {
    let options = SessionOptions { strict: true, batch_invariant: true, ..SessionOptions::default() };
    Session::new(devices::device("cpu"), model, options).unwrap()
}

/// A language model to serve, called like its parity case.
pub fn language(case: &str) -> Source {
    let folder = case.to_owned();
    let open = move || Ok(Loaded::Language(Box::new(session(&folder))));
    Source { name: case.into(), parent: None, open: Box::new(open), over: None }
}

/// A server that runs.
pub struct Running {
    pub address: SocketAddr,
    pub log: Arc<Mutex<Vec<Value>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Running {
    /// A server of language models that takes what the default limits say.
    pub fn of(cases: &[&str]) -> Self {
        Self::start(cases.iter().map(|case| language(case)).collect(), Options::default())
    }

    /// A server of language models with limits.
    pub fn within(cases: &[&str], limits: Limits) -> Self {
        let options = Options { limits, ..Options::default() };
        Self::start(cases.iter().map(|case| language(case)).collect(), options)
    }

    pub fn start(sources: Vec<Source>, mut options: Options) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        options.log = Some(Arc::new(move |line: &Value| lines.lock().unwrap().push(line.clone())));
        let (stop, stopped) = oneshot::channel();
        let (told, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                let server = Server::start(sources, "127.0.0.1:0", options).await?;
                let address = server.address().unwrap();
                let ready = || told.send(address).unwrap();
                server.run(ready, async { stopped.await.unwrap_or_default() }).await
            })
        });
        let address = started.recv().expect("the server starts");
        Self { address, log, stop: Some(stop), thread: Some(thread) }
    }

    /// Asks the server to stop, without waiting for it.
    pub fn ask_to_stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Stops the server and waits for it.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes as they are, and reads what comes until the connection is closed.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // The server may answer and close before all is written.
        let _ = stream.write_all(bytes);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path)
    }

    pub fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", path)
    }

    /// A request without a body.
    fn ask(&self, method: &str, path: &str) -> Reply {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        Reply::of(&self.raw(request.as_bytes()))
    }

    /// Posts a JSON document.
    pub fn post(&self, path: &str, document: &Value) -> Reply {
        self.post_with(path, "", document.to_string().as_bytes())
    }

    /// Posts bytes as JSON, with more headers, each of which ends its line.
    pub fn post_with(&self, path: &str, headers: &str, body: &[u8]) -> Reply {
        Reply::of(&self.raw(&post_bytes(path, headers, body)))
    }

    /// A number of `/metrics` that has no label but the model's.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Waits until a metric has a value.
    pub fn wait_for(&self, name: &str, value: f64) {
        for _ in 0..600 {
            if self.metric(name) == value {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{name} is {} after 30 s, not {value}", self.metric(name));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// A request as it is sent.
pub fn post_bytes(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}Content-Length: \
         {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The response that bytes are.
    pub fn of(bytes: &[u8]) -> Self {
        Self::parse(bytes).unwrap_or_else(|| panic!("no response: {:?}", String::from_utf8_lossy(bytes)))
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let rest = &bytes[end + 4..];
        let is_chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
        let body = if is_chunked { dechunked(rest) } else { rest.to_vec() };
        Some(Self { status, headers, body })
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The document of a request that succeeded.
    #[track_caller]
    pub fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The error of a request that failed, in OpenAI's shape.
    #[track_caller]
    pub fn error(&self) -> Value {
        assert!(self.status >= 400, "{}", self.text());
        let error = self.json()["error"].clone();
        for field in ["message", "type"] {
            assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        }
        for field in ["param", "code"] {
            assert!(error.get(field).is_some_and(|v| v.is_null() || v.is_string()), "{error}");
        }
        error
    }

    /// The documents of a stream, which ends with `[DONE]`.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let (last, lines) = lines.split_last().expect("a stream has events");
        assert_eq!(*last, "[DONE]", "{text}");
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let data = &rest[end + 2..];
        if length == 0 || data.len() < length {
            break;
        }
        body.extend_from_slice(&data[..length]);
        rest = &data[length + 2..];
    }
    body
}

/// A chat of one turn.
pub fn ask(model: &str, text: &str, more: Value) -> Value {
    talk(model, json!([{ "role": "user", "content": text }]), more)
}

/// A chat with more fields.
pub fn talk(model: &str, messages: Value, more: Value) -> Value {
    with(json!({ "model": model, "messages": messages }), more)
}

/// A document with more fields.
pub fn with(mut document: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}
