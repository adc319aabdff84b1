//! Texts that share most of their pieces.

use serde::Deserialize;

use super::bands::Bands;
use super::{hash_bytes, mix};

/// Numbers in a signature.
const LENGTH: usize = 120;

/// The pieces that a text is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shingles {
    /// Consecutive letters and digits; what stands between words counts as one space.
    Characters,
    /// Runs of consecutive words.
    Words,
}

/// A text in lower case, with single spaces for all that is neither letter nor digit.
pub(crate) fn normalized(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            out.push(letter);
        } else if !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

impl Shingles {
    /// Hashes of the pieces of `size` letters or words. A shorter text is one piece.
    fn hashes(self, text: &str, size: usize) -> Vec<u64> {
        let text = normalized(text);
        let starts: Vec<usize> = match self {
            Self::Characters => text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
            Self::Words => {
                let spaces = text.match_indices(' ').map(|(at, _)| at + 1);
                [0].into_iter().chain(spaces).chain([text.len() + 1]).collect()
            }
        };
        let pieces = starts.len().saturating_sub(1);
        if text.is_empty() {
            return Vec::new();
        }
        let size = size.clamp(1, pieces);
        let end = |at: usize| match self {
            Self::Characters => starts[at],
            Self::Words => starts[at] - 1,
        };
        (0..=pieces - size).map(|at| hash_bytes(text[starts[at]..end(at + size)].bytes())).collect()
    }
}

/// The signature of a text: equal numbers in two of them are as frequent as the share of pieces that the
/// texts have in common of all their pieces, their Jaccard similarity (Broder, On the Resemblance and
/// Containment of Documents, 1997).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinHash([u32; LENGTH]);

impl MinHash {
    /// The signature of a text in pieces of `size`; `None` where there is neither letter nor digit in it.
    pub fn new(text: &str, shingles: Shingles, size: usize) -> Option<Self> {
        let pieces = shingles.hashes(text, size);
        if pieces.is_empty() {
            return None;
        }
        let mut least = [u32::MAX; LENGTH];
        for piece in pieces {
            for (i, least) in least.iter_mut().enumerate() {
                // One of a family of hashes of the piece: multiply and shift (Dietzfelbinger et al., 1997).
                let (factor, shift) = FACTORS[i];
                *least = (*least).min((piece.wrapping_mul(factor).wrapping_add(shift) >> 32) as u32);
            }
        }
        Some(Self(least))
    }

    /// The estimated Jaccard similarity of two texts.
    pub fn similarity(&self, other: &Self) -> f64 {
        let equal = self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count();
        equal as f64 / LENGTH as f64
    }
}

/// Odd factors and summands of the family of hashes.
static FACTORS: [(u64, u64); LENGTH] = {
    let mut factors = [(0, 0); LENGTH];
    let mut i = 0;
    while i < LENGTH {
        factors[i] = (scramble(2 * i as u64 + 1) | 1, scramble(2 * i as u64 + 2));
        i += 1;
    }
    factors
};

/// SplitMix64's number of an index, as a constant.
const fn scramble(index: u64) -> u64 {
    let n = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Finds a text that is similar to another without comparing all pairs: signatures are cut into bands, and
/// only texts that agree in a whole band are compared (Leskovec et al., Mining of Massive Datasets, chapter
/// 3). Of each text it keeps 120 bytes and, for each of some 24 bands, eight bytes in a table.
pub struct SimilarityIndex {
    threshold: f64,
    rows: usize,
    bands: Bands,
    signatures: Vec<[u8; LENGTH]>,
    labels: Vec<u32>,
}

impl SimilarityIndex {
    /// An empty index for similarities of at least `threshold`, between 0 and 1.
    pub fn new(threshold: f64) -> Self {
        // The longest bands by which a pair at the threshold is still found 98 times in 100.
        let found = |rows: &usize| 1.0 - (1.0 - threshold.powi(*rows as i32)).powi((LENGTH / rows) as i32);
        let rows = (1..=12).rev().find(|rows| found(rows) >= 0.98).unwrap_or(1);
        Self { threshold, rows, bands: Bands::new(), signatures: Vec::new(), labels: Vec::new() }
    }

    fn tags<'a>(&self, signature: &'a MinHash) -> impl Iterator<Item = u32> + use<'a> {
        let fold = |(band, rows): (usize, &[u32])| {
            (rows.iter().fold(band as u64, |hash, row| mix(hash ^ u64::from(*row))) >> 32) as u32
        };
        signature.0.chunks_exact(self.rows).enumerate().map(fold)
    }

    /// The most similar text that is similar enough, the first added of equals: its similarity and label.
    pub fn nearest(&self, signature: &MinHash) -> Option<(f64, u32)> {
        let short = low_bytes(signature);
        let mut seen = Vec::new();
        let mut best: Option<(f64, u32)> = None;
        for tag in self.tags(signature) {
            for number in self.bands.get(tag) {
                if seen.contains(&number) {
                    continue;
                }
                seen.push(number);
                let equal =
                    short.iter().zip(&self.signatures[number as usize]).filter(|(a, b)| a == b).count();
                // One in 256 bytes is equal by chance.
                let similarity = (equal as f64 / LENGTH as f64 - 1.0 / 256.0) / (255.0 / 256.0);
                let better =
                    |(best, at): (f64, u32)| similarity > best || (similarity == best && number < at);
                if similarity >= self.threshold && best.is_none_or(better) {
                    best = Some((similarity, number));
                }
            }
        }
        best.map(|(similarity, number)| (similarity, self.labels[number as usize]))
    }

    /// Add a text with a label.
    pub fn insert(&mut self, signature: &MinHash, label: u32) {
        let number = self.signatures.len() as u32;
        for tag in self.tags(signature) {
            self.bands.insert(tag, number);
        }
        self.signatures.push(low_bytes(signature));
        self.labels.push(label);
    }
}

fn low_bytes(signature: &MinHash) -> [u8; LENGTH] {
    signature.0.map(|number| number as u8)
}

impl MinHash {
    /// The signature as whole numbers of 64 bits, and back.
    pub(crate) fn packed(&self) -> impl Iterator<Item = u64> {
        self.0.as_chunks::<2>().0.iter().map(|[a, b]| u64::from(*a) << 32 | u64::from(*b))
    }

    /// The signature of [`MinHash::packed`]; `None` for another number of numbers.
    pub(crate) fn unpacked(numbers: &[u64]) -> Option<Self> {
        let mut signature = [0; LENGTH];
        if numbers.len() * 2 != LENGTH {
            return None;
        }
        for (pair, number) in signature.as_chunks_mut::<2>().0.iter_mut().zip(numbers) {
            *pair = [(number >> 32) as u32, *number as u32];
        }
        Some(Self(signature))
    }
}
