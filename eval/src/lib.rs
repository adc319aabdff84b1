//! Evaluation: what models say to the questions of corpora and benchmarks, and what that is worth.
//!
//! A [`corpus`] of samples is scored by exact match. A [`task`] is a file that says where the questions of a benchmark lie, how they are
//! asked, and by which [`metric`] answers are scored; [`run`] asks them.

mod batches;
pub mod compare;
pub mod corpus;
pub mod devices;
pub mod embedding;
mod error;
pub mod explain;
pub mod join;
mod journal;
pub mod metric;
mod overlap;
pub mod remote;
pub mod report;
pub mod results;
pub mod run;
pub mod scoring;
pub mod speech;
pub mod task;

pub use error::{Error, Result};
pub use journal::{Given, Line};
