//! The energy that a machine's processors took, where it tells: Intel's and AMD's running average power limit (RAPL), which Linux shows below
//! `/sys/class/powercap`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

const ROOT: &str = "/sys/class/powercap";

/// Seconds between readings: counters begin anew after some kilojoules, which takes minutes at least.
const BETWEEN: Duration = Duration::from_secs(20);

/// Counts from its start to [`Meter::stop`].
pub struct Meter(Result<Counting, String>);

struct Counting {
    names: Vec<String>,
    end: Sender<()>,
    thread: JoinHandle<Result<f64, String>>,
}

/// One processor's counter.
struct Counter {
    name: String,
    path: PathBuf,
    /// Microjoules at which it begins anew.
    range: u64,
    last: u64,
}

impl Meter {
    /// Begin to count.
    pub fn start() -> Self {
        Self::below(Path::new(ROOT))
    }

    fn below(root: &Path) -> Self {
        Self(counters(root).map(|counters| {
            let names = counters.iter().map(|counter| counter.name.clone()).collect();
            let (end, ended) = channel();
            let thread = std::thread::spawn(move || {
                let (mut counters, mut sum) = (counters, 0.0);
                loop {
                    let is_last = !matches!(ended.recv_timeout(BETWEEN), Err(RecvTimeoutError::Timeout));
                    for counter in &mut counters {
                        sum += counter.joules()?;
                    }
                    if is_last {
                        return Ok(sum);
                    }
                }
            });
            Counting { names, end, thread }
        }))
    }

    /// What was counted, of all that the machine did: `joules` and the counters; or `untold`, why nothing was.
    pub fn stop(self) -> Value {
        let counted = self.0.and_then(|Counting { names, end, thread }| {
            // The thread may have ended because a counter was read no more.
            let _ = end.send(());
            let joules = thread.join().map_err(|_| "the thread that counts ended".to_owned())??;
            Ok(json!({"joules": joules, "counters": names, "of": "the whole machine's processors"}))
        });
        counted.unwrap_or_else(|why| json!({"untold": why}))
    }
}

fn number(path: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.trim().parse().map_err(|_| format!("{}: it holds no number", path.display()))
}

/// The counters of whole processors: those of their parts are in them.
fn counters(root: &Path) -> Result<Vec<Counter>, String> {
    let none = || format!("{} has no counter of a processor", root.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|_| none())?.flatten() {
        let folder = entry.path();
        let Ok(name) = std::fs::read_to_string(folder.join("name")) else { continue };
        if !name.starts_with("package-") {
            continue;
        }
        let path = folder.join("energy_uj");
        // Most systems let nobody but root read it, since it tells what others compute.
        let last = number(&path)?;
        let range = number(&folder.join("max_energy_range_uj"))?;
        found.push(Counter { name: name.trim().to_owned(), path, range, last });
    }
    // The same counter may be there under two drivers.
    found.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    found.dedup_by(|a, b| a.name == b.name);
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

impl Counter {
    /// Joules since it was read last.
    fn joules(&mut self) -> Result<f64, String> {
        let now = number(&self.path)?;
        let taken =
            if now >= self.last { now - self.last } else { now + (self.range.saturating_sub(self.last)) };
        self.last = now;
        Ok(taken as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(root: &Path, folder: &str, name: &str, microjoules: u64) {
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in [
            ("name", name.to_owned()),
            ("energy_uj", microjoules.to_string()),
            ("max_energy_range_uj", "10000000".into()),
        ] {
            std::fs::write(folder.join(file), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn joules_are_those_of_whole_processors_over_the_end_of_their_counters() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        counter(path, "intel-rapl:0", "package-0", 9_000_000);
        counter(path, "intel-rapl-mmio:0", "package-0", 9_000_000);
        counter(path, "intel-rapl:1", "package-1", 1_000_000);
        counter(path, "intel-rapl:0:0", "core", 5);
        let meter = Meter::below(path);
        // Two joules up to and over the end of the first, half a joule of the second.
        counter(path, "intel-rapl-mmio:0", "package-0", 1_000_000);
        counter(path, "intel-rapl:1", "package-1", 1_500_000);
        let told = meter.stop();
        assert_eq!((&told["joules"], &told["counters"]), (&json!(2.5), &json!(["package-0", "package-1"])));
    }

    #[test]
    fn a_machine_that_does_not_tell_says_why() {
        let root = tempfile::tempdir().unwrap();
        let told = Meter::below(root.path()).stop();
        assert!(told["untold"].as_str().unwrap().contains("no counter of a processor"), "{told}");
        counter(root.path(), "intel-rapl:0", "package-0", 1);
        std::fs::write(root.path().join("intel-rapl:0/energy_uj"), "secret").unwrap();
        let told = Meter::below(root.path()).stop();
        assert!(told["untold"].as_str().unwrap().contains("energy_uj"), "{told}");
    }
}
