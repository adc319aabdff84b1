//! Fetching: raw data from folders, lists, hubs and shards into one folder, and models from a hub into its
//! cache.
//!
//! A pull makes a plan, which lists every sample; threads take them from a queue that spaces requests out and
//! holds back what must wait; what became of each is appended to `status.jsonl`. At the end that file and
//! `index.jsonl` are written again in the order of the plan, so they say the same however often a run was cut
//! off. File names depend on addresses alone, files appear whole, and partial
//! files are continued.

mod address;
mod backoff;
mod client;
mod disk;
mod error;
mod excess;
mod fault;
mod fetch;
mod finish;
mod hosts;
mod hub;
mod item;
mod json_client;
mod list;
mod list_parquet;
mod local;
mod medium;
mod model;
mod part;
mod place;
mod plan;
mod queue;
mod robots;
mod source;
mod status;
mod tree;
mod whole_tar;
mod work;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use url::Url;

pub use address::AllowPrivate;
pub use error::Error;
pub use json_client::JsonClient;
pub use medium::MediaFetcher;
pub use model::pull_model;
pub use status::{Outcome, Status};

use client::{Client, Token};
use plan::PullPlan;
use queue::Queue;
use status::Log;
use work::Work;

/// How a pull is done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Samples that are fetched at once.
    pub threads: usize,
    /// Requests per second to one host; no limit without it.
    pub rate: Option<f64>,
    /// Tries after the first, not counting those that brought a large file forward.
    pub retries: u32,
    /// How long to wait for a connection, an answer, or more of a body.
    pub timeout: Duration,
    /// The pause before the second try; it doubles from try to try.
    pub backoff: Duration,
    /// The most bytes of a file; without it, 1 GiB for the samples of lists, and no limit for shards, folders
    /// and repositories.
    pub max_bytes: Option<u64>,
    /// Whose private addresses are followed. If everybody's are, the proxy of the environment is used too: it
    /// looks names up itself, so that they cannot be checked here.
    pub allow_private: AllowPrivate,
    /// Hard-link local files where the file system can, instead of copying them.
    pub link: bool,
    /// The hub that `hf://` names.
    pub endpoint: String,
    /// What proves to the hub who is asking. It is sent nowhere else.
    pub token: Option<String>,
    /// Seeds the jitter of pauses.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: 16,
            rate: None,
            retries: 4,
            timeout: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            max_bytes: None,
            allow_private: AllowPrivate::No,
            link: false,
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            seed: 0,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<(), Error> {
        let usage = |why: &str| Err(Error::Usage(why.to_owned()));
        match self {
            _ if !(1..=1024).contains(&self.threads) => {
                usage("the number of threads must lie from 1 to 1024")
            }
            _ if self.rate.is_some_and(|rate| !(1e-3..=1e6).contains(&rate)) => {
                usage("the rate must lie from 0.001 to 1000000 requests per second")
            }
            _ if self.timeout < Duration::from_millis(1) => {
                usage("the time-out must be at least a millisecond")
            }
            _ => Ok(()),
        }
    }

    fn endpoint(&self) -> Result<Url, Error> {
        Url::parse(&self.endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Error::Usage(format!("the hub's endpoint '{}' is no http(s) address", self.endpoint))
            })
    }
}

/// Receives the progress of a pull, from several threads at once.
pub trait Watch: Sync {
    /// The plan is made and has so many samples.
    fn planned(&self, samples: u64) {
        let _ = samples;
    }

    /// Called when bytes have arrived.
    fn brought(&self, bytes: u64) {
        let _ = bytes;
    }

    /// A sample is settled, now or by an earlier run; `None` for one whose address an earlier line had.
    fn settled(&self, status: Option<&Status>) {
        let _ = status;
    }
}

/// Follows no progress.
impl Watch for () {}

/// What a pull came to, over all runs that it took.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Lines of the plan.
    pub samples: u64,
    /// Bytes of the files that are there.
    pub bytes: u64,
    /// How many samples came to what.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// How often each reason was given for not arriving.
    pub reasons: BTreeMap<String, u64>,
}

impl Summary {
    /// Samples that are there.
    pub fn arrived(&self) -> u64 {
        self.outcomes.get(&Outcome::Ok).copied().unwrap_or_default()
    }

    fn count(&mut self, status: &Status) {
        /// Different reasons beyond which no new ones are counted.
        const MOST_REASONS: usize = 1000;
        self.samples += 1;
        self.bytes += status.bytes.unwrap_or_default();
        *self.outcomes.entry(status.outcome).or_default() += 1;
        if let Some(reason) = &status.reason
            && (self.reasons.len() < MOST_REASONS || self.reasons.contains_key(reason))
        {
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
    }
}

/// The folder of a pull and its inner places.
struct Folder {
    root: PathBuf,
}

impl Folder {
    fn status(&self) -> PathBuf {
        self.root.join("status.jsonl")
    }

    fn index(&self) -> PathBuf {
        self.root.join("index.jsonl")
    }

    fn inner(&self) -> PathBuf {
        self.root.join(".pull")
    }

    fn parts(&self) -> PathBuf {
        self.inner().join("parts")
    }

    fn lists(&self) -> PathBuf {
        self.inner().join("lists")
    }

    fn plan(&self) -> PathBuf {
        self.inner().join("plan.jsonl")
    }

    fn plan_head(&self) -> PathBuf {
        self.inner().join("plan.json")
    }

    /// Make the folder and lock it for this process, as long as the file is open.
    fn lock(&self) -> Result<File, Error> {
        for folder in [self.parts(), self.lists()] {
            fs::create_dir_all(&folder).map_err(Error::disk(&folder))?;
        }
        let path = self.inner().join("lock");
        let file = File::create(&path).map_err(Error::disk(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::Busy(self.root.clone())),
            Err(TryLockError::Error(error)) => Err(Error::disk(&path)(error)),
        }
    }
}

/// Pull sources into a folder, or go on with a pull that was cut off.
///
/// The folder gets the files, `status.jsonl` with a [`Status`] per sample, and `index.jsonl`, which is a
/// dataset of the media with their captions. Files that an earlier pull brought are not fetched again;
/// samples that did not arrive are tried again.
///
/// # Errors
/// What ends the run as a whole: wrong use, a source that cannot be listed, a disk that cannot be written.
/// What is wrong with one sample is in its status.
pub fn pull(
    sources: &[String],
    out: &Path,
    settings: &Settings,
    watch: &dyn Watch,
) -> Result<Summary, Error> {
    settings.check()?;
    let parsed = source::parse(sources)?;
    let folder = Folder { root: out.to_path_buf() };
    let _lock = folder.lock()?;
    let token = match &settings.token {
        Some(secret) => Some(Token { secret: secret.clone(), origin: settings.endpoint()?.origin() }),
        None => None,
    };
    let client = Client::new(settings, token);
    let plan = match PullPlan::resume(&folder, sources, settings) {
        Some(plan) => plan,
        None => {
            finish::keep_arrived(&folder.status())?;
            PullPlan::make(&folder, sources, parsed, &client, settings)?
        }
    };
    watch.planned(plan.items);
    let log = Log::open(&folder.status(), |_| true)?;
    let queue = Queue::new(plan.items()?, &folder.root, &log, &client.hosts, watch);
    let work = Work { folder: &folder, settings, client: &client, queue, log: &log, watch };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..settings.threads).map(|_| scope.spawn(|| work.run())).collect();
        // A panic of a thread is one of this call.
        threads
            .into_iter()
            .try_for_each(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let summary = finish::finish(&folder, &plan, &log)?;
    plan.remove(&folder)?;
    Ok(summary)
}
