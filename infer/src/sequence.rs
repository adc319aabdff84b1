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
    /// Positions of the next row, one for each axis that positions were given on.
    pub(crate) next: Vec<i32>,
}

impl Sequence {
    /// An empty sequence with room for `capacity` rows; memory is taken when it is first used.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { caches: HashMap::new(), capacity, length: 0, next: vec![0] }
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
            self.next.iter_mut().for_each(|at| *at -= (self.length - length) as i32);
            self.length = length;
        }
    }
}
