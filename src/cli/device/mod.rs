//! `percept devices` and `percept device`: the devices of this machine, and whether they compute correctly.

mod compare;
mod diff;
mod families;
mod ladder;
mod list;
mod model_ops;
mod side_by_side;
mod subject;
pub mod values;

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
    /// Climb the ladder and write a page of what it found
    #[command(after_help = "Examples:\n  percept device report wgpu:0 --html wgpu.html\n  \
        percept device report cpu --level 2 --json cpu.json")]
    Report(compare::DeviceReport),
    /// Show devices side by side: what each runs, how exactly, how fast, and where they differ
    #[command(after_help = "Examples:\n  percept device compare cpu wgpu:0 --level 2\n  \
        percept device test cpu --json cpu.json && percept device compare cpu.json chip.json --html both.html")]
    Compare(compare::Compare),
    /// Run a graph operation by operation beside the cpu and stop at the first that differs
    #[command(after_help = "Examples:\n  percept device diff wgpu:0 --model layer.graph\n  \
        percept device diff wgpu:0 --model models/vlm --image scan.png 'What is shown?'")]
    Diff(diff::Diff),
}

impl DeviceCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            DeviceCommand::Test(c) => c.run(),
            DeviceCommand::Report(c) => c.run(),
            DeviceCommand::Compare(c) => c.run(),
            DeviceCommand::Diff(c) => c.run(),
        }
    }
}
