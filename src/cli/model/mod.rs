//! What is done with a model: it is trained, run, evaluated, converted and looked into.

pub mod chat;
mod continuation;
pub mod conversation;
pub mod convert;
pub mod embed;
pub mod eval;
pub mod export;
pub mod generate;
pub mod guessing;
pub mod hub;
pub mod inspect;
pub mod loading;
pub mod train;
pub mod transcribe;
mod view;
