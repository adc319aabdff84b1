//! What `--model` names: a path, or a model on the Hugging Face hub, which is fetched once into the shared cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use percept::data::pull::{AllowPrivate, Settings, Watch, pull_model};
use percept::model::hub::{HubCache, HubId};

use super::Failure;

/// The path of a model: the one given if something is there, or the model's folder in the hub's cache, where it is fetched
/// to if it is not there yet. `revision` is a branch, a tag or a commit of a model on the hub.
pub fn find_model(given: &Path, revision: Option<&str>) -> Result<PathBuf, Failure> {
    let id = given.to_str().and_then(HubId::parse).filter(|_| !given.exists());
    let Some(id) = id else {
        return match revision {
            Some(_) => Err(Failure::Usage(format!(
                "--revision is for models on the hub, written OWNER/NAME, and {} is a path",
                given.display()
            ))),
            None => Ok(given.to_path_buf()),
        };
    };
    let id = match revision {
        Some(revision) => id.at(revision).ok_or_else(|| {
            Failure::Usage(format!("--revision {revision}: no branch, tag or commit is called so"))
        })?,
        None => id,
    };
    let cache = HubCache::of_environment().ok_or_else(|| {
        Failure::Usage("there is no home folder for the hub's cache: set HF_HOME to a folder".into())
    })?;
    match cache.find(&id) {
        Some(folder) => Ok(folder),
        None => fetch(&id, &cache),
    }
}

/// What to do instead, where a model cannot be fetched.
fn otherwise(id: &HubId) -> String {
    let HubId { owner, name, .. } = id;
    format!(
        "on a machine with network run `percept data pull hf://{id} --out models`, bring the folder \
         models/{owner}--{name} here, and give its path in place of {owner}/{name}"
    )
}

fn fetch(id: &HubId, cache: &HubCache) -> Result<PathBuf, Failure> {
    let folder = cache.folder(id);
    let nowhere = format!(
        "there is no file or folder {}/{}, and no model {id} in {}",
        id.owner,
        id.name,
        cache.root().display()
    );
    if variable("HF_HUB_OFFLINE").is_some_and(|v| ["1", "on", "yes", "true"].contains(&&v.to_lowercase()[..]))
    {
        return Err(Failure::Negative(format!(
            "{nowhere}; HF_HUB_OFFLINE forbids fetching it: unset it, or {}",
            otherwise(id)
        )));
    }
    let settings = settings();
    let progress = Progress::new(&format!("fetching {id}"));
    let name = format!("{}/{}", id.owner, id.name);
    let pulled = pull_model(&name, &id.revision, &folder, &settings, &progress);
    progress.bar.finish_and_clear();
    match pulled {
        Ok(snapshot) => {
            let bytes = DecimalBytes(progress.brought.load(Ordering::Relaxed));
            eprintln!("fetched {id}, {bytes}, into {}", snapshot.display());
            Ok(snapshot)
        }
        Err(error) => Err(Failure::Negative(format!(
            "{nowhere}, and it cannot be fetched from {}: {error}. Run the same command again to go on; without network, {}",
            settings.endpoint,
            otherwise(id)
        ))),
    }
}

/// An empty variable is as good as none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn settings() -> Settings {
    let defaults = Settings::default();
    let endpoint = variable("HF_ENDPOINT").unwrap_or(defaults.endpoint.clone());
    // A hub in one's own network is allowed because it was named; a proxy looks names up itself.
    let proxy = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"];
    let allow_private = match proxy.into_iter().find_map(variable) {
        Some(_) => AllowPrivate::All,
        None => {
            let host = endpoint.split_once("://").map_or(&endpoint[..], |(_, rest)| rest);
            AllowPrivate::Hosts(vec![host.split('/').next().unwrap_or_default().to_string()])
        }
    };
    Settings { endpoint, allow_private, token: token(), retries: 3, ..defaults }
}

/// `HF_TOKEN`, or what `hf auth login` saved.
fn token() -> Option<String> {
    let saved = || {
        let home = variable("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache/huggingface")))?;
        let path = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        Some(std::fs::read_to_string(path).ok()?.trim().to_string()).filter(|t| !t.is_empty())
    };
    variable("HF_TOKEN").or_else(saved)
}

/// A line on standard error: bytes that came, their rate and the time left.
struct Progress {
    bar: ProgressBar,
    brought: Arc<AtomicU64>,
}

impl Progress {
    fn new(message: &str) -> Self {
        let bar = ProgressBar::no_length().with_message(message.to_string());
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, brought: Arc::default() }
    }
}

impl Watch for Progress {
    fn planned(&self, bytes: u64) {
        let template = "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes}, {speed}, {eta} left";
        let speed = |state: &ProgressState, w: &mut dyn std::fmt::Write| {
            // Nothing can be done about a line that cannot be written.
            let _ = write!(w, "{}/s", DecimalBytes(state.per_sec() as u64));
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.with_key("speed", speed));
        }
        self.bar.set_length(bytes);
        self.bar.reset();
    }

    fn brought(&self, bytes: u64) {
        self.brought.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
    }
}
