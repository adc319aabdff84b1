//! The conformance ladder: one table of cases that tests a device and reports what it does wrong.
//!
//! L0 is memory, donation, order, lifetimes and errors; L1 the primitives over dtypes, odd shapes and special
//! values; L2 the composites against their own decompositions; L3 gradients, training, decoding and the
//! invariance of rows; L4 endurance, concurrency and speed. L5, models, is brought by the program that runs the ladder,
//! since families are not known here. The judge is [`percept_graph::reference`]; how
//! far a device may be from it is said in `tolerance.rs`.

mod agreement;
mod case;
mod cases;
mod problem;
mod reference_device;
mod report;
mod runner;
mod speed;
pub mod support;
mod table;
mod tolerance;
mod trial;
mod values;
mod worker;
mod workload;

pub use case::{Case, Fault, Level, Outcome, Status, Subject};
pub use cases::all as cases;
pub use reference_device::ReferenceDevice;
pub use report::{Counts, Report, Row};
pub use runner::{Options, RunError, Runner, run};
pub use tolerance::{Class, Tolerance};
pub use trial::{Rejection, TrialCase, trial_cases, try_kernel};
pub use worker::serve;
pub use workload::OpTime;
