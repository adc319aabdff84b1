//! The facade and the command line from outside, and everything that crosses crates. One program, so that the crate and what it needs are linked once.

mod adapters;
#[path = "../alone/mod.rs"]
mod alone;
#[path = "../assets/mod.rs"]
mod assets;
mod chat;
mod command_line;
mod device_commands;
mod devices;
mod drafts;
mod encoders;
mod evaluation;
mod evaluation_classes;
mod evaluation_models;
mod evaluation_servers;
mod exports;
mod gguf_files;
mod graph_compilers;
mod lanes;
#[path = "../needs/mod.rs"]
mod needs;
mod parity;
mod parity_case;
mod plugin_formats;
mod porters_tutorial;
mod runner;
mod sampling;
mod scheduler;
mod serving;
mod sessions;
mod shared_weights;
mod smollm2;
mod thin_slice;
mod training;
mod transcription;
