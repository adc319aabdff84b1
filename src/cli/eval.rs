//! `percept eval`: how often a model's answers are those of a corpus.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use percept::data::Sample;
use percept::data::loader::Dataset;
use percept::infer::{GenerateOptions, Session};
use percept::train::{decode, question};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Failure;
use super::failure::write_file;
use super::loading::{Causal, report_fallbacks};
use super::table::table;

#[derive(Args)]
pub struct Eval {
    #[command(flatten)]
    causal: Causal,
    /// Corpora of questions with their answers: a split of one, as CORPUS/SPLIT or CORPUS:SPLIT, a folder of shards, or a
    /// .tar file
    #[arg(long, value_name = "DIR", value_delimiter = ',', required = true)]
    tasks: Vec<PathBuf>,
    /// Questions of each corpus at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write scores.json with every answer to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

/// What a model scored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scores {
    /// The checkpoint.
    pub model: String,
    /// Where it ran.
    pub device: String,
    /// One entry a corpus.
    pub tasks: Vec<Task>,
}

/// What a model scored on one corpus.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The corpus.
    pub name: String,
    /// Share of the questions that were answered word for word.
    pub accuracy: f64,
    /// Share of the most frequent answer, which asks for no model.
    pub baseline: f64,
    /// Questions.
    pub n: usize,
    /// Every answer.
    pub answers: Vec<Answer>,
}

/// One question and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// The sample.
    pub key: String,
    /// What was asked.
    pub question: String,
    /// What the corpus answers.
    pub expected: String,
    /// What the model answered.
    pub said: String,
}

impl Answer {
    /// Whether the model answered as the corpus does.
    pub fn is_right(&self) -> bool {
        self.said == self.expected
    }
}

impl Task {
    fn new(name: String, answers: Vec<Answer>) -> Self {
        let n = answers.len();
        let share = |k: usize| if n == 0 { 0.0 } else { k as f64 / n as f64 };
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        answers.iter().for_each(|a| *counts.entry(&a.expected).or_default() += 1);
        let most = counts.values().max().copied().unwrap_or(0);
        let right = answers.iter().filter(|a| a.is_right()).count();
        Self { name, accuracy: share(right), baseline: share(most), n, answers }
    }
}

impl Eval {
    pub fn run(self) -> Result<(), Failure> {
        let mut corpora = self.tasks.iter().map(|t| samples(t, self.limit)).collect::<Result<Vec<_>, _>>()?;
        // Two corpora are two tasks, whatever they are called.
        let names: Vec<String> = corpora.iter().map(|(name, ..)| name.clone()).collect();
        for (name, samples, _) in &mut corpora {
            if names.iter().filter(|other| *other == name).count() > 1 {
                *name = samples.path().display().to_string();
            }
        }
        let mut session = self.causal.session(self.causal.model()?)?;
        let total: usize = corpora.iter().map(|(_, _, n)| n).sum();
        let bar = progress(total as u64);
        let mut right = 0;
        let mut tasks: Vec<(String, Vec<Answer>)> = Vec::new();
        for (corpus, samples, n) in corpora {
            for at in 0..n {
                let sample = samples.read(at)?;
                let answer = ask(&mut session, &sample)?;
                bar.inc(1);
                let Some(answer) = answer else { continue };
                right += u64::from(answer.is_right());
                bar.set_message(format!("{right} right"));
                // A corpus may hold several tasks, which its samples then name.
                let name = sample.meta.get("task").and_then(|t| t.as_str()).unwrap_or(&corpus);
                match tasks.iter_mut().find(|t| t.0 == name) {
                    Some(task) => task.1.push(answer),
                    None => tasks.push((name.to_string(), vec![answer])),
                }
            }
        }
        let tasks = tasks.into_iter().map(|(name, answers)| Task::new(name, answers)).collect();
        bar.finish_and_clear();
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

/// A task's name, its samples, and how many of them are asked.
type Corpus = (String, Dataset, usize);

fn samples(path: &Path, limit: Option<usize>) -> Result<Corpus, Failure> {
    let samples = Dataset::at(path)?;
    if samples.is_empty() {
        let why = "there are no samples in it; give a folder of .tar shards, or one of them".to_string();
        return Err(Failure::Content { path: path.to_path_buf(), why });
    }
    let n = samples.len().min(limit.unwrap_or(usize::MAX));
    Ok((name(&samples), samples, n))
}

/// What a task is called whose samples name none: the corpus and the split, so that splits of several corpora differ.
fn name(samples: &Dataset) -> String {
    let corpus = samples.splits().root().file_name().map(|name| name.to_string_lossy().into_owned());
    match corpus.filter(|name| !samples.path().is_file() && name != samples.split()) {
        Some(corpus) => format!("{corpus}/{}", samples.split()),
        None => samples.split().to_string(),
    }
}

/// Ask for a sample's last answer; `None` when it has none.
fn ask(session: &mut Session, sample: &Sample) -> Result<Option<Answer>, Failure> {
    let Some((messages, expected)) = question(sample) else { return Ok(None) };
    let infer = |e: percept::modalities::Error| Failure::from(percept::infer::Error::from(e));
    let media = decode(session.model(), sample)
        .map_err(|e| Failure::Content { path: sample.key.clone().into(), why: e.to_string() })?;
    let inputs = session.model().processor().chat(&messages, &media).map_err(infer)?;
    // One token more than the answer has tells one that goes on.
    let tokens = session.model().processor().tokenizer().encode(&expected, false).map_err(infer)?.len();
    let options = GenerateOptions { max_tokens: Some(tokens + 4), ..GenerateOptions::default() };
    let said = session.generate(&inputs, &options, &mut |_| {})?.text;
    let question = messages.iter().map(said_by).collect::<Vec<_>>().join(" ");
    Ok(Some(Answer {
        key: sample.key.clone(),
        question,
        expected: expected.trim().to_string(),
        said: said.trim().to_string(),
    }))
}

/// The words of a turn.
fn said_by(message: &percept::modalities::Message) -> String {
    use percept::modalities::{Content, Part};
    match &message.content {
        Content::Nothing => String::new(),
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => parts
            .iter()
            .filter_map(|p| match p {
                Part::Text { text } => Some(text.trim()),
                _ => None,
            })
            .collect::<Vec<_>>()
            .join(" "),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_is_the_most_frequent_answer() {
        let answer = |expected: &str, said: &str| Answer {
            key: String::new(),
            question: String::new(),
            expected: expected.into(),
            said: said.into(),
        };
        let answers = vec![answer("a", "a"), answer("a", "b"), answer("b", "b"), answer("a", "aa")];
        let task = Task::new("x".into(), answers);
        assert_eq!((task.accuracy, task.baseline, task.n), (0.5, 0.75, 4));
        assert_eq!(Task::new("x".into(), Vec::new()).accuracy, 0.0);
    }
}
