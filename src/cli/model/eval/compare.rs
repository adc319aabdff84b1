//! `percept eval compare`: two runs over the same questions.

use std::path::PathBuf;

use clap::Args;
use percept::eval::compare::{Compared, compare};
use percept::eval::metric::interval::Bootstrap;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::table::table;

#[derive(Args)]
pub struct Compare {
    /// The --out folder of the first run, or its samples of one task
    first: PathBuf,
    /// Those of the second
    second: PathBuf,
    /// The seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write a page with every answer that differs
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub fn run(self) -> Result<(), Failure> {
        let bootstrap = Bootstrap { seed: self.seed, ..Bootstrap::default() };
        let tasks = compare(&self.first, &self.second, &bootstrap)?;
        if let Some(path) = &self.html {
            let [first, second] = [&self.first, &self.second].map(|path| path.display().to_string());
            write_file(path, percept::eval::report::compared(&tasks, [&first, &second]).as_bytes())?;
        }
        if self.json {
            println!("{}", json!({"tasks": tasks}));
            return Ok(());
        }
        let header = [
            "task",
            "questions",
            "first",
            "second",
            "difference",
            "95 % interval",
            "p",
            "McNemar's p",
            "answers differ",
        ];
        let mut t = table(&header, &[1, 2, 3, 4, 5, 6, 7, 8]);
        tasks.iter().for_each(|task| {
            t.add_row(row(task));
        });
        println!("{t}");
        Ok(())
    }
}

fn row(task: &Compared) -> Vec<String> {
    let number = |value: f64| format!("{value:.4}");
    let gain = task.difference;
    let interval =
        |gain: percept::eval::metric::interval::Estimate| format!("{:+.4} to {:+.4}", gain.low, gain.high);
    vec![
        task.task.clone(),
        task.n.to_string(),
        number(task.means[0]),
        number(task.means[1]),
        gain.map_or_else(String::new, |gain| format!("{:+.4}", gain.value)),
        gain.map_or_else(String::new, interval),
        number(task.p),
        task.mcnemar.map_or_else(|| "-".into(), |test| number(test.p)),
        task.differ.len().to_string(),
    ]
}
