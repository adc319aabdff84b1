//! Some consecutive samples on their way, and what was found out about them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::Progress;
use super::manifest::{Rejected, StageCount, StageTime, Timings, told};
use super::output::Output;
use crate::error::Result;
use crate::format::Draw;
use crate::item::Item;
use crate::reject::Reject;
use crate::stage::{Each, Gate, Verdict};

/// Bytes of decoded images that a chunk keeps from one stage to a later one.
const KEPT_IMAGE_BYTES: usize = 32 << 20;

/// Consecutive samples that one thread works on.
pub(super) struct Chunk {
    pub number: u64,
    pub items: Vec<Item>,
    /// Samples that were drawn.
    drawn: u64,
    /// What was left out: its number, key and stage.
    rejected: Vec<(u64, String, usize, Reject)>,
    /// Seconds spent in each stage.
    pub busy: Vec<f64>,
}

impl Chunk {
    pub fn new(number: u64, stages: usize) -> Self {
        Self { number, items: Vec::new(), drawn: 0, rejected: Vec::new(), busy: vec![0.0; stages] }
    }
}

/// A stage's part for each sample.
pub(super) struct StageStep {
    /// Its place among the stages, where reading is the first.
    pub stage: usize,
    pub each: Box<dyn Each>,
}

/// Put the drawn samples together.
pub(super) fn realize(chunk: &mut Chunk, first: u64, drawn: Vec<Draw>, max_pixels: usize, whole: bool) {
    let started = Instant::now();
    chunk.drawn = drawn.len() as u64;
    for (number, draw) in (first..).zip(drawn) {
        let sample = catch_unwind(AssertUnwindSafe(|| draw.make()))
            .unwrap_or_else(|_| Err((format!("number {number}"), crashed())));
        match sample {
            Ok(sample) => chunk.items.push(Item::new(number, sample, max_pixels, whole)),
            Err((key, reject)) => chunk.rejected.push((number, key, 0, reject)),
        }
    }
    chunk.busy[0] += started.elapsed().as_secs_f64();
}

/// Take each sample through some stages. Decoded images are kept only if a later stage reads them.
pub(super) fn work(chunk: &mut Chunk, steps: &[StageStep], looks_later: bool) {
    let items = std::mem::take(&mut chunk.items);
    let mut kept = 0;
    for mut item in items {
        let mut verdict = Ok(());
        for step in steps {
            let started = Instant::now();
            // Decoders are other people's code, and a panic in one costs its sample only.
            let answer = catch_unwind(AssertUnwindSafe(|| step.each.apply(&mut item)))
                .unwrap_or_else(|_| Err(crashed()));
            chunk.busy[step.stage] += started.elapsed().as_secs_f64();
            if let Err(reject) = answer {
                verdict = Err((step.stage, reject));
                break;
            }
        }
        match verdict {
            Ok(()) => {
                let size = item.decoded_bytes();
                if !looks_later || kept + size > KEPT_IMAGE_BYTES {
                    item.forget_images();
                } else {
                    kept += size;
                }
                chunk.items.push(item);
            }
            Err((stage, reject)) => {
                chunk.rejected.push((item.ordinal, std::mem::take(&mut item.sample.key), stage, reject));
            }
        }
    }
}

fn crashed() -> Reject {
    Reject::new("crashed", "a decoder panicked on it; the message is in the log")
}

/// Take a chunk through a gate.
pub(super) fn admit(chunk: &mut Chunk, stage: usize, gate: &mut dyn Gate) -> Result<()> {
    let started = Instant::now();
    let verdicts: Vec<Verdict> = gate.admit(&mut chunk.items)?;
    let items = std::mem::take(&mut chunk.items);
    for (mut item, verdict) in items.into_iter().zip(verdicts) {
        item.prints.clear();
        match verdict {
            Ok(()) => chunk.items.push(item),
            Err(reject) => chunk.rejected.push((item.ordinal, item.sample.key, stage, reject)),
        }
    }
    chunk.busy[stage] += started.elapsed().as_secs_f64();
    Ok(())
}

/// What all chunks so far came to.
pub(super) struct Clock {
    names: Vec<String>,
    drawn: u64,
    written: u64,
    seconds: Vec<f64>,
    rejects: Vec<BTreeMap<&'static str, u64>>,
    /// The first sample that each stage rejected for a reason, and what was wrong with it.
    first: BTreeMap<(usize, &'static str), (String, String)>,
}

impl Clock {
    /// For the stages of these names, reading first and writing last.
    pub fn new(names: Vec<String>) -> Self {
        let stages = names.len();
        Self {
            names,
            drawn: 0,
            written: 0,
            seconds: vec![0.0; stages],
            rejects: vec![BTreeMap::new(); stages],
            first: BTreeMap::new(),
        }
    }

    /// Write what is left of a chunk, and what is not.
    pub fn write(&mut self, chunk: &mut Chunk, output: &mut Output) -> Result<()> {
        let started = Instant::now();
        let stage = self.seconds.len() - 1;
        for item in chunk.items.drain(..) {
            let key = item.sample.key.clone();
            match output.push(item.ordinal, item.split.as_ref(), item.sample)? {
                Ok(()) => self.written += 1,
                Err(reject) => chunk.rejected.push((item.ordinal, key, stage, reject)),
            }
        }
        chunk.rejected.sort_by_key(|(number, ..)| *number);
        self.drawn += chunk.drawn;
        for (number, key, stage, Reject { reason, detail }) in chunk.rejected.drain(..) {
            *self.rejects[stage].entry(reason).or_default() += 1;
            self.first.entry((stage, reason)).or_insert_with(|| (key.clone(), detail.clone()));
            let (stage, reason) = (self.names[stage].clone(), reason.to_owned());
            output.reject(&Rejected { number, key, stage, reason, detail })?;
        }
        for (total, busy) in self.seconds.iter_mut().zip(&chunk.busy) {
            *total += busy;
        }
        self.seconds[stage] += started.elapsed().as_secs_f64();
        Ok(())
    }

    pub fn progress(&self, read: u64) -> Progress {
        let rejected = self.rejects.iter().flat_map(BTreeMap::values).sum();
        Progress { read, written: self.written, rejected }
    }

    /// How often each stage rejected for each reason, the most frequent first, with a sample that it did.
    pub fn examples(&self) -> String {
        let count = |stage: usize, reason| self.rejects[stage].get(reason).copied().unwrap_or(0);
        let mut all: Vec<_> =
            self.first.iter().map(|((s, r), first)| (count(*s, *r), *s, *r, first)).collect();
        all.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
        let one = |(count, stage, reason, (key, detail)): &(u64, usize, &str, &(String, String))| {
            format!("{} ('{key}': {detail})", told([(self.names[*stage].as_str(), *reason, *count)]))
        };
        all.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// What each stage did.
    pub fn counts(&self) -> Vec<StageCount> {
        let mut taken = self.drawn;
        let count = |(stage, rejects): (&String, &BTreeMap<&'static str, u64>)| {
            let given = taken - rejects.values().sum::<u64>();
            let rejects = rejects.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
            let count = StageCount { stage: stage.clone(), taken, given, rejects };
            taken = given;
            count
        };
        self.names.iter().zip(&self.rejects).map(count).collect()
    }

    pub fn timings(&self, seconds: f64, threads: usize) -> Timings {
        let rate = |samples: u64, seconds: f64| samples as f64 / seconds.max(1e-9);
        let stages = self.counts().into_iter().zip(&self.seconds).map(|(count, seconds)| StageTime {
            stage: count.stage,
            seconds: *seconds,
            samples_per_second: rate(count.taken, *seconds),
        });
        let stages = stages.collect();
        Timings { seconds, threads, samples_per_second: rate(self.drawn, seconds), stages }
    }
}
