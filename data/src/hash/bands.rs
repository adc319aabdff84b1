//! A compact table from hashes to numbers.

/// Numbers under hashes, several under one if need be: eight bytes an entry in a table that is at least a
/// third full.
pub(super) struct Bands {
    /// The upper half of a slot is the hash, the lower one the number. All ones is empty.
    slots: Vec<u64>,
    filled: usize,
}

const EMPTY: u64 = u64::MAX;

impl Bands {
    pub fn new() -> Self {
        Self { slots: vec![EMPTY; 1 << 10], filled: 0 }
    }

    /// Where a hash's search begins: its upper bits, once they are spread (Knuth's multiplicative hashing).
    fn start(&self, tag: u32) -> usize {
        let spread = u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    pub fn insert(&mut self, tag: u32, number: u32) {
        if self.filled * 4 >= self.slots.len() * 3 {
            let grown = vec![EMPTY; self.slots.len() * 2];
            for slot in std::mem::replace(&mut self.slots, grown) {
                if slot != EMPTY {
                    self.place(slot);
                }
            }
        }
        self.filled += 1;
        self.place(u64::from(tag) << 32 | u64::from(number));
    }

    fn place(&mut self, slot: u64) {
        let mut at = self.start((slot >> 32) as u32);
        while self.slots[at] != EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    /// The numbers under a hash.
    pub fn get(&self, tag: u32) -> impl Iterator<Item = u32> {
        let start = self.start(tag);
        let places =
            (0..self.slots.len()).map(move |step| self.slots[(start + step) & (self.slots.len() - 1)]);
        places.take_while(|slot| *slot != EMPTY).filter(move |s| (*s >> 32) as u32 == tag).map(|s| s as u32)
    }
}
