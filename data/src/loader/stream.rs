//! Draws prepared ahead on threads.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::{Draw, Loader, Position};
use crate::error::{Error, Result};
use crate::sample::Sample;

/// How many samples in a row may be bad before the data is given up.
const ATTEMPTS: u64 = 64;

/// How far ahead draws are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Threads that read and prepare; at least one is used.
    pub threads: usize,
    /// Draws that each thread holds ready; at least one.
    pub ahead: usize,
}

impl Default for Prefetch {
    /// Two threads with eight draws each.
    fn default() -> Self {
        Self { threads: 2, ahead: 8 }
    }
}

/// A draw and what was made of its sample.
#[derive(Debug)]
pub struct Drawn<T> {
    /// The draw, of the sample that replaced a bad one if there was one.
    pub draw: Draw,
    /// What was made of it.
    pub value: T,
    /// The bad samples that this one stands for.
    pub refused: Vec<Refused>,
}

/// A sample that was bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The draw that met it.
    pub draw: Draw,
    /// What was wrong with it.
    pub why: String,
}

/// Draws in order, prepared ahead. Its threads end when it is dropped.
pub struct Stream<T> {
    loader: Arc<Loader>,
    /// Thread `t` of `n` prepares the draws that are `t` modulo `n`, so their order is fixed.
    threads: Vec<Receiver<Result<Drawn<T>>>>,
    begin: u64,
    next: u64,
}

impl<T: Send + 'static> Stream<T> {
    pub(super) fn start<F, E>(loader: Arc<Loader>, begin: u64, prefetch: Prefetch, prepare: F) -> Self
    where
        F: Fn(&Draw, Sample) -> Result<T, E> + Send + Sync + 'static,
        E: Display,
    {
        let prepare = Arc::new(prepare);
        let count = prefetch.threads.max(1);
        let threads = (0..count).map(|thread| {
            let (out, ready) = sync_channel(prefetch.ahead.max(1));
            let (loader, prepare) = (Arc::clone(&loader), Arc::clone(&prepare));
            thread::spawn(move || {
                for number in (begin + thread as u64..).step_by(count) {
                    if out.send(drawn(&loader, loader.draw(number), &*prepare)).is_err() {
                        return;
                    }
                }
            });
            ready
        });
        let threads = threads.collect();
        Self { loader, threads, begin, next: begin }
    }
}

impl<T> Stream<T> {
    /// The position of the draws that were taken from it.
    pub fn position(&self) -> Position {
        self.loader.position(self.next)
    }

    /// The loader it draws from.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// The next draw. There always is one.
    ///
    /// # Errors
    /// When too many samples in a row are bad, or `prepare` panicked.
    pub fn next_draw(&mut self) -> Result<Drawn<T>> {
        let thread = (self.next - self.begin) % self.threads.len() as u64;
        let drawn = self.threads[thread as usize].recv().unwrap_or_else(|_| {
            let what = format!("the thread that prepares draw {} ended early: preparing panicked", self.next);
            Err(Error::Config(what))
        });
        self.next += u64::from(drawn.is_ok());
        drawn
    }

    /// The next `n` draws.
    ///
    /// # Errors
    /// As [`Stream::next_draw`].
    pub fn next_batch(&mut self, n: usize) -> Result<Vec<Drawn<T>>> {
        (0..n).map(|_| self.next_draw()).collect()
    }
}

/// Read and prepare a draw, or the next good one of its dataset.
fn drawn<T, E: Display>(
    loader: &Loader,
    draw: Draw,
    prepare: &dyn Fn(&Draw, Sample) -> Result<T, E>,
) -> Result<Drawn<T>> {
    let mut refused = Vec::new();
    for attempt in 0..ATTEMPTS.min(loader.datasets()[draw.dataset].len() as u64) {
        let draw = loader.replacement(&draw, attempt);
        let prepared = loader.read(&draw).map_err(|e| e.to_string());
        match prepared.and_then(|sample| prepare(&draw, sample).map_err(|e| e.to_string())) {
            Ok(value) => return Ok(Drawn { draw, value, refused }),
            Err(why) => refused.push(Refused { draw, why }),
        }
    }
    let path = loader.datasets()[draw.dataset].path().display();
    let (count, last) = (refused.len(), refused.last().map_or("", |refused| &refused.why));
    Err(Error::Config(format!("{path}: {count} samples in a row are bad, the last one because {last}")))
}
