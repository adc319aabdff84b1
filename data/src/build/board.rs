//! Who does what next: chunks of samples on their way through the parts of a recipe.
//!
//! A recipe is cut at its gates, the stages that handle samples in order. Between two gates chunks are worked
//! on side by side; at a gate they pass one after another, in the order in which they were read. So what
//! comes out depends on the order of reading alone, and not on the number of threads. A thread prefers the
//! last gate that has work, so chunks leave as soon as they can, and reading stops when enough of them are
//! under way: memory does not grow with the corpus.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// What a thread is to do.
pub(super) enum Work<C> {
    /// Read the chunk of this number.
    Read(u64),
    /// Take a chunk through a gate, and then on to the next one.
    Pass(usize, C),
    /// Everything is done, or has failed.
    Stop,
}

/// The state that threads share.
pub(super) struct Board<C> {
    state: Mutex<State<C>>,
    changed: Condvar,
    most_under_way: usize,
}

struct State<C> {
    next_read: u64,
    is_reading: bool,
    ended: bool,
    under_way: usize,
    gates: Vec<Gate<C>>,
    failure: Option<Error>,
}

struct Gate<C> {
    /// The chunk that passes next.
    next: u64,
    is_busy: bool,
    waiting: BTreeMap<u64, C>,
}

impl<C> Board<C> {
    /// A board of so many gates, with so many chunks under way at once.
    pub fn new(gates: usize, most_under_way: usize) -> Self {
        let gate = || Gate { next: 0, is_busy: false, waiting: BTreeMap::new() };
        let gates = (0..gates).map(|_| gate()).collect();
        let state =
            State { next_read: 0, is_reading: false, ended: false, under_way: 0, gates, failure: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), most_under_way }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // The state is changed in steps that cannot panic, so it is whole even if a thread did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next work, waited for if need be.
    pub fn take(&self) -> Work<C> {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() {
                return Work::Stop;
            }
            let ready = |gate: &Gate<C>| !gate.is_busy && gate.waiting.contains_key(&gate.next);
            if let Some(at) = state.gates.iter().rposition(ready) {
                let gate = &mut state.gates[at];
                let next = gate.next;
                if let Some(chunk) = gate.waiting.remove(&next) {
                    gate.is_busy = true;
                    return Work::Pass(at, chunk);
                }
            }
            if !state.ended && !state.is_reading && state.under_way < self.most_under_way {
                state.is_reading = true;
                state.under_way += 1;
                state.next_read += 1;
                return Work::Read(state.next_read - 1);
            }
            if state.ended && state.under_way == 0 {
                return Work::Stop;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The chunk was read, or there was none any more.
    pub fn has_read(&self, any: bool) {
        let mut state = self.lock();
        state.is_reading = false;
        if !any {
            state.ended = true;
            state.under_way -= 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The chunk is through a gate; the next one may pass.
    pub fn has_passed(&self, gate: usize) {
        let mut state = self.lock();
        state.gates[gate].is_busy = false;
        state.gates[gate].next += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// The chunk of this number comes before a gate, or has left where there is none any more.
    pub fn arrive(&self, gate: usize, number: u64, chunk: C) {
        let mut state = self.lock();
        match state.gates.get_mut(gate) {
            Some(gate) => {
                gate.waiting.insert(number, chunk);
            }
            None => state.under_way -= 1,
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Nothing more is done; the first failure is kept.
    pub fn fail(&self, error: Error) {
        self.lock().failure.get_or_insert(error);
        self.changed.notify_all();
    }

    /// The failure, if there was one.
    pub fn into_failure(self) -> Option<Error> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).failure
    }
}
