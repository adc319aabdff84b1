//! Runs of models that answer whole batches and have no prompt: those that embed, and those that transcribe.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use percept_data::Blob;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::journal::{Given, Line};
use crate::overlap;
use crate::run::{Opened, Options, Outcome, Running, hex, outcome, part};
use crate::scoring::Answer;
use crate::task::{Question, Raw, Task};

/// A question made ready.
enum Ready<D> {
    /// It was answered before this run.
    Known(Box<Question>, Line),
    /// It cannot be asked, and why.
    Failed(Box<Question>, String),
    /// It can be.
    Ask(Box<Question>, Given, D),
}

/// Run a task: `decode` makes of a question what the model reads, on any thread and ahead of time, or says why it cannot be asked;
/// `answer` answers some of them.
pub(crate) fn in_batches<D: Send>(
    task: &Task,
    folder: &Path,
    options: &Options,
    told: &mut dyn FnMut(bool),
    decode: impl Fn(&Question, &[Blob]) -> std::result::Result<D, String> + Sync,
    mut answer: impl FnMut(&[(Question, D)]) -> Result<Vec<Answer>>,
) -> Result<Outcome> {
    let start = Instant::now();
    let rows = task.questions(folder)?;
    let Opened { manifest, journal, known } = Opened::new(task, rows.hashes(), options)?;
    let make = |raw: Result<Raw>| ready(task, &known, &raw?, &decode);
    let batch = options.batch.max(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(batch);
    let mut state = Running::new(task, journal, told, 0);
    let mut model_seconds = 0.0;
    overlap::prepare(part(rows, options), threads, 2 * batch, make, |prepared| {
        let (mut waiting, mut given): (Vec<(Question, D)>, Vec<Given>) = (Vec::new(), Vec::new());
        let mut ended = false;
        while !ended {
            match prepared.next().transpose()? {
                None => ended = true,
                Some(Ready::Known(question, line)) => state.known(*question, line),
                Some(Ready::Failed(question, why)) => {
                    let answer = Answer { failed: Some(why), ..Answer::default() };
                    state.add(*question, answer, Given::default())?;
                }
                Some(Ready::Ask(question, of, shown)) => {
                    waiting.push((*question, shown));
                    given.push(of);
                }
            }
            if waiting.len() == batch || (ended && !waiting.is_empty()) {
                let asked = Instant::now();
                let answers = answer(&waiting)?;
                model_seconds += asked.elapsed().as_secs_f64();
                for ((question, _), (answer, given)) in
                    waiting.drain(..).zip(answers.into_iter().zip(given.drain(..)))
                {
                    state.add(question, answer, given)?;
                }
            }
        }
        Ok::<_, crate::Error>(())
    })?;
    outcome(state, manifest, options, start, model_seconds)
}

fn ready<D>(
    task: &Task,
    known: &BTreeMap<usize, Line>,
    raw: &Raw,
    decode: &(impl Fn(&Question, &[Blob]) -> std::result::Result<D, String> + Sync),
) -> Result<Ready<D>> {
    let mut question = Box::new(task.question(raw)?);
    // Encoded media are not needed after this.
    let media = std::mem::replace(&mut question.media, Ok(Vec::new()));
    if let Some(line) = known.get(&raw.id) {
        return Ok(Ready::Known(question, line.clone()));
    }
    let media = match media {
        Ok(media) => media,
        Err(why) => return Ok(Ready::Failed(question, why)),
    };
    let hashed =
        media.iter().map(|blob| json!({"kind": blob.kind, "sha256": hex(&Sha256::digest(&blob.bytes))}));
    let mut texts = Sha256::new();
    for text in
        [Some(&question.prompt), question.other.as_ref()].into_iter().flatten().chain(&question.right.texts)
    {
        texts.update(text.as_bytes());
        texts.update([0]);
    }
    let given = Given {
        prompt: question.prompt.clone(),
        tokens_sha256: hex(&texts.finalize()),
        media: hashed.collect(),
        ..Given::default()
    };
    Ok(match decode(&question, &media) {
        Ok(shown) => Ready::Ask(question, given, shown),
        Err(why) => Ready::Failed(question, why),
    })
}
