//! Near hashes among many.

/// Parts that a hash is cut into.
const PARTS: usize = 4;
/// Bits of a part.
const BITS: u32 = 16;
/// The end of a chain.
const END: u32 = u32::MAX;

/// Finds the 64-bit hashes within a Hamming distance of another: multi-index hashing (Norouzi et al., Fast
/// Search in Hamming Space with Multi-Index Hashing, 2012). A hash within distance `d` differs in at most `d
/// / 4` bits in one of its four parts at least, so only those are compared that share such a part. 28 bytes a
/// hash, and a mebibyte.
pub struct HammingIndex {
    distance: u32,
    /// Differences of a part that are looked at.
    masks: Vec<u16>,
    hashes: Vec<u64>,
    labels: Vec<u32>,
    /// The last hash with each value of each part, and before it the one before.
    heads: Vec<u32>,
    before: Vec<[u32; PARTS]>,
}

impl HammingIndex {
    /// An empty index for distances up to `distance`.
    pub fn new(distance: u32) -> Self {
        let masks = (0..=u16::MAX).filter(|mask| mask.count_ones() <= distance / PARTS as u32).collect();
        let heads = vec![END; PARTS << BITS];
        Self { distance, masks, hashes: Vec::new(), labels: Vec::new(), heads, before: Vec::new() }
    }

    /// Add a hash with a label.
    pub fn insert(&mut self, hash: u64, label: u32) {
        let at = self.hashes.len() as u32;
        let mut before = [END; PARTS];
        for (part, before) in before.iter_mut().enumerate() {
            *before = std::mem::replace(&mut self.heads[slot(part, part_of(hash, part))], at);
        }
        self.hashes.push(hash);
        self.labels.push(label);
        self.before.push(before);
    }

    /// The nearest hash within the distance, the first added of equals: its distance and label.
    pub fn nearest(&self, hash: u64) -> Option<(u32, u32)> {
        let mut best: Option<(u32, u32)> = None;
        for part in 0..PARTS {
            for mask in &self.masks {
                let mut at = self.heads[slot(part, part_of(hash, part) ^ mask)];
                while at != END {
                    let distance = (self.hashes[at as usize] ^ hash).count_ones();
                    if distance <= self.distance {
                        let found = (distance, at);
                        best = Some(best.map_or(found, |best| best.min(found)));
                    }
                    at = self.before[at as usize][part];
                }
            }
        }
        best.map(|(distance, at)| (distance, self.labels[at as usize]))
    }

    /// The number of hashes in the index.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether the index is empty.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

fn part_of(hash: u64, part: usize) -> u16 {
    (hash >> (BITS as usize * part)) as u16
}

fn slot(part: usize, value: u16) -> usize {
    part << BITS | usize::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    #[test]
    fn the_nearest_is_what_comparing_all_pairs_finds() {
        for distance in [0, 3, 6, 10, 14] {
            let mut index = HammingIndex::new(distance);
            let mut hashes: Vec<u64> = Vec::new();
            for i in 0..3000u64 {
                // Every third is near one before it: some bits of it are turned over.
                let hash = match i % 3 {
                    0 if i > 0 => {
                        let flips = mix(i) % 18;
                        (0..flips).fold(hashes[i as usize / 2], |h, f| h ^ 1 << (mix(i * 64 + f) % 64))
                    }
                    _ => mix(i + 77),
                };
                let all =
                    hashes.iter().enumerate().map(|(at, other)| ((other ^ hash).count_ones(), at as u32));
                let expected = all.filter(|(d, _)| *d <= distance).min();
                assert_eq!(index.nearest(hash), expected, "distance {distance}, hash {i}");
                index.insert(hash, i as u32);
                hashes.push(hash);
            }
        }
    }
}
