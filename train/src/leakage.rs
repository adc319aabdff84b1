//! Before the first step: what is trained on is not what is held out.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use percept_data::leakage::{Leak, find};
use percept_data::loader::Dataset;
use percept_data::splits::is_held_out;

use crate::config::{Config, SourceConfig};
use crate::error::{Error, Result};
use crate::watch::{Event, Watch};

/// What names a source: its path and split.
type Name = (PathBuf, Option<String>);

fn name(source: &SourceConfig) -> Name {
    (source.path.clone(), source.split.clone())
}

/// Hold the runs of a file, which follow each other, to what they say of their data: a held-out split is
/// trained on only where that is said, and no stage is measured on what it or a stage before it was trained
/// on.
///
/// # Errors
/// When a corpus cannot be opened, or training and held-out data have something in common that is not
/// allowed: it is counted and named.
pub fn check(runs: &[Config], watch: &mut dyn Watch) -> Result<()> {
    let mut open: BTreeMap<Name, Dataset> = BTreeMap::new();
    for source in runs.iter().flat_map(|run| run.data.train.iter().chain(&run.data.held_out)) {
        if let Entry::Vacant(place) = open.entry(name(source)) {
            let set = place.insert(Dataset::open(&source.dataset())?);
            set.doubts().try_for_each(|text| watch.event(&Event::Note { step: 0, text }))?;
        }
    }
    let mut compared: BTreeSet<(Name, Name)> = BTreeSet::new();
    let mut trained: Vec<Name> = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for source in run.data.train.iter().filter(|source| !source.train_on_held_out) {
            let set = &open[&name(source)];
            if is_held_out(set.split()) {
                return Err(Error::Setting(format!(
                    "data.train: {} is the split '{}', which its name keeps for measuring; train on another split, or say \
                     train_on_held_out = true beside its path",
                    set.path().display(),
                    set.split()
                )));
            }
        }
        // As a whole model, or as an adapter that is trained on, stacked on or merged.
        let goes_on = at > 0 && {
            let made = runs[at - 1].out.join("model");
            let lora = run.lora.as_ref().and_then(|l| l.path.as_ref());
            run.model.path == made || [run.model.adapter.as_ref(), lora].contains(&Some(&made))
        };
        if !goes_on {
            trained.clear();
        }
        trained.extend(run.data.train.iter().map(name));
        trained.sort();
        trained.dedup();
        let held_out: BTreeSet<Name> = run.data.held_out.iter().map(name).collect();
        let is_new = |train: &&Name| {
            held_out.iter().any(|held_out| !compared.contains(&((*train).clone(), held_out.clone())))
        };
        let train: Vec<&Name> = trained.iter().filter(is_new).collect();
        let leaks = compare(&sets(&open, train.iter().copied()), &sets(&open, &held_out), watch)?;
        for train in train {
            compared.extend(held_out.iter().map(|held_out| (train.clone(), held_out.clone())));
        }
        let (allowed, refused): (Vec<Leak>, Vec<Leak>) =
            leaks.into_iter().partition(|leak| run.data.allow_leakage.contains(&leak.shared));
        if !allowed.is_empty() {
            let text = format!(
                "training and held-out data have in common, as data.allow_leakage says: {}",
                told(&allowed)
            );
            watch.event(&Event::Note { step: 0, text })?;
        }
        if !refused.is_empty() {
            let kinds: Vec<String> =
                refused.iter().map(|leak| format!("\"{}\"", leak.shared.name())).collect();
            return Err(Error::Setting(format!(
                "training and held-out data have in common: {}. What is measured on such samples is memory: divide the \
                 corpus by what they share (`by` of the stage split in its recipe), give other data, or allow it with \
                 data.allow_leakage = [{}]",
                told(&refused),
                kinds.join(", ")
            )));
        }
    }
    Ok(())
}

fn sets<'a>(
    open: &'a BTreeMap<Name, Dataset>,
    names: impl IntoIterator<Item = &'a Name>,
) -> Vec<&'a Dataset> {
    names.into_iter().filter_map(|name| open.get(name)).collect()
}

/// Compare two lists of data sets, and tell how far it is where that takes long.
fn compare(train: &[&Dataset], held_out: &[&Dataset], watch: &mut dyn Watch) -> Result<Vec<Leak>> {
    if train.is_empty() || held_out.is_empty() {
        return Ok(Vec::new());
    }
    /// Time between two lines that tell how far it is.
    const OFTEN: Duration = Duration::from_secs(5);
    let (done, all) = (AtomicU64::new(0), AtomicU64::new(1));
    let told = |bytes: u64, of: u64| {
        done.fetch_max(bytes, Ordering::Relaxed);
        all.store(of.max(1), Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        let finding = scope.spawn(|| find(train, held_out, &told));
        let (began, mut said) = (Instant::now(), Instant::now());
        let mut pause = Duration::from_micros(200);
        while !finding.is_finished() {
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(50));
            if said.elapsed() >= OFTEN {
                said = Instant::now();
                let share = done.load(Ordering::Relaxed) as f64 / all.load(Ordering::Relaxed) as f64;
                let seconds = began.elapsed().as_secs_f64();
                let left = seconds / share.max(1e-9) * (1.0 - share);
                let rate = done.load(Ordering::Relaxed) as f64 / seconds / 1e6;
                let text = format!(
                    "comparing training and held-out data: {:.0} %, {rate:.0} MB/s, {left:.0} s left",
                    100.0 * share
                );
                watch.event(&Event::Note { step: 0, text })?;
            }
        }
        // A panic there is one here.
        Ok(finding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn told(leaks: &[Leak]) -> String {
    let one = |leak: &Leak| {
        let what = match leak.shared.name() {
            "key" => "keys",
            "group" => "groups",
            other => other,
        };
        format!("{what} of {} training samples (as {})", leak.samples, leak.examples.join("; "))
    };
    leaks.iter().map(one).collect::<Vec<_>>().join(", ")
}
