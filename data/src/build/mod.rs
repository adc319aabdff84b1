//! Building a corpus: samples are drawn, go through the stages, and are written, on all threads at once.

mod board;
mod chunk;
mod inputs;
mod manifest;
mod output;
mod output_folder;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use self::board::{Board, Work};
use self::chunk::{Chunk, Clock, admit, realize, work};
use self::manifest::write_json;
use self::output::Output;
use self::output_folder::OutputFolder;
use crate::error::{Error, Result};
use crate::format::{self, Draws, LeftOut, Named, WriteSettings};
use crate::recipe::Recipe;
use crate::stage::{Gate, ImageUse, Scorers, Site, Stage};

pub use inputs::{Changes, Inputs};
pub use manifest::{
    INPUTS, Input, MANIFEST, Manifest, MediaInputs, REJECTS, Rejected, ShardCount, StageCount, StageTime,
    TIMINGS, Timings,
};
pub(crate) use output_folder::is_unsettled;

/// How a build is run.
pub struct BuildOptions<'a> {
    /// Threads that work. What is built does not depend on it.
    pub threads: usize,
    /// Seeds whatever is drawn.
    pub seed: u64,
    /// Opens the models that score samples.
    pub scorers: Option<&'a dyn Scorers>,
    /// Told now and then how far it is.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    /// Told now and then how many bytes of the inputs were hashed, and of how many.
    pub hashing: Option<&'a (dyn Fn(u64, u64) + Sync)>,
    /// Called with the reason why an existing corpus is built again, before that begins.
    pub rebuilding: Option<&'a (dyn Fn(&Changes) + Sync)>,
}

impl Default for BuildOptions<'_> {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, seed: 0, scorers: None, progress: None, hashing: None, rebuilding: None }
    }
}

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Samples that were read.
    pub read: u64,
    /// Samples that are in shards.
    pub written: u64,
    /// Samples that were left out.
    pub rejected: u64,
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The manifest of the corpus that was built.
    pub manifest: Manifest,
    /// How long it took; `None` where the folder held it already.
    pub timings: Option<Timings>,
    /// What had changed since the folder's corpus was built, where it held one that is not this.
    pub changes: Option<Changes>,
}

/// What a corpus is made of: a recipe that is ready to run.
pub struct Corpus {
    /// What it is called.
    pub name: String,
    /// The text of its recipe, or whatever else says all that it depends on beside the seed.
    pub recipe: String,
    /// The files that it is read from.
    pub inputs: Inputs,
    /// Its samples, in order.
    pub draws: Draws,
    /// What reading them leaves out, counted while they are drawn.
    pub left_out: LeftOut,
    /// What is done to them.
    pub stages: Vec<(String, Stage)>,
    /// How they are written.
    pub write: WriteSettings,
    /// Pixels that an image may have.
    pub max_pixels: usize,
    /// The metadata, as `meta.NAME`, whose value says which samples belong together.
    pub group: Option<String>,
    /// The splits that samples may go to; none where nothing divides them.
    pub splits: Vec<String>,
}

impl Recipe {
    /// Make it ready: its files are found, its stages built, its models opened.
    ///
    /// # Errors
    /// When a file is not there or a stage's settings contradict one another.
    pub fn corpus(&self, options: &BuildOptions<'_>) -> Result<Corpus> {
        let named = Named::default();
        let site = Site {
            folder: &self.folder,
            seed: options.seed,
            max_pixels: self.max_pixels,
            scorers: options.scorers,
            group: self.group.as_deref(),
            named: named.clone(),
        };
        let build = |(name, settings): &(String, Box<dyn crate::stage::Settings>)| {
            settings.build(&site).map(|stage| (name.clone(), stage))
        };
        let mut inputs = Vec::new();
        let mut draws: Draws = Box::new(std::iter::empty());
        let left_out = LeftOut::default();
        for read in &self.reads {
            inputs.extend(format::inputs(read, &self.folder)?);
            let opened = format::open(read, &self.folder, self.max_bytes, &left_out, &named)?;
            draws = Box::new(draws.chain(opened));
        }
        for (_, stage) in &self.stages {
            inputs.extend(stage.inputs(&site)?);
        }
        Ok(Corpus {
            name: self.name.clone(),
            recipe: self.text.clone(),
            stages: self.stages.iter().map(build).collect::<Result<_>>()?,
            inputs: Inputs::new(&self.folder, self.max_bytes, inputs, named, options)?,
            draws,
            left_out,
            write: self.write.clone(),
            max_pixels: self.max_pixels,
            group: self.group(),
            splits: self.splits(),
        })
    }
}

/// Build a corpus in the folder `out`. A folder that holds the same corpus already, by the content of all
/// that it was made of, is left as it is. One that holds an older build of it gets the new one when all of
/// that is there; until then, and if the build fails or is killed, the old one stays.
///
/// # Errors
/// When the folder holds something else, something cannot be written, a model fails, or no sample was
/// written. A bad sample is no error.
pub fn build(corpus: Corpus, out: &Path, options: &BuildOptions<'_>) -> Result<Built> {
    output_folder::recover(out)?;
    let mut changes = None;
    if let Some(manifest) = Manifest::find(out)? {
        if !corpus.resembles(out, &manifest) {
            let why = format!(
                "it holds another corpus, '{}', by its manifest; give another folder, or remove it",
                manifest.name
            );
            return Err(Error::Write { path: out.to_path_buf(), why });
        }
        let found = Changes::find(out, &manifest, &corpus, options)?;
        if found.is_empty() {
            return Ok(Built { manifest, timings: None, changes: None });
        }
        if let Some(tell) = options.rebuilding {
            tell(&found);
        }
        changes = Some(found);
    }
    let started = Instant::now();
    let output =
        Output::create(OutputFolder::take(out)?, &corpus.write, corpus.group.clone(), &corpus.left_out)?;
    let Corpus { name, recipe, inputs, draws, left_out, stages, max_pixels, group, splits, .. } = corpus;
    let run = Run::new(stages, draws, output, max_pixels, options);
    let threads = options.threads.max(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run.on_a_thread());
        }
    });
    let Run { board, last, .. } = run;
    if let Some(error) = board.into_failure() {
        return Err(error);
    }
    let last = last.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seconds = started.elapsed().as_secs_f64();
    let stage_counts = last.clock.counts();
    let (read, written) = (stage_counts[0].taken, stage_counts[stage_counts.len() - 1].given);
    if written == 0 {
        let rejects = last.output.abandon()?;
        let why = match read {
            0 => {
                let one = |(what, count): (&String, &u64)| format!("; left out: {what} ({count})");
                let left_out: String = left_out.counts().iter().map(one).collect();
                format!("its files hold none{left_out}")
            }
            _ => format!(
                "all {read} that were read were rejected; {}. {} has a line for each reject",
                last.clock.examples(),
                rejects.display()
            ),
        };
        return Err(Error::Empty { name, why, rejects });
    }
    let timings = last.clock.timings(seconds, threads);
    let mut manifest = Manifest {
        name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: options.seed,
        recipe,
        inputs: inputs.files().clone(),
        media: None,
        group,
        read,
        written,
        left_out: left_out.counts(),
        stages: stage_counts,
        splits: splits.into_iter().map(|split| (split, 0)).collect(),
        shards: Vec::new(),
    };
    last.output.finish(|folder, shards| {
        for shard in &shards {
            *manifest.splits.entry(shard.split.clone()).or_default() += shard.samples;
        }
        manifest.shards = shards;
        manifest.media = inputs.write_media(folder)?;
        write_json(&folder.join(TIMINGS), &timings)?;
        write_json(&folder.join(MANIFEST), &manifest)
    })?;
    Ok(Built { manifest, timings: Some(timings), changes })
}

impl Corpus {
    /// Whether a folder has an older build of this corpus, and not another one with the same name.
    fn resembles(&self, out: &Path, manifest: &Manifest) -> bool {
        manifest.name == self.name
            && (manifest.recipe == self.recipe || self.inputs.shares_with(out, manifest))
    }
}

/// Bytes of media that a chunk should have.
const CHUNK_BYTES: usize = 4 << 20;
/// Samples that a chunk may have.
const CHUNK_SAMPLES: usize = 256;

/// A build under way.
struct Run<'a> {
    options: &'a BuildOptions<'a>,
    board: Board<Chunk>,
    /// What is drawn from, and the number of the next sample.
    draws: Mutex<(Draws, u64)>,
    /// The stages' parts for each sample, by the gates that they come before.
    segments: Vec<Vec<chunk::StageStep>>,
    /// The gates and their places among the stages.
    gates: Vec<(usize, Mutex<Box<dyn Gate>>)>,
    last: Mutex<Last>,
    /// Whether images are decoded whole, and whether anything after each gate reads them.
    whole: bool,
    looks_later: Vec<bool>,
    max_pixels: usize,
    /// Bytes and samples so far, which say how many samples make a chunk.
    seen: (AtomicUsize, AtomicUsize),
    read: AtomicU64,
    /// Stages, with reading and writing.
    stages: usize,
}

/// What the last gate, writing, works on.
struct Last {
    output: Output,
    clock: Clock,
}

impl<'a> Run<'a> {
    fn new(
        stages: Vec<(String, Stage)>,
        draws: Draws,
        output: Output,
        max_pixels: usize,
        options: &'a BuildOptions<'a>,
    ) -> Self {
        let wants: Vec<ImageUse> = stages.iter().map(|(_, stage)| stage.images).collect();
        let names = ["read"].into_iter().chain(stages.iter().map(|(name, _)| name.as_str())).chain(["write"]);
        let names: Vec<String> = names.map(String::from).collect();
        let count = names.len();
        let (mut segments, mut gates, mut looks_later) = (vec![Vec::new()], Vec::new(), Vec::new());
        for (at, (_, stage)) in stages.into_iter().enumerate() {
            if let (Some(each), Some(segment)) = (stage.each, segments.last_mut()) {
                segment.push(chunk::StageStep { stage: at + 1, each });
            }
            if let Some(gate) = stage.gate {
                gates.push((at + 1, Mutex::new(gate)));
                segments.push(Vec::new());
                // A gate may itself read images, as one that scores them does.
                looks_later.push(wants[at..].iter().any(|want| *want > ImageUse::Unseen));
            }
        }
        // Nothing reads images when they are written.
        looks_later.push(false);
        Self {
            options,
            board: Board::new(gates.len() + 1, 2 * options.threads.max(1) + 1),
            draws: Mutex::new((draws, 0)),
            segments,
            gates,
            last: Mutex::new(Last { output, clock: Clock::new(names) }),
            whole: wants.contains(&ImageUse::Whole),
            looks_later,
            max_pixels,
            seen: (AtomicUsize::new(0), AtomicUsize::new(0)),
            read: AtomicU64::new(0),
            stages: count,
        }
    }

    /// What each thread does until there is nothing left.
    fn on_a_thread(&self) {
        // What stages do in parallel of their own stays on this thread, so that `threads` means what it says.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        match pool {
            Ok(pool) => pool.install(|| self.work()),
            Err(error) => self.board.fail(Error::Config(format!("no thread can be started: {error}"))),
        }
    }

    fn work(&self) {
        loop {
            let done = match self.board.take() {
                Work::Stop => return,
                Work::Read(number) => self.read(number),
                Work::Pass(gate, chunk) => self.pass(gate, chunk),
            };
            if let Err(error) = done {
                self.board.fail(error);
            }
        }
    }

    fn read(&self, number: u64) -> Result<()> {
        let (bytes, samples) = (self.seen.0.load(Ordering::Relaxed), self.seen.1.load(Ordering::Relaxed));
        // Eight samples are too few to estimate the size of all.
        let size = if samples < 8 { 8 } else { CHUNK_BYTES / (bytes / samples).max(1) };
        let drawn = {
            let mut draws = self.draws.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let started = Instant::now();
            let first = draws.1;
            let (mut drawn, mut held) = (Vec::new(), 0);
            // A few large samples end a chunk early, whatever those before them were like.
            while drawn.len() < size.clamp(1, CHUNK_SAMPLES) && held < CHUNK_BYTES {
                let Some(draw) = draws.0.next() else { break };
                held = held.saturating_add(draw.bytes());
                drawn.push(draw);
            }
            draws.1 += drawn.len() as u64;
            (first, drawn, started.elapsed())
        };
        let (first, drawn, took) = drawn;
        self.board.has_read(!drawn.is_empty());
        if drawn.is_empty() {
            return Ok(());
        }
        self.read.fetch_add(drawn.len() as u64, Ordering::Relaxed);
        let mut chunk = Chunk::new(number, self.stages);
        chunk.busy[0] += took.as_secs_f64();
        realize(&mut chunk, first, drawn, self.max_pixels, self.whole);
        let media: usize = chunk.items.iter().flat_map(|i| &i.sample.media).map(|m| m.bytes.len()).sum();
        self.seen.0.fetch_add(media, Ordering::Relaxed);
        self.seen.1.fetch_add(chunk.items.len(), Ordering::Relaxed);
        self.through(0, chunk);
        Ok(())
    }

    /// Take a chunk through the stages between two gates.
    fn through(&self, segment: usize, mut chunk: Chunk) {
        work(&mut chunk, &self.segments[segment], self.looks_later[segment]);
        self.board.arrive(segment, chunk.number, chunk);
    }

    fn pass(&self, gate: usize, mut chunk: Chunk) -> Result<()> {
        if let Some((stage, gated)) = self.gates.get(gate) {
            {
                let mut gated = gated.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                admit(&mut chunk, *stage, gated.as_mut())?;
            }
            self.board.has_passed(gate);
            self.through(gate + 1, chunk);
            return Ok(());
        }
        let number = chunk.number;
        let progress = {
            let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let Last { output, clock } = &mut *last;
            clock.write(&mut chunk, output)?;
            clock.progress(self.read.load(Ordering::Relaxed))
        };
        self.board.has_passed(gate);
        self.board.arrive(gate + 1, number, chunk);
        if let Some(tell) = self.options.progress {
            tell(progress);
        }
        Ok(())
    }
}
