//! `cargo xtask demo`: from a clean clone to a report, installing and building what is missing.

use std::path::Path;

use crate::command::{Error, Line};
use crate::setup;

/// What is passed on to `percept demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Arguments of `percept demo`, such as --device wgpu:0 --scale tiny
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Installs what the system lacks, builds the program and runs its demo in the repository's root.
pub fn run(root: &Path, options: &Options) -> Result<(), Error> {
    setup::run(false)?;
    Line::of("cargo build --release --locked --bin percept").run(root, |_| {})?;
    // It is built; cargo finds the program.
    let mut line = Line::of("cargo run --release --locked --quiet --bin percept -- demo");
    line.0.extend(options.rest.iter().cloned());
    line.run(root, |_| {})
}
