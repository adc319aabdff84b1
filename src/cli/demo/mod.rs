//! `percept demo`: the whole life of a small model, through the commands and files that a user has.
//!
//! Data are made and prepared, a new model learns from text, images, video and audio, is evaluated on
//! held-out data, is adapted to flags with low-rank adapters, and is evaluated again. Every command is
//! printed as it is run.

mod answers;
mod command;
mod report;
mod results;
mod runs;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::Failure;
use crate::cli::failure::write_file;
use command::Shell;
use runs::{Scale, Work};

#[derive(Args)]
pub struct Demo {
    /// Where to run: auto, cpu, wgpu:0
    #[arg(long, default_value = "auto", value_name = "ID")]
    device: String,
    /// Size of the demo: base learns its tasks in minutes on two cores, tiny only shows that everything runs
    #[arg(long, default_value = "base", value_name = "SCALE")]
    scale: Scale,
    /// Folder of the demo's files; the folder of an earlier demo is replaced
    #[arg(long, default_value = "demo", value_name = "DIR")]
    out: PathBuf,
    /// The seed of the data, their split, the model and the order of training: the same seed gives the same
    /// scores
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Print results.json on standard output when all is done; what the commands print goes to standard error
    #[arg(long)]
    json: bool,
}

/// The file that marks a folder as a demo's, which may be replaced.
const MARK: &str = "demo.json";

impl Demo {
    pub fn run(self) -> Result<(), Failure> {
        let began = Instant::now();
        clear(&self.out)?;
        let settings = json!({ "device": self.device, "scale": self.scale.name(), "seed": self.seed });
        write_file(&self.out.join(MARK), format!("{settings:#}\n").as_bytes())?;
        let work = Work { out: self.out.clone(), seed: self.seed, scale: self.scale };
        let mut shell = Shell::new(&self.device, self.json)?;

        shell.heading("Data: 1,911 emoji as images, video and audio with questions about them");
        shell.run(&work.build())?;
        shell.run(&work.tokenizer())?;

        shell.heading("A new model learns from text, images, video and audio");
        shell.write(&work.file("model/config.json"), &work.model())?;
        shell.write(&work.file("pretrain.toml"), &work.pretrain())?;
        shell.run(&work.train("pretrain.toml"))?;
        shell.run(&work.evaluate(&work.before(), "scores/before"))?;

        shell.heading("Adapted to flags: low-rank adapters, the image stem, the head and the norms");
        shell.write(&work.file("finetune.toml"), &work.finetune())?;
        shell.run(&work.train("finetune.toml"))?;
        shell.run(&work.evaluate(&work.after(), "scores/after"))?;

        shell.heading("Questions about held-out files");
        let answered = answers::collect(&mut shell, &work)?;

        let results = results::gather(&work, &shell, began.elapsed().as_secs_f64())?;
        write_file(&self.out.join("results.json"), format!("{:#}\n", json!(results)).as_bytes())?;
        let page = report::page(&work, &results, &answered, shell.log())?;
        let path = self.out.join("report.html");
        write_file(&path, page.as_bytes())?;
        if self.json {
            println!("{}", json!(results));
            return Ok(());
        }
        println!("\n{}", results.table());
        println!("{:.0} s in all; the report is {}", results.seconds, path.display());
        Ok(())
    }
}

/// Make room for a demo: an empty folder, or one that an earlier demo made.
fn clear(out: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { path: out.to_path_buf(), source };
    match std::fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) if out.join(MARK).is_file() => {
            std::fs::remove_dir_all(out).and_then(|()| std::fs::create_dir_all(out)).map_err(failed)
        }
        Ok(false) => Err(Failure::Usage(format!(
            "{} holds something that no demo made; name another folder with --out",
            out.display()
        ))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => std::fs::create_dir_all(out).map_err(failed),
        Err(e) => Err(failed(e)),
    }
}

impl ValueEnum for Scale {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Tiny, Self::Base]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_demo_made_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("demo");
        clear(&place).unwrap();
        std::fs::write(place.join("mine"), "x").unwrap();
        assert!(matches!(clear(&place), Err(Failure::Usage(_))));
        std::fs::write(place.join(MARK), "{}").unwrap();
        clear(&place).unwrap();
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    }
}
