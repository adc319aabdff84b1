//! HTTP over inference: the endpoints that clients of OpenAI's API speak, for many users of one set of weights.
//!
//! A [`Server`] has models, each on a thread of its own that steps through all answers under way. Requests are checked and
//! their media decoded within [`Limits`] before a model sees them. What a request says and the server does not honour is
//! refused by its name.

mod answers;
mod api;
mod app;
mod body;
mod clock;
mod constraint;
mod conversing;
mod core;
mod error;
mod failure;
mod fields;
mod io;
mod keys;
mod logprobs;
mod media;
mod metrics;
mod models;
mod observe;
mod options;
mod page;
mod reading;
mod reply;
mod router;
mod sampling;
mod server;
mod telling;
mod tls;
mod tools;
mod understanding;

pub use error::Error;
pub use failure::Failure;
pub use keys::read_keys;
pub use models::{Loaded, Open, OpenOver, Source};
pub use options::{Admin, Fetch, Limits, Log, OpenWanted, Options, Wanted, WantedKind};
pub use server::Server;
pub use understanding::Understanding;
