//! WebDataset: tar files, called shards, in which consecutive files with one key make a sample.
//!
//! A sample is `KEY.EXT` for a single medium, `KEY.0.EXT`, `KEY.1.EXT` ... for several, `KEY.txt` for its
//! text, and `KEY.json` for `{"messages": [...], "meta": {...}}`. What is written has fixed times, owners and
//! modes, so a shard's bytes depend on its samples alone. Shards are read as streams ([`read`]) or sample by
//! sample ([`Shard`]).

mod entries;
mod files;
mod index;
mod names;
mod read;
mod write;

pub use index::Shard;
pub use names::shard_key;
pub(super) use read::draws;
pub use read::{DEFAULT_CAP, Samples, read, read_from};
pub use write::{Writer, Written};

#[cfg(test)]
mod tests;
