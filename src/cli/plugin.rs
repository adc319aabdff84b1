//! `percept plugin`: plug-ins that bring a device.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use percept_plugin::skeleton::{Kind, Language, skeleton};
use serde_json::json;

use crate::cli::Failure;
use crate::cli::failure::write_file;

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Write a plug-in that builds with one command, loads, and climbs the first rung of the ladder
    #[command(after_help = "Examples:\n  percept plugin new mychip --kind oplib --lang c\n  \
        percept plugin new mychip --kind graph --lang cpp\n  \
        percept plugin new mychip --kind oplib --lang rust --percept ~/percept\n\n\
        docs/porting.md goes on from there.")]
    New(New),
}

#[derive(Args)]
pub struct New {
    /// The folder to make; its name is the plug-in's
    dir: PathBuf,
    /// What the chip's software offers: oplib (functions for operations), kernel (a compiler of kernels) or graph (a
    /// compiler of graphs)
    #[arg(long)]
    kind: Kind,
    /// What to write it in: c, cpp or rust
    #[arg(long = "lang")]
    language: Language,
    /// The folder of Percept's sources, on which a plug-in in Rust depends
    #[arg(long, value_name = "DIR")]
    percept: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl PluginCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            PluginCommand::New(new) => new.run(),
        }
    }
}

impl New {
    fn run(self) -> Result<(), Failure> {
        let name = self.dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let files =
            skeleton(self.kind, self.language, name, self.percept.as_deref()).map_err(Failure::Usage)?;
        // What somebody wrote is not written over.
        if self.dir.exists() {
            let why = "it is there already; give a new folder".into();
            return Err(Failure::Content { path: self.dir, why });
        }
        for (file, text) in &files {
            let path = self.dir.join(file);
            let folder = path.parent().unwrap_or(&self.dir);
            std::fs::create_dir_all(folder)
                .map_err(|source| Failure::File { path: folder.to_path_buf(), source })?;
            write_file(&path, text.as_bytes())?;
        }
        let names: Vec<&str> = files.iter().map(|(file, _)| *file).collect();
        if self.json {
            println!("{}", json!({ "plugin": name, "folder": self.dir, "files": names }));
            return Ok(());
        }
        let build = if self.language == Language::Rust { "cargo build --release" } else { "make" };
        println!("{} has {}; build it there with {build}", self.dir.display(), names.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_written_once() {
        let base = tempfile::tempdir().unwrap();
        let new = |name: &str| {
            let (kind, language) = (Kind::Oplib, Language::C);
            New { dir: base.path().join(name), kind, language, percept: None, json: true }.run()
        };
        new("chip").unwrap();
        for file in ["plugin.c", "Makefile", "percept_plugin.h"] {
            let text = std::fs::read_to_string(base.path().join("chip").join(file)).unwrap();
            assert!(!text.contains("NAME"), "{file} has a placeholder");
        }
        assert!(new("chip").unwrap_err().to_string().contains("there already"));
        assert_eq!(new("Not a name").unwrap_err().exit_code(), 2);
    }
}
