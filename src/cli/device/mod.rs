//! `percept devices` and `percept device`: the devices of this machine, and whether they compute correctly.

mod diff;
mod ladder;
mod list;
mod model_ops;
mod subject;
pub mod values;
mod walk;

use clap::Subcommand;

use crate::cli::Failure;

pub use list::Devices;

#[derive(Subcommand)]
pub enum DeviceCommand {
    /// Climb the conformance ladder and print what runs natively, decomposed or on the host, and how exactly
    #[command(
        after_help = "Examples:\n  percept device test cpu\n  percept device test wgpu:0 --level 2 --filter softmax\n  \
        percept device test wgpu:0 --json ladder.json --strict"
    )]
    Test(ladder::Ladder),
    /// Run a graph operation by operation beside the cpu and stop at the first that differs
    #[command(after_help = "Examples:\n  percept device diff wgpu:0 --model layer.graph")]
    Diff(diff::Diff),
}

impl DeviceCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            DeviceCommand::Test(c) => c.run(),
            DeviceCommand::Diff(c) => c.run(),
        }
    }
}
