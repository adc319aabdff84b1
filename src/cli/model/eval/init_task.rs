//! `percept eval init-task`: a file to begin with.

use std::path::PathBuf;

use clap::Args;
use percept::eval::task::EXAMPLE;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::failure::write_file;

#[derive(Args)]
pub struct InitTask {
    /// The file, which must not be there yet
    #[arg(default_value = "task.toml", value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON document with the file's name
    #[arg(long)]
    json: bool,
}

impl InitTask {
    pub fn run(self) -> Result<(), Failure> {
        if self.file.exists() {
            return Err(Failure::Usage(format!("{}: it exists; give another name", self.file.display())));
        }
        let name = self
            .file
            .file_stem()
            .map_or_else(|| "my-task".into(), |name| name.to_string_lossy().into_owned());
        write_file(&self.file, EXAMPLE.replace("my-task", &name).as_bytes())?;
        if self.json {
            println!("{}", json!({"file": self.file}));
            return Ok(());
        }
        eprintln!("{}: fill it in, then run percept eval --tasks {0} --data DIR", self.file.display());
        Ok(())
    }
}
