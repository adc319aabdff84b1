//! `percept eval`: how often a model gives the answers of a corpus.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use percept::eval::{Corpus, Scores, evaluate};
use percept::infer::BATCH;
use serde_json::json;

use super::loading::{Causal, report_fallbacks};
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::table::table;

#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    causal: Causal,
    /// Corpora of questions with their answers: a split of one, as CORPUS/SPLIT or CORPUS:SPLIT, a folder of
    /// shards, or a .tar file
    #[arg(long, value_name = "DIR", value_delimiter = ',', required = true)]
    tasks: Vec<PathBuf>,
    /// Evaluate only the first N questions of each corpus; by default all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Batch size: questions answered in parallel; the answers do not depend on it
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    batch: usize,
    /// Write scores.json with every answer to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub fn run(self) -> Result<(), Failure> {
        let corpora = Corpus::open(&self.tasks, self.limit)?;
        corpora.iter().flat_map(Corpus::doubts).for_each(|doubt| eprintln!("warning: {doubt}"));
        let mut session = self.causal.session_of(self.causal.model()?, true)?;
        let bar = progress(corpora.iter().map(|corpus| corpus.count() as u64).sum());
        let mut right = 0;
        let tasks = evaluate(&mut session, &corpora, self.batch, &mut |answer| {
            bar.inc(1);
            if let Some(answer) = answer {
                right += u64::from(answer.is_right());
                bar.set_message(format!("{right} right"));
            }
        });
        bar.finish_and_clear();
        let tasks = tasks?;
        report_fallbacks(session.reports());
        let scores = Scores {
            model: self.causal.loading.model.display().to_string(),
            device: session.device().info().id.clone(),
            tasks,
        };
        if let Some(folder) = &self.out {
            let source = |source| Failure::File { path: folder.clone(), source };
            std::fs::create_dir_all(folder).map_err(source)?;
            write_file(&folder.join("scores.json"), format!("{:#}\n", json!(scores)).as_bytes())?;
        }
        if self.json {
            println!("{}", json!(scores));
            return Ok(());
        }
        let mut t = table(&["task", "accuracy", "most frequent answer", "questions"], &[1, 2, 3]);
        let percent = |v: f64| format!("{:.1} %", 100.0 * v);
        for task in &scores.tasks {
            t.add_row([
                task.name.clone(),
                percent(task.accuracy),
                percent(task.baseline),
                task.n.to_string(),
            ]);
        }
        println!("{t}");
        Ok(())
    }
}

fn progress(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
    let rate = |state: &ProgressState, w: &mut dyn std::fmt::Write| {
        // Nothing can be done about a line that cannot be written.
        let _ = write!(w, "{:.1} a second", state.per_sec());
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} questions, {rate}, {eta} left, {msg}");
    if let Ok(style) = style {
        bar.set_style(style.with_key("rate", rate));
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
