//! Running a task: questions prepared ahead, asked in batches, written down one by one, and scored.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use percept_infer::{Finish, GenerateOptions, Request, Session, View};
use percept_modalities::{Inputs, Media};
use percept_model::CausalModel;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::journal::{Given, Journal, Line};
use crate::metric::choice;
use crate::metric::interval::Bootstrap;
use crate::overlap;
use crate::scoring::{Answer, Scored, Scores};
use crate::task::{By, Compare, FileHash, Question, Raw, Task, lacks};

/// How a task is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Questions that are answered side by side. Answers do not depend on it.
    pub batch: usize,
    /// Ask the first so many questions.
    pub limit: Option<usize>,
    /// Which part of how many this run asks: the questions whose number leaves the first when divided by the second.
    pub shard: (usize, usize),
    /// How intervals are found.
    pub bootstrap: Bootstrap,
    /// The folder of the journal, and of the results.
    pub out: Option<PathBuf>,
    /// What ran: the model, its hashes, its adapters, its dtype, the device. A journal of anything else is refused.
    pub ran: Value,
    /// Keep what the model was given for the first so many questions, to be held to the reference.
    pub keep: usize,
}

/// A question, what became of it, and its score.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The question; its media are let go of.
    pub question: Question,
    /// What became of it.
    pub line: Line,
    /// Its score.
    pub scored: Scored,
}

/// What the model was given and said, kept to be held to the reference.
pub struct Kept {
    /// The number of the question.
    pub doc_id: usize,
    /// The prompt.
    pub inputs: Inputs,
    /// The tokens of the answer.
    pub tokens: Vec<i32>,
}

/// What came of a task.
pub struct Outcome {
    /// Every question in order.
    pub asked: Vec<Asked>,
    /// The scores.
    pub scores: Scores,
    /// What was asked, by whom.
    pub manifest: Value,
    /// Those that were kept.
    pub kept: Vec<Kept>,
    /// Seconds of this run.
    pub seconds: f64,
    /// Seconds of them in which the model ran; the rest is the harness.
    pub model_seconds: f64,
    /// Tokens of the prompts and answers of this run: none of those that were answered before it.
    pub tokens: [usize; 2],
}

/// A question made ready.
enum Ready {
    /// It was answered before this run; what the model was given where that is kept.
    Known(Box<Question>, Line, Option<Box<Inputs>>),
    /// It cannot be asked, and why.
    Failed(Box<Question>, String),
    /// It can be.
    Ask(Box<Question>, Box<Inputs>, Given),
}

/// Run a task on a model. `told` is called for every answer, with whether it is new.
///
/// # Errors
/// When the data are not there or lack a column, the model lacks a kind of media, the journal is of another run, or the device fails. A
/// question whose media do not decode, or that is too long for the model, is no error: it counts as failed, and as wrong.
pub fn run(
    session: &mut Session,
    task: &Task,
    folder: &Path,
    options: &Options,
    told: &mut dyn FnMut(bool),
) -> Result<Outcome> {
    let start = Instant::now();
    if task.metric.is_embedded() {
        let why = "it compares embeddings; give a model that embeds, such as CLIP, SigLIP or BERT";
        return Err(Error::Task(format!("{}: {why}", task.name)));
    }
    let model = session.shared_model();
    if let Some(kind) = lacks(task, model.processor()) {
        return Err(Error::Lacks { task: task.name.clone(), kind });
    }
    let rows = task.questions(folder)?;
    let Opened { manifest, journal, known } = Opened::new(task, rows.hashes(), options)?;
    let rows = part(rows, options);
    let make = |raw: Result<Raw>| ready(task, &*model, &known, options.keep, &raw?);
    let batch = options.batch.max(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(batch);
    let mut state = Running::new(task, journal, told, options.keep);
    let mut model_seconds = 0.0;
    overlap::prepare(rows, threads, 2 * batch, make, |prepared| match task.score.by {
        By::Generation => generate(session, &mut state, prepared, batch, &mut model_seconds),
        By::Likelihood => compare(session, &mut state, prepared, &mut model_seconds),
    })?;
    outcome(state, manifest, options, start, model_seconds)
}

/// A run's journal, and what it held already.
pub(crate) struct Opened {
    pub manifest: Value,
    pub journal: Option<Journal>,
    pub known: BTreeMap<usize, Line>,
}

impl Opened {
    pub fn new(task: &Task, data: &[FileHash], options: &Options) -> Result<Self> {
        let manifest = manifest(task, data, &options.ran);
        let (part, parts) = options.shard;
        let shard = if parts > 1 { format!(".{part}-of-{parts}") } else { String::new() };
        let path = options.out.as_ref().map(|out| out.join(format!("{}{shard}.journal.jsonl", task.name)));
        let mut journal = path.map(|path| Journal::open(&path, &manifest)).transpose()?;
        let mut known =
            journal.as_mut().map(|journal| std::mem::take(&mut journal.lines)).unwrap_or_default();
        // A run takes over what parts of it have answered, as many as there were.
        if let Some(out) = &options.out {
            for (id, line) in of_parts(out, &task.name, &manifest)? {
                known.entry(id).or_insert(line);
            }
        }
        Ok(Self { manifest, journal, known })
    }
}

/// What the journals of a task's parts hold.
pub(crate) fn of_parts(out: &Path, task: &str, manifest: &Value) -> Result<BTreeMap<usize, Line>> {
    let mut known = BTreeMap::new();
    let fault = |e: std::io::Error| Error::Task(format!("{}: {e}", out.display()));
    let is_part = |name: &str| {
        let part = name.strip_prefix(task)?.strip_prefix('.')?.strip_suffix(".journal.jsonl")?;
        let (part, parts) = part.split_once("-of-")?;
        Some(part.parse::<usize>().is_ok() && parts.parse::<usize>().is_ok())
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(out).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        if entry.file_name().to_str().and_then(is_part) == Some(true) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    for path in paths {
        known.extend(Journal::lines(&path, manifest)?);
    }
    Ok(known)
}

/// Those of the rows that a run asks.
pub(crate) fn part<R>(rows: R, options: &Options) -> impl Iterator<Item = Result<Raw>> + use<R>
where
    R: Iterator<Item = Result<Raw>>,
{
    let (limit, (part, parts)) = (options.limit.unwrap_or(usize::MAX), options.shard);
    let within = move |raw: &Result<Raw>| raw.as_ref().map_or(true, |raw| raw.id < limit);
    let mine = move |raw: &Result<Raw>| raw.as_ref().map_or(true, |raw| raw.id % parts.max(1) == part);
    rows.take_while(within).filter(mine)
}

/// The scores of what was asked.
pub(crate) fn outcome(
    state: Running,
    manifest: Value,
    options: &Options,
    start: Instant,
    model_seconds: f64,
) -> Result<Outcome> {
    let Running { task, mut asked, mut kept, tokens, .. } = state;
    asked.sort_by_key(|(question, _)| question.id);
    kept.sort_by_key(|kept| kept.doc_id);
    if asked.is_empty() {
        return Err(Error::NoQuestions { task: task.name.clone() });
    }
    let answers: Vec<(Question, Answer)> =
        asked.iter().map(|(question, line)| (question.clone(), line.answer.clone())).collect();
    let scored = task.metric.score(task, &answers);
    let scores = task.metric.all(task, &answers, &scored, &options.bootstrap);
    let together = asked.into_iter().zip(scored);
    let asked = together.map(|((question, line), scored)| Asked { question, line, scored }).collect();
    let seconds = start.elapsed().as_secs_f64();
    Ok(Outcome { asked, scores, manifest, kept, seconds, model_seconds, tokens })
}

/// What decides the answers: nothing of it may differ when a run goes on.
pub(crate) fn manifest(task: &Task, data: &[FileHash], ran: &Value) -> Value {
    let mut manifest = json!({"task": task.name, "task_sha256": task.hash, "data": data});
    if let (Some(manifest), Some(ran)) = (manifest.as_object_mut(), ran.as_object()) {
        manifest.extend(ran.clone());
    }
    manifest
}

/// What is done to one row on any thread.
fn ready(
    task: &Task,
    model: &dyn CausalModel,
    known: &BTreeMap<usize, Line>,
    keep: usize,
    raw: &Raw,
) -> Result<Ready> {
    let mut question = Box::new(task.question(raw)?);
    let line = known.get(&raw.id).cloned();
    // What is kept is made ready again, and a box in pixels needs its image, whether it was asked before or not.
    let decoded = match line.is_none() || raw.id < keep || task.score.pixels {
        true => question.decode(model.processor()),
        false => Ok(Media::default()),
    };
    if let (true, Ok(media)) = (task.score.pixels, &decoded)
        && let Some(image) = media.images.first()
    {
        question.scale_box(image, task.compat);
    }
    let messages = question.messages();
    // Encoded media are not needed any more.
    question.media = Ok(Vec::new());
    if let Some(line) = line {
        let is_kept = raw.id < keep && line.answer.failed.is_none();
        let inputs = decoded
            .ok()
            .filter(|_| is_kept)
            .and_then(|media| model.processor().chat(&messages, &media).ok())
            .map(Box::new);
        return Ok(Ready::Known(question, line, inputs));
    }
    let media = match decoded {
        Ok(media) => media,
        Err(why) => return Ok(Ready::Failed(question, why)),
    };
    let inputs = match model.processor().chat(&messages, &media) {
        Ok(inputs) => inputs,
        Err(e) => return Ok(Ready::Failed(question, e.to_string())),
    };
    let rows = model.layout(&inputs).map(|layout| layout.ids.len());
    let context = model.decoder().context;
    match rows {
        Ok(rows) if rows < context => {}
        Ok(rows) => {
            let why = format!("its prompt has {rows} tokens, and the model's context {context}");
            return Ok(Ready::Failed(question, why));
        }
        Err(e) => return Ok(Ready::Failed(question, e.to_string())),
    }
    let view = View::of_inputs(inputs, &media, model.processor().tokenizer());
    let mut tokens = Sha256::new();
    view.tokens.iter().for_each(|token| tokens.update(token.id.to_le_bytes()));
    let given = Given {
        prompt: view.prompt.clone(),
        prompt_tokens: view.tokens.len(),
        tokens_sha256: hex(&tokens.finalize()),
        media: serde_json::to_value(&view.media).unwrap_or_default(),
        ..Given::default()
    };
    Ok(Ready::Ask(question, Box::new(view.into_inputs()), given))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a run has so far.
pub(crate) struct Running<'r> {
    task: &'r Task,
    journal: Option<Journal>,
    told: &'r mut dyn FnMut(bool),
    asked: Vec<(Question, Line)>,
    kept: Vec<Kept>,
    keep: usize,
    tokens: [usize; 2],
}

impl<'r> Running<'r> {
    pub fn new(task: &'r Task, journal: Option<Journal>, told: &'r mut dyn FnMut(bool), keep: usize) -> Self {
        Self { task, journal, told, asked: Vec::new(), kept: Vec::new(), keep, tokens: [0; 2] }
    }

    /// Take over what was answered before this run.
    pub fn known(&mut self, question: Question, line: Line) {
        self.asked.push((question, line));
        (self.told)(false);
    }

    /// Write down an answer.
    pub fn add(&mut self, question: Question, answer: Answer, given: Given) -> Result<()> {
        let line = Line { doc_id: question.id, answer, given };
        if let Some(journal) = &mut self.journal {
            journal.add(&line)?;
        }
        self.tokens[0] += line.given.prompt_tokens;
        self.tokens[1] += line.given.tokens.len();
        self.asked.push((question, line));
        (self.told)(true);
        Ok(())
    }

    /// Keep what is to be held to the reference.
    fn keep(&mut self, doc_id: usize, inputs: Inputs, tokens: &[i32]) {
        self.kept.push(Kept { doc_id, inputs, tokens: tokens.to_vec() });
    }

    /// Write down what needs no model; the rest is to be asked.
    fn settle(&mut self, ready: Ready) -> Result<Option<(Question, Inputs, Given)>> {
        match ready {
            Ready::Known(question, line, inputs) => {
                if let Some(inputs) = inputs {
                    self.keep(question.id, *inputs, &line.given.tokens);
                }
                self.known(*question, line);
                Ok(None)
            }
            Ready::Failed(question, why) => {
                let answer = Answer { failed: Some(why), ..Answer::default() };
                self.add(*question, answer, Given::default()).map(|()| None)
            }
            Ready::Ask(question, inputs, given) => Ok(Some((*question, *inputs, given))),
        }
    }
}

/// A question that the model is answering.
type Waiting = (Question, Given, Option<Inputs>);

fn generate(
    session: &mut Session,
    state: &mut Running,
    prepared: &mut dyn Iterator<Item = Result<Ready>>,
    batch: usize,
    model_seconds: &mut f64,
) -> Result<()> {
    let (task, keep) = (state.task, state.keep);
    let state = RefCell::new(state);
    let waiting: RefCell<Vec<Option<Waiting>>> = RefCell::default();
    // Seconds that the model waited for the next question.
    let idle = RefCell::new(0.0);
    let requests = std::iter::from_fn(|| {
        let asked = Instant::now();
        let next = loop {
            let ready = match prepared.next()? {
                Ok(ready) => ready,
                Err(e) => break Err(e),
            };
            match state.borrow_mut().settle(ready) {
                Ok(None) => {}
                Ok(Some(found)) => break Ok(found),
                Err(e) => break Err(e),
            }
        };
        *idle.borrow_mut() += asked.elapsed().as_secs_f64();
        Some(next.map(|(question, inputs, given)| {
            let options = GenerateOptions {
                max_tokens: Some(task.ask.max_tokens),
                stop: task.ask.stop.clone(),
                ..GenerateOptions::default()
            };
            let copy = (question.id < keep).then(|| inputs.clone());
            waiting.borrow_mut().push(Some((question, given, copy)));
            Request::new(inputs, options)
        }))
    });
    let start = Instant::now();
    session.generate_all::<Error>(requests, batch, |number, generation| {
        let found = waiting.borrow_mut().get_mut(number).and_then(Option::take);
        let Some((question, mut given, copy)) = found else { return Ok(()) };
        given.cut = generation.finish == Finish::Length;
        given.tokens = generation.tokens;
        let mut state = state.borrow_mut();
        if let Some(inputs) = copy {
            state.keep(question.id, inputs, &given.tokens);
        }
        let answer = Answer { said: generation.text.trim().to_owned(), ..Answer::default() };
        state.add(question, answer, given)
    })?;
    *model_seconds += start.elapsed().as_secs_f64() - idle.into_inner();
    Ok(())
}

fn compare(
    session: &mut Session,
    state: &mut Running,
    prepared: &mut dyn Iterator<Item = Result<Ready>>,
    model_seconds: &mut f64,
) -> Result<()> {
    for ready in prepared {
        let Some((question, inputs, mut given)) = state.settle(ready?)? else { continue };
        let start = Instant::now();
        let model = session.shared_model();
        let mut tokens = Vec::with_capacity(question.options.len());
        for (at, option) in question.options.iter().enumerate() {
            let text = match state.task.score.compare {
                Compare::Letters => choice::letter(at),
                Compare::Texts => option.clone(),
            };
            let ids =
                model.processor().tokenizer().encode(&text, false).map_err(percept_infer::Error::from)?;
            // No vocabulary is larger than i32.
            tokens.push(ids.into_iter().filter_map(|id| i32::try_from(id).ok()).collect::<Vec<i32>>());
        }
        if let Some(at) = tokens.iter().position(Vec::is_empty) {
            *model_seconds += start.elapsed().as_secs_f64();
            state.add(question, Answer { failed: Some(no_tokens(at)), ..Answer::default() }, given)?;
            continue;
        }
        let options: Vec<&[i32]> = tokens.iter().map(Vec::as_slice).collect();
        let mut likelihoods = Vec::with_capacity(options.len());
        session.score_each(&inputs, &options, |logits| {
            likelihoods.push(likelihood(&logits, options[likelihoods.len()]));
        })?;
        *model_seconds += start.elapsed().as_secs_f64();
        let answer = chosen(&likelihoods);
        given.likelihoods = likelihoods;
        given.tokens = answer.chosen.map(|at| tokens.swap_remove(at)).unwrap_or_default();
        if question.id < state.keep {
            state.keep(question.id, inputs, &given.tokens);
        }
        state.add(question, answer, given)?;
    }
    Ok(())
}

/// Why a question fails of which an option is empty: nothing is as likely as no tokens.
pub(crate) fn no_tokens(at: usize) -> String {
    format!("option {} has no tokens, so it has no likelihood", choice::letter(at))
}

/// The likeliest of some options as an answer, of the logarithms of their likelihoods.
pub(crate) fn chosen(likelihoods: &[f64]) -> Answer {
    let best = likelihoods.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let chosen = likelihoods.iter().position(|likelihood| *likelihood == best);
    let all: f64 = likelihoods.iter().map(|likelihood| (likelihood - best).exp()).sum();
    Answer {
        said: chosen.map(choice::letter).unwrap_or_default(),
        chosen,
        confidence: Some(1.0 / all),
        ..Answer::default()
    }
}

/// The mean over some tokens of the logarithm of their likelihood, of the logits [n, vocab] that decide them.
fn likelihood(logits: &[f32], ids: &[i32]) -> f64 {
    let vocabulary = logits.len() / ids.len().max(1);
    let of = |(row, id): (&[f32], &i32)| {
        let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|logit| f64::from(logit - greatest).exp()).sum();
        let logit =
            usize::try_from(*id).ok().and_then(|id| row.get(id)).copied().unwrap_or(f32::NEG_INFINITY);
        f64::from(logit - greatest) - sum.ln()
    };
    let sum: f64 = logits.chunks(vocabulary.max(1)).zip(ids).map(of).sum();
    sum / ids.len().max(1) as f64
}

/// How far a device strays from the reference on the same prompts.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Agreement {
    /// The device that is held to it.
    pub reference: String,
    /// Questions.
    pub n: usize,
    /// Tokens of their answers.
    pub tokens: usize,
    /// The share of them that the reference holds most likely too.
    pub top1: f64,
    /// The mean divergence of the device's distribution from the reference's, in nats.
    pub kl: f64,
    /// The question and the token at which the reference would first say something else.
    pub first_difference: Option<(usize, usize)>,
    /// The question on which both are furthest apart.
    pub worst: Option<Worst>,
}

/// The question on which a device strays most.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Worst {
    /// Its number.
    pub doc_id: usize,
    /// The mean divergence over its answer, in nats; `None` where the device's logits are no numbers.
    pub kl: Option<f64>,
}

/// Give the reference the prompts and answers of a device, and compare what both expect at each token.
///
/// # Errors
/// When one of the devices fails.
pub fn agreement(session: &mut Session, reference: &mut Session, kept: &[Kept]) -> Result<Agreement> {
    let (mut tokens, mut same, mut divergence, mut first) = (0, 0, 0.0, None);
    let mut worst: Option<(usize, f64)> = None;
    for Kept { doc_id, inputs, tokens: said } in kept.iter().filter(|kept| !kept.tokens.is_empty()) {
        let (ours, theirs) = (session.score(inputs, said)?, reference.score(inputs, said)?);
        let vocabulary = (ours.len() / said.len()).max(1);
        let before = divergence;
        for (at, (ours, theirs)) in ours.chunks(vocabulary).zip(theirs.chunks(vocabulary)).enumerate() {
            tokens += 1;
            let agree = greatest(ours) == greatest(theirs);
            same += usize::from(agree);
            divergence += kl(theirs, ours);
            if !agree && first.is_none() {
                first = Some((*doc_id, at));
            }
        }
        // What was infinite before says nothing of this one.
        let own = if before.is_finite() { (divergence - before) / said.len() as f64 } else { 0.0 };
        if worst.is_none_or(|(_, most)| own > most) {
            worst = Some((*doc_id, own));
        }
    }
    let worst = worst.map(|(doc_id, kl)| Worst { doc_id, kl: Some(kl).filter(|kl| kl.is_finite()) });
    let mean = |sum: f64| if tokens == 0 { 0.0 } else { sum / tokens as f64 };
    Ok(Agreement {
        reference: reference.device().info().id.clone(),
        n: kept.len(),
        tokens,
        top1: mean(same as f64),
        kl: mean(divergence),
        first_difference: first,
        worst,
    })
}

fn greatest(row: &[f32]) -> Option<usize> {
    (0..row.len()).reduce(|best, at| if row[at] > row[best] { at } else { best })
}

/// Kullback and Leibler's divergence of the second softmax from the first, in nats; infinite where one of both has logits that are no
/// numbers.
fn kl(reference: &[f32], other: &[f32]) -> f64 {
    let log_softmax = |row: &[f32]| {
        let greatest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - greatest).exp()).sum();
        row.iter().map(|logit| f64::from(*logit) - greatest - sum.ln()).collect::<Vec<_>>()
    };
    let (p, q) = (log_softmax(reference), log_softmax(other));
    let terms = p.iter().zip(&q).filter(|(p, _)| p.is_finite()).map(|(p, q)| p.exp() * (p - q));
    let sum = terms.sum::<f64>();
    if sum.is_nan() || reference.iter().chain(other).any(|logit| logit.is_nan()) {
        return f64::INFINITY;
    }
    sum.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_softmax() {
        // Probabilities 1/2, 1/2 and 1/4, 3/4: half of ln 2 and half of ln 2/3.
        let (p, q) = ([1.0f32, 1.0], [0.0f32, 3.0f32.ln()]);
        assert!((kl(&p, &q) - 0.5 * (2.0f64.ln() + (2.0f64 / 3.0).ln())).abs() < 1e-6);
        assert_eq!(kl(&q, &q), 0.0);
        assert_eq!(kl(&q, &[f32::NAN, 0.0]), f64::INFINITY);
        assert_eq!(greatest(&[1.0, 3.0, 3.0]), Some(1));
    }
}
