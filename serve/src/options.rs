//! How the server runs and what it takes.

use std::sync::Arc;
use std::time::Duration;

use percept_infer::Draft;
use serde_json::Value;

use crate::failure::Failure;
use crate::models::Source;

/// What a request may take, and what all of them may take together.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Answers of a model that are made at once.
    pub running: usize,
    /// Answers of a model that wait for their turn; more are refused.
    pub waiting: usize,
    /// Open connections.
    pub connections: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of all bodies that are held at once.
    pub bodies: usize,
    /// Images, videos and audio clips of a request.
    pub media: usize,
    /// Pixels of an image, or of a frame of a video.
    pub pixels: usize,
    /// Pixels of all frames of a video that are decoded to choose some of them.
    pub decoded: u64,
    /// Seconds of the audio of a request.
    pub seconds: u32,
    /// New tokens of an answer; `None` leaves it to the model's context.
    pub tokens: Option<usize>,
    /// Answers that one request may ask for.
    pub choices: usize,
    /// From a request's arrival to the end of its answer.
    pub request_time: Duration,
    /// Until a request's headers have come, and until the next request of a connection begins.
    pub header_time: Duration,
    /// Until a request's body has come.
    pub body_time: Duration,
    /// How long a client may take none of what is sent to it.
    pub write_time: Duration,
    /// How long answers may go on after the server was asked to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running: 16,
            waiting: 64,
            connections: 4096,
            body: 64 << 20,
            bodies: 512 << 20,
            media: 16,
            pixels: 1 << 26,
            // Nine minutes of 1920 x 1080 at 30 frames a second.
            decoded: 1 << 35,
            seconds: 3600,
            tokens: None,
            choices: 16,
            request_time: Duration::from_secs(600),
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(60),
            grace: Duration::from_secs(30),
        }
    }
}

/// Takes the lines of the log, each a JSON object.
pub type Log = Arc<dyn Fn(&Value) + Send + Sync>;

/// Fetches the medium at an http(s) address, from hosts that may be asked; a failure says why it does not.
pub type Fetch = Arc<dyn Fn(&str) -> Result<Vec<u8>, String> + Send + Sync>;

/// How the server runs.
#[derive(Clone, Default)]
pub struct Options {
    /// What a request may take.
    pub limits: Limits,
    /// The keys that clients may show; with none the server asks for none.
    pub keys: Vec<String>,
    /// Origins of web pages that may call the server.
    pub origins: Vec<String>,
    /// A certificate chain and its key, both PEM, under which the server speaks TLS.
    pub tls: Option<(Vec<u8>, Vec<u8>)>,
    /// Guess the next tokens of every answer by what its own text has said before, or by the draft models of those models that
    /// have one: what is answered stays the same, and comes sooner where guesses are right.
    pub draft: Option<Draft>,
    /// What fetches media by their addresses; without it they come in the requests alone.
    pub fetch: Option<Fetch>,
    /// Where the lines of the log go.
    pub log: Option<Log>,
    /// Lets models be loaded and unloaded while the server runs.
    pub admin: Option<Admin>,
}

/// A model that is to be loaded while the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name that requests give.
    pub name: String,
    /// Where it is, in the words of whoever asks.
    pub path: String,
    /// What it is.
    pub kind: WantedKind,
}

/// What a model is that is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedKind {
    /// A model that does what its files say.
    Model,
    /// A language model for the embeddings of texts.
    Embedding,
    /// An adapter of the served language model of this name.
    Adapter(String),
}

/// Who may load and unload models, and how they are opened.
#[derive(Clone)]
pub struct Admin {
    /// The keys that open this and nothing else.
    pub keys: Vec<String>,
    /// What opens a model; a failure says why there is nothing to open.
    pub open: OpenWanted,
}

/// Gives what opens a model, without opening it.
pub type OpenWanted = Arc<dyn Fn(&Wanted) -> Result<Source, Failure> + Send + Sync>;
