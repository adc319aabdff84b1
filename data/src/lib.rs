//! Data: acquired, prepared, looked at, and streamed to training.
//!
//! Everything is made of [`Sample`]s. Formats read and write them, stages change and reject them, the loader hands them
//! to training.

mod sample;

pub use sample::{Blob, Kind, Sample};
