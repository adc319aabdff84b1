//! Programs that an op library recorded: one that comes again with the same plans and memory is recorded, and replayed
//! from then on.

use crate::abi::{Handle, Oplib};

/// Programs that are remembered.
const KEPT: usize = 16;

/// What is known of the programs that ran last, the latest first.
#[derive(Default)]
pub struct Captures(Vec<Seen>);

struct Seen {
    /// The serial numbers of plans and memory, and offsets.
    key: Vec<u64>,
    state: State,
}

/// What to do with a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Launch it: it is new, or cannot be recorded.
    Launch,
    /// Record it: it came before.
    Record,
    /// Replay what was recorded.
    Replay(Handle),
}

impl Captures {
    /// What to do with a program; the next time it comes, it is to be recorded.
    pub fn next(&mut self, key: &[u64], table: &Oplib, device: Handle) -> State {
        let Some(at) = self.0.iter().position(|seen| seen.key == key) else {
            if self.0.len() == KEPT
                && let Some(oldest) = self.0.pop()
            {
                free(oldest, table, device);
            }
            self.0.insert(0, Seen { key: key.to_vec(), state: State::Record });
            return State::Launch;
        };
        self.0[..=at].rotate_right(1);
        self.0[0].state
    }

    /// Keep what was recorded of the program asked about last, or that it cannot be recorded.
    pub fn recorded(&mut self, capture: Option<Handle>) {
        if let Some(seen) = self.0.first_mut() {
            seen.state = capture.map_or(State::Launch, State::Replay);
        }
    }

    /// A plan or memory with this serial number goes away.
    pub fn forget(&mut self, serial: u64, table: Option<&Oplib>, device: Handle) {
        let Some(table) = table else { return };
        while let Some(at) = self.0.iter().position(|seen| seen.key.contains(&serial)) {
            free(self.0.remove(at), table, device);
        }
    }

    /// The device is closed.
    pub fn clear(&mut self, table: Option<&Oplib>, device: Handle) {
        let seen = std::mem::take(&mut self.0);
        if let Some(table) = table {
            seen.into_iter().for_each(|seen| free(seen, table, device));
        }
    }
}

fn free(seen: Seen, table: &Oplib, device: Handle) {
    if let (State::Replay(capture), Some(free)) = (seen.state, table.capture_free) {
        // SAFETY: the capture is the device's, and was taken out of the list.
        unsafe { free(device, capture) };
    }
}
