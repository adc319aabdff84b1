//! The built-in recipe `emoji-world`: a small world of images, clips and sounds with questions about them,
//! for learning a model from nothing in minutes and for trying every part of Percept without fetching
//! anything.
//!
//! [`build`] writes `FOLDER/TASK/SPLIT/00000.tar` and on, and `FOLDER/manifest.json` and `FOLDER/NOTICE`. The
//! splits are `train` and `held-out`. A sample is a conversation of two turns, a question with its medium and
//! the answer, as:
//!
//! | task | medium | question | answers | train | held-out |
//! |---|---|---|---|---|---|
//! | `category` | PNG, 48x48 | Which category is this? | one of eight words, as `animals` | 3 views of each emoji | 2 |
//! | `colour` | PNG, 48x48 | What colour is most of it? | one of ten or eleven words | 3 views of those with a main colour | 2 |
//! | `name` | PNG, 48x48 | What is this? | the emoji's name | 1 view of each | 1 |
//! | `direction` | mp4, 6 frames of 32x32 | Which way does it move? | `left`, `right`, `up`, `down` | 2,400 | 400 |
//! | `count` | mp4, 6 frames of 32x32 | How many are there? | `one` to `four` | 1,200 | 200 |
//! | `sound` | WAV, 16 kHz, 0.5 to 0.65 s | Is the sound rising, falling or steady? | those three | 800 | 210 |
//! | `sound` | the same | Is the sound high or low? | those two | 400 | 100 |
//! | `flags` | PNG, 48x48 | Which country is this flag? | the country's name | 8 views of each of 250 | 2 |
//!
//! Of 1,631 emoji about a fifth is held out, by a hash of image and seed: no view of theirs is in any
//! `train`, and another seed holds out others. Flags are in `flags` alone, those that are the same to the
//! pixel once; there both splits have all countries, but `held-out` shows them cropped, turned, brightened or
//! darkened, blurred and with noise. Views of `train` differ in background, size and place only, since
//! training changes images as it goes ([`augment`](crate::augment)).
//!
//! `meta` has `task` (that of the folder, but `pitch` for high and low), `answer`, `emoji` (its name; not for
//! sounds), `also` (a flag's other names) and `split_key` (digits of the image's hash).

mod colour;
mod paint;
mod render;
mod sheet;
mod sound;
mod tasks;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use percept_files::AtomicFolder;
use rayon::prelude::*;

use crate::build::{Built, MANIFEST, Manifest, ShardCount, StageCount, Timings};
use crate::error::{Error, Result};
use crate::format::webdataset::Writer;

/// The recipe's name.
pub const NAME: &str = "emoji-world";

/// Samples of a shard.
const SHARD: usize = 2048;

/// Samples that are rendered at a time.
const CHUNK: usize = 256;

/// How `emoji-world` is built.
#[derive(Default)]
pub struct Options<'a> {
    /// Says which emoji are held out, and seeds everything that is drawn.
    pub seed: u64,
    /// Threads that render; none is as many as there are cores. What is built does not depend on it.
    pub threads: Option<usize>,
    /// The most samples of a task and split; none is all.
    pub limit: Option<usize>,
    /// Told now and then how many samples there are, and how many there will be.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

/// Build it in `out`, which must be empty or missing, and appears when all of it is there. A folder that
/// holds the same already is left as it is.
///
/// # Errors
/// When `out` holds something else or cannot be written, or FFmpeg cannot encode clips.
pub fn build(out: &Path, options: &Options<'_>) -> Result<Built> {
    let recipe = recipe(options);
    if out.join(MANIFEST).exists() {
        let manifest = Manifest::open(out)?;
        if manifest.recipe == recipe && manifest.version == env!("CARGO_PKG_VERSION") {
            return Ok(Built { manifest, timings: None, changes: None });
        }
    }
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        let why = "it holds something else; give an empty folder, or remove it".to_string();
        return Err(Error::Write { path: out.to_path_buf(), why });
    }
    let threads = rayon::ThreadPoolBuilder::new().num_threads(options.threads.unwrap_or(0)).build();
    let threads = threads.map_err(|e| Error::Config(format!("the threads cannot be started: {e}")))?;
    let started = Instant::now();
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).map_err(Error::write(parent))?;
    }
    let folder = AtomicFolder::create(out).map_err(Error::write(out))?;
    let manifest = threads.install(|| write(folder.path(), options, recipe))?;
    folder.finish().map_err(Error::write(out))?;
    let seconds = started.elapsed().as_secs_f64();
    let samples_per_second = manifest.written as f64 / seconds.max(1e-9);
    let timings =
        Timings { seconds, threads: threads.current_num_threads(), samples_per_second, stages: Vec::new() };
    Ok(Built { manifest, timings: Some(timings), changes: None })
}

/// Everything that the corpus depends on.
fn recipe(options: &Options<'_>) -> String {
    let limit = options.limit.map_or(String::new(), |limit| format!("limit = {limit}\n"));
    let encoder = crate::video::encoder_name();
    format!("recipe = \"{NAME}\"\nseed = {}\n{limit}video-encoder = \"{encoder}\"\n", options.seed)
}

fn write(folder: &Path, options: &Options<'_>, recipe: String) -> Result<Manifest> {
    let emoji = sheet::load()?;
    let mut tasks = tasks::plan(&emoji, options.seed);
    if let Some(limit) = options.limit {
        tasks.iter_mut().for_each(|task| task.jobs.truncate(limit));
    }
    let total = tasks.iter().map(|task| task.jobs.len() as u64).sum();
    let mut written = 0;
    let mut shards = Vec::new();
    for task in &tasks {
        let place = format!("{}/{}", task.folder, task.split);
        fs::create_dir_all(folder.join(&place)).map_err(Error::write(&folder.join(&place)))?;
        for (number, jobs) in task.jobs.chunks(SHARD).enumerate() {
            let file = format!("{place}/{number:05}.tar");
            let mut writer = Writer::create(&folder.join(&file))?;
            for (chunk, jobs) in jobs.chunks(CHUNK).enumerate() {
                let first = number * SHARD + chunk * CHUNK;
                let render = |(at, job)| render::sample(task, first + at, job, &emoji, options.seed);
                let samples: Vec<_> = jobs.par_iter().enumerate().map(render).collect::<Result<_>>()?;
                samples.iter().try_for_each(|sample| writer.push(sample))?;
                written += samples.len() as u64;
                if let Some(progress) = options.progress {
                    progress(written, total);
                }
            }
            let shard = writer.finish()?;
            let (samples, bytes, sha256) = (shard.samples, shard.bytes, shard.sha256);
            shards.push(ShardCount { file, split: task.split.to_string(), samples, bytes, sha256 });
        }
    }
    let stage = |stage: &str| {
        let (stage, rejects) = (stage.to_string(), BTreeMap::new());
        StageCount { stage, taken: written, given: written, rejects }
    };
    let mut splits = BTreeMap::new();
    for shard in &shards {
        *splits.entry(shard.split.clone()).or_default() += shard.samples;
    }
    let manifest = Manifest {
        name: NAME.to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        seed: options.seed,
        recipe,
        inputs: BTreeMap::new(),
        media: None,
        group: None,
        read: written,
        written,
        left_out: BTreeMap::new(),
        stages: vec![stage("read"), stage("write")],
        splits,
        shards,
    };
    let json = serde_json::to_string_pretty(&manifest).map_err(|e| Error::Config(e.to_string()))?;
    write_text(&folder.join("NOTICE"), sheet::NOTICE)?;
    write_text(&folder.join(MANIFEST), &(json + "\n"))?;
    Ok(manifest)
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    percept_files::write(path, text.as_bytes()).map_err(Error::write(path))
}

#[cfg(test)]
mod tests;
