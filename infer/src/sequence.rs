//! One sequence's keys and values.

use std::collections::HashMap;

use percept_hal::Buffer;

/// A sequence that the engine has read: its cache and where it stands.
pub struct Sequence {
    /// Keys and values by the names of the graph's inputs.
    pub(crate) caches: HashMap<String, Buffer>,
    /// Rows that the caches have room for.
    pub(crate) capacity: usize,
    /// Rows that hold something.
    pub(crate) length: usize,
    /// Position of the next row.
    pub(crate) next_position: i32,
}

impl Sequence {
    /// An empty sequence with room for `capacity` rows; memory is taken when it is first used.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { caches: HashMap::new(), capacity, length: 0, next_position: 0 }
    }

    /// Tokens read so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forget everything after the first `length` rows. Text only: positions must count up by one from there.
    pub fn truncate(&mut self, length: usize) {
        if length < self.length {
            self.next_position -= (self.length - length) as i32;
            self.length = length;
        }
    }
}
