//! Corpora: the questions of samples, and how often a model answers them word for word.

mod questions;
mod scores;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use percept_data::loader::Dataset;
use percept_infer::{Request, Session};
use percept_modalities::Processor;

use crate::error::{Error, Result};
use crate::overlap;
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

    /// What is doubtful about its shards, for those who read the scores.
    pub fn doubts(&self) -> impl Iterator<Item = String> {
        self.samples.doubts()
    }

    /// How many of its samples are asked.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What sample `at` asks: its task, the question and the request; `None` when it asks nothing.
    fn prepare(&self, at: usize, processor: &dyn Processor) -> Result<Option<(String, Answer, Request)>> {
        let sample = self.samples.read(at)?;
        let Some((question, request)) = questions::request(processor, &sample)? else { return Ok(None) };
        let task = sample.meta.get("task").and_then(|task| task.as_str()).unwrap_or(&self.name);
        Ok(Some((task.to_owned(), question, request)))
    }
}

/// What a task is called whose samples name none: the corpus and the split, so that splits of several corpora differ.
pub(crate) fn name(samples: &Dataset) -> String {
    let corpus = samples.splits().root().file_name().map(|name| name.to_string_lossy().into_owned());
    match corpus.filter(|name| !samples.path().is_file() && name != samples.split()) {
        Some(corpus) => format!("{corpus}/{}", samples.split()),
        None => samples.split().to_string(),
    }
}

/// Ask a model the questions of corpora, `batch` of them side by side. `told` gets each answer as soon as it is there, and
/// `None` for a sample that asks nothing. A corpus may hold several tasks, which its samples then name in `task` of their
/// metadata; answers are in the order of the samples.
///
/// # Errors
/// When a sample cannot be read or decoded, or the model fails.
pub fn evaluate(
    session: &mut Session,
    corpora: &[Corpus],
    batch: usize,
    told: &mut dyn FnMut(Option<&Answer>),
) -> Result<Vec<Task>> {
    let model = session.shared_model();
    let told = RefCell::new(told);
    // What was asked: the task and its question, whose answer comes later.
    let asked: RefCell<Vec<(String, Answer)>> = RefCell::default();
    let samples: Vec<_> =
        corpora.iter().flat_map(|corpus| (0..corpus.count).map(move |i| (corpus, i))).collect();
    // The next samples are read and decoded while the device answers those before, and no more media are in memory than
    // two batches have.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(batch.max(1));
    let read = |(corpus, at): (&Corpus, usize)| corpus.prepare(at, model.processor());
    overlap::prepare(samples.into_iter(), threads, 2 * batch.max(1), read, |prepared| {
        let requests = prepared.filter_map(|prepared| match prepared {
            Ok(Some((task, question, request))) => {
                asked.borrow_mut().push((task, question));
                Some(Ok(request))
            }
            Ok(None) => {
                (told.borrow_mut())(None);
                None
            }
            Err(e) => Some(Err(e)),
        });
        session.generate_all::<Error>(requests, batch, |i, generation| {
            // Each request is one of those that were asked, in their order.
            if let Some((_, answer)) = asked.borrow_mut().get_mut(i) {
                answer.said = generation.text.trim().to_owned();
                (told.borrow_mut())(Some(answer));
            }
            Ok(())
        })
    })?;
    let mut tasks: Vec<(String, Vec<Answer>)> = Vec::new();
    for (name, answer) in asked.into_inner() {
        match tasks.iter_mut().find(|(known, _)| *known == name) {
            Some((_, answers)) => answers.push(answer),
            None => tasks.push((name, vec![answer])),
        }
    }
    Ok(tasks.into_iter().map(|(name, answers)| Task::new(name, answers)).collect())
}
