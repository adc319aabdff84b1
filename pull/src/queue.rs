//! Which sample is next, over all hosts and those that wait for another try.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use super::Watch;
use super::error::Error;
use super::hosts::Hosts;
use super::item::{Item, Task};
use super::place::Key;
use super::plan::Items;
use super::status::{Log, Outcome, Status};

/// Samples that wait for their host's turn or another try; more of the plan is read when there are fewer.
const MOST_WAITING: usize = 4096;

/// A sample and what was spent on it.
pub(super) struct Job {
    pub item: Item,
    pub key: Key,
    /// Where it is fetched from, unless it is a local file or none.
    pub url: Option<Url>,
    pub tries: u32,
    /// Tries since the last that brought it forward.
    pub spent: u32,
    /// How far any try has come.
    pub furthest: u64,
    /// What an earlier pull brought of a local file, which counts if the file is still the same.
    pub had: Option<Status>,
}

/// Jobs in the order of the plan, as hosts allow.
pub(super) struct Queue<'a> {
    root: &'a Path,
    log: &'a Log,
    hosts: &'a Hosts,
    watch: &'a dyn Watch,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    items: Items,
    read_all: bool,
    begun: HashSet<Key>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Breaks ties in the order of arrival.
    count: u64,
    stopped: bool,
}

struct Waiting {
    at: Instant,
    number: u64,
    job: Job,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<'a> Queue<'a> {
    pub fn new(items: Items, root: &'a Path, log: &'a Log, hosts: &'a Hosts, watch: &'a dyn Watch) -> Self {
        let state = State {
            items,
            read_all: false,
            begun: HashSet::new(),
            waiting: BinaryHeap::new(),
            count: 0,
            stopped: false,
        };
        Self { root, log, hosts, watch, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, as soon as there is one that may run; none when only jobs of other threads are left.
    pub fn next(&self) -> Result<Option<Job>, Error> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Ok(None);
            }
            let now = Instant::now();
            if state.waiting.peek().is_some_and(|Reverse(first)| first.at <= now)
                && let Some(Reverse(Waiting { job, .. })) = state.waiting.pop()
            {
                // The host may have requested a rest since this turn was given out.
                match job.url.as_ref().filter(|url| self.hosts.resting(url).is_some()) {
                    Some(url) => {
                        let turn = self.hosts.reserve(url);
                        state.push(job, turn);
                        continue;
                    }
                    None => return Ok(Some(job)),
                }
            }
            if !state.read_all && state.waiting.len() < MOST_WAITING {
                match state.items.next()? {
                    None => state.read_all = true,
                    Some(item) => {
                        let Some(job) = self.admit(&mut state, item)? else { continue };
                        let turn = job.url.as_ref().map_or(Duration::ZERO, |url| self.hosts.reserve(url));
                        if turn.is_zero() {
                            return Ok(Some(job));
                        }
                        state.push(job, turn);
                    }
                }
                continue;
            }
            let Some(Reverse(first)) = state.waiting.peek() else { return Ok(None) };
            let wait = first.at.saturating_duration_since(now);
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Come back to a job after a pause.
    pub fn again(&self, job: Job, pause: Duration) {
        self.lock().push(job, pause);
        self.changed.notify_one();
    }

    /// Let every thread find that there is nothing left.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// A job for an item, unless it is settled or another line of the plan asks for the same.
    fn admit(&self, state: &mut State, item: Item) -> Result<Option<Job>, Error> {
        let key = Key::of(&item.url);
        if !state.begun.insert(key) {
            self.watch.settled(None);
            return Ok(None);
        }
        let mut had = self.log.find(key)?.filter(|status| self.settles(status, &item));
        // Local files are read to know whether they have changed, which is work for the threads.
        let is_open = matches!(item.task, Task::Local { .. })
            && had.as_ref().is_some_and(|status| status.outcome == Outcome::Ok);
        if let Some(status) = had.take_if(|_| !is_open) {
            self.watch.settled(Some(&status));
            return Ok(None);
        }
        let url = match item.task {
            Task::Sample | Task::Tar { .. } | Task::Hub { .. } => Url::parse(&item.url).ok(),
            Task::Local { .. } | Task::Bad { .. } => None,
        };
        Ok(Some(Job { item, key, url, tries: 0, spent: 0, furthest: 0, had }))
    }

    /// Whether a status is the last word on an item: what arrived is still there, and is what is requested.
    fn settles(&self, status: &Status, item: &Item) -> bool {
        if status.outcome != Outcome::Ok {
            return true;
        }
        let Some(file) = &status.file else { return false };
        let same = |listed: &Option<String>, had: &Option<String>| match (listed, had) {
            (Some(listed), Some(had)) => listed.eq_ignore_ascii_case(had),
            _ => true,
        };
        let Ok(here) = fs::metadata(self.root.join(file)) else { return false };
        here.is_file()
            && Some(here.len()) == status.bytes
            && item.to().is_none_or(|to| to == file)
            && same(&item.sha256, &status.sha256)
    }
}

impl State {
    fn push(&mut self, job: Job, pause: Duration) {
        self.count += 1;
        self.waiting.push(Reverse(Waiting { at: Instant::now() + pause, number: self.count, job }));
    }
}
