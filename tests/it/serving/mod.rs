//! `percept serve`, driven over its connections with the small models of the parity cases.

mod adapters;
mod admin;
mod answers;
mod client;
mod forms;
mod hostile;
mod limits;
mod openapi;
mod others;
pub mod process;
mod protocols;
mod refusals;
mod seeds;
mod switches;
mod tls;
mod unread;
