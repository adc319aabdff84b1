//! Evaluation: what models say to the questions of corpora, and how often they are right.

mod error;
mod questions;
mod scores;

use std::path::{Path, PathBuf};

use percept_data::loader::Dataset;
use percept_infer::Engine;

pub use error::{Error, Result};
pub use scores::{Answer, Scores, Task};

/// A corpus whose questions are asked.
pub struct Corpus {
    /// What its task is called, unless its samples name theirs.
    name: String,
    samples: Dataset,
    /// How many of them are asked.
    count: usize,
}

impl Corpus {
    /// The corpora at some paths, of each of which `limit` samples are asked at most. Each is a split of a corpus, a
    /// folder of shards, or a shard.
    ///
    /// # Errors
    /// When one is not there, or holds no sample.
    pub fn open(paths: &[PathBuf], limit: Option<usize>) -> Result<Vec<Corpus>> {
        let mut corpora = paths.iter().map(|path| Corpus::at(path, limit)).collect::<Result<Vec<_>>>()?;
        // Two corpora are two tasks, whatever they are called.
        let names: Vec<String> = corpora.iter().map(|corpus| corpus.name.clone()).collect();
        for corpus in &mut corpora {
            if names.iter().filter(|name| **name == corpus.name).count() > 1 {
                corpus.name = corpus.samples.path().display().to_string();
            }
        }
        Ok(corpora)
    }

    fn at(path: &Path, limit: Option<usize>) -> Result<Corpus> {
        let samples = Dataset::at(path)?;
        if samples.is_empty() {
            return Err(Error::Empty(path.to_path_buf()));
        }
        let count = samples.len().min(limit.unwrap_or(usize::MAX));
        Ok(Corpus { name: name(&samples), samples, count })
    }

    /// How many of its samples are asked.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// What a task is called whose samples name none: the corpus and the split, so that splits of several corpora differ.
fn name(samples: &Dataset) -> String {
    let corpus = samples.splits().root().file_name().map(|name| name.to_string_lossy().into_owned());
    match corpus.filter(|name| !samples.path().is_file() && name != samples.split()) {
        Some(corpus) => format!("{corpus}/{}", samples.split()),
        None => samples.split().to_string(),
    }
}

/// Ask a model the questions of corpora. `told` hears of each sample in order: the answer, or `None` of a sample that asks
/// nothing. A corpus may hold several tasks, which its samples then name in `task` of their metadata.
///
/// # Errors
/// When a sample cannot be read or decoded, or the model fails.
pub fn evaluate(
    engine: &mut Engine,
    corpora: &[Corpus],
    told: &mut dyn FnMut(Option<&Answer>),
) -> Result<Vec<Task>> {
    let mut tasks: Vec<(String, Vec<Answer>)> = Vec::new();
    for corpus in corpora {
        for at in 0..corpus.count {
            let sample = corpus.samples.read(at)?;
            let answer = questions::ask(engine, &sample)?;
            told(answer.as_ref());
            let Some(answer) = answer else { continue };
            let name = sample.meta.get("task").and_then(|task| task.as_str()).unwrap_or(&corpus.name);
            match tasks.iter_mut().find(|(known, _)| known == name) {
                Some((_, answers)) => answers.push(answer),
                None => tasks.push((name.to_owned(), vec![answer])),
            }
        }
    }
    Ok(tasks.into_iter().map(|(name, answers)| Task::new(name, answers)).collect())
}
