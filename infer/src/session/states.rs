//! States of sequences beside the pages of the cache, for models with layers that keep no keys and values.
//!
//! A state is that after so many rows, and is never changed: a step reads it from one slot and leaves the next one in
//! another, unless nobody else may want the first. So sequences share slots as they share pages, a fork costs nothing, a
//! prefix is shared where a state was left at the end of its last page, and guesses are taken back by going on from the state
//! before them.

use percept_model::PAGE;

use super::pages::{Page, Pages};
use super::sequence::Sequence;
use crate::error::{Error, Result};
use crate::generate::BATCH;

/// A state of a sequence.
#[derive(Clone)]
pub(crate) struct State {
    /// The rows that it is the state after.
    pub(super) rows: usize,
    pub(super) slot: Page,
}

/// Slots of a cache of so many pages that so many sequences share: a sequence has the state that it goes on from and the one
/// that it leaves, and what is more may be found again as prefixes.
pub(super) fn slots(pages: usize, sequences: usize) -> usize {
    match sequences {
        usize::MAX => pages.clamp(2, 2 * BATCH),
        n => n.saturating_mul(2).saturating_add(2),
    }
}

impl Sequence {
    /// Whether the state after the rows that it holds must outlive the next `rows` rows.
    fn keeps_state(&self, rows: usize) -> bool {
        let is_before_guesses = |state: &State| {
            self.drafts() > 0 && state.rows <= self.certain() && self.held + rows > self.certain()
        };
        self.states.last().is_none_or(|state| state.slot.is_shared() || is_before_guesses(state))
    }

    /// The slots that the next step reads the state from and leaves it in, where it has states.
    pub(super) fn state_slots(&self) -> [Option<u32>; 2] {
        let last = self.states.last().map(|state| state.slot.number());
        [last, self.next_state.as_ref().map(Page::number).or(last)]
    }

    /// The next `rows` rows were read.
    pub(super) fn advance(&mut self, rows: usize) {
        self.held += rows;
        match self.next_state.take() {
            Some(slot) => self.states.push(State { rows: self.held, slot }),
            None => self.states.last_mut().into_iter().for_each(|state| state.rows = self.held),
        }
        if self.drafts() == 0 {
            self.forget_states();
        }
    }

    /// Give back all states but the last one.
    pub(super) fn forget_states(&mut self) {
        self.states.drain(..self.states.len().saturating_sub(1));
    }

    /// Go back to the last state after no more rows than are held, as if nothing behind it had been read.
    pub(super) fn rewind(&mut self) {
        if self.states.is_empty() {
            return;
        }
        while self.states.last().is_some_and(|state| state.rows > self.held) {
            self.states.pop();
        }
        match self.states.last() {
            Some(state) if state.rows < self.held => {
                let rows = state.rows;
                self.hold_only(rows);
            }
            Some(_) => {}
            None => self.release(),
        }
    }
}

/// Slots for the states that sequences leave after their next rows.
///
/// # Errors
/// [`Error::CacheFull`] when there are not enough; nothing has changed then.
pub(super) fn take(states: &Pages, sequences: &mut [(&mut Sequence, usize)]) -> Result<()> {
    let mut wanting: Vec<&mut Sequence> = Vec::new();
    for (sequence, rows) in sequences {
        sequence.next_state = None;
        if sequence.keeps_state(*rows) {
            wanting.push(sequence);
        }
    }
    let (wanted, free) = (wanting.len(), states.free());
    if wanted > free {
        // A slot counts as much as a page.
        let [room, wanted, free] = [states.count(), wanted, free].map(|slots| slots * PAGE);
        return Err(Error::CacheFull { room, wanted, free });
    }
    wanting.into_iter().for_each(|sequence| sequence.next_state = states.take());
    Ok(())
}
