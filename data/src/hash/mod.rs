//! Similarity of images and texts: hashes that are near when what they are computed from is similar,
//! and indexes that find near ones without comparing all pairs; and hashes of what files hold.

mod bands;
mod content;
mod hamming;
mod minhash;
mod perceptual;

pub use content::{hash_file, hexadecimal};
pub use hamming::HammingIndex;
pub(crate) use minhash::normalized;
pub use minhash::{MinHash, Shingles, SimilarityIndex};
pub use perceptual::perceptual_hash;

/// A 64-bit hash of bytes: FNV-1a (Fowler, Noll, Vo) and the finalizer of SplitMix64 (Steele et al., 2014),
/// which spreads it over all bits. It is the same on every machine.
pub(crate) fn hash_bytes(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let fnv = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// The finalizer of SplitMix64.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
