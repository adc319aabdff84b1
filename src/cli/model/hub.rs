//! What `--model` names: a path, or a model on the Hugging Face hub, which is fetched once into the shared
//! cache.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use percept::model::hub::{Cache, holds_weights, is_id};
use percept::pull::{AllowPrivate, Settings, Watch, pull_model};

use crate::cli::Failure;

/// A model on the hub.
struct HubId {
    /// `OWNER/NAME`.
    name: String,
    /// A branch, a tag or a commit.
    revision: String,
}

impl HubId {
    /// `OWNER/NAME` or `OWNER/NAME@REVISION`; `None` for anything else.
    fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let id = is_id(name) && name.contains('/') && is_revision(revision);
        id.then(|| Self { name: name.into(), revision: revision.into() })
    }
}

/// Whether a text may be a branch, a tag or a commit: it becomes the path of a file in the cache.
fn is_revision(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    text.len() <= 250
        && text.split('/').all(plain)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./+".contains(&b))
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.revision)
    }
}

/// Whether a path names a model on the hub, and nothing on the disk.
pub fn is_hub_id(path: &Path) -> bool {
    !path.exists() && path.to_str().and_then(HubId::parse).is_some()
}

/// The path of a model: the one given if something is there, or the model's folder in the hub's cache, where
/// it is fetched to if it is not there yet. `revision` is a branch, a tag or a commit of a model on the hub.
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
        Some(revision) if is_revision(revision) => HubId { revision: revision.into(), ..id },
        Some(revision) => {
            let why = format!("--revision {revision}: no branch, tag or commit is called so");
            return Err(Failure::Usage(why));
        }
        None => id,
    };
    let cache = Cache::of_user().ok_or_else(|| {
        Failure::Usage("there is no home folder for the hub's cache: set HF_HOME to a folder".into())
    })?;
    match cache.snapshot(&id.name, Some(&id.revision)).filter(|folder| holds_weights(folder)) {
        Some(folder) => Ok(folder),
        None => fetch(&id, &cache),
    }
}

/// What to do instead, where a model cannot be fetched.
fn otherwise(id: &HubId) -> String {
    format!(
        "on a machine with network run `percept data pull hf://{id} --out models`, bring the folder models/{} here, and \
         give its path in place of {}",
        id.name.replace('/', "--"),
        id.name
    )
}

fn fetch(id: &HubId, cache: &Cache) -> Result<PathBuf, Failure> {
    let folder = cache.repository(&id.name).unwrap_or_default();
    let nowhere =
        format!("there is no file or folder {}, and no model {id} in {}", id.name, cache.root().display());
    if variable("HF_HUB_OFFLINE").is_some_and(|v| ["1", "on", "yes", "true"].contains(&&v.to_lowercase()[..]))
    {
        return Err(Failure::Negative(format!(
            "{nowhere}; HF_HUB_OFFLINE forbids fetching it: unset it, or {}",
            otherwise(id)
        )));
    }
    let settings = settings();
    let progress = Progress::new(&format!("fetching {id}"));
    let pulled = pull_model(&id.name, &id.revision, &folder, &settings, &progress);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_hub_are_told_from_paths() {
        let of = |text: &str| HubId::parse(text).map(|id| id.to_string());
        assert_eq!(of("HuggingFaceTB/SmolLM2-135M").as_deref(), Some("HuggingFaceTB/SmolLM2-135M@main"));
        assert_eq!(of("a/b.c@refs/pr/3").as_deref(), Some("a/b.c@refs/pr/3"));
        for path in [
            "model", "./a/b", "../a", "/a/b", "a/b/c", "~/b", "a/", "a b/c", "a/b@", "a/b@../c", "a/b@/etc",
            "",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
