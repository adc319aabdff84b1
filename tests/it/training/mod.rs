//! Training held to PyTorch, and whole runs through files as a user makes them.

mod adapt;
mod adapters;
mod corpora;
mod folders;
mod golden;
mod runs;
mod stages;
mod ways;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::hal::{CompileOptions, Device};
use percept::train::{Config, Trainer};

/// The repository's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// A parity case's checkpoint.
fn model(name: &str) -> PathBuf {
    root().join("tests/parity").join(name).join("model")
}

fn cpu() -> Arc<dyn Device> {
    percept::registry().open("cpu").unwrap()
}

/// A trainer of a checkpoint; `rest` is more of a run's file.
fn trainer(path: &Path, device: Arc<dyn Device>, rest: &str) -> percept::train::Result<Trainer> {
    let text = format!(
        "out = 'unused'\nsteps = 50\nmodel = {{ path = '{}' }}\ndata = {{ length = 64, rows = 1 }}\n{rest}",
        path.display()
    );
    let config = Config::parse(Path::new("run.toml"), &text, &[])?;
    Trainer::new(&config, device, CompileOptions { strict: true, ..CompileOptions::default() })
}
