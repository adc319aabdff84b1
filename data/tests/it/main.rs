//! Reading and building of data. One program, so that the crate and what it needs are linked once.

mod deduplication;
mod formats;
mod seeds;
mod stages;
mod synthetic;
