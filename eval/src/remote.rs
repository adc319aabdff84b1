//! Models that a server runs: the same questions, put to it one by one, many at a time.

use std::path::Path;
use std::time::Instant;

use percept_modalities::image;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::journal::{Given, Line};
use crate::metric::choice;
use crate::overlap;
use crate::run::{Opened, Options, Outcome, Running, chosen, hex, no_tokens, outcome, part};
use crate::scoring::Answer;
use crate::task::{By, Compare, Question, Task};

/// What a server said.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// The answer.
    pub text: String,
    /// Tokens of the prompt and the answer, where it tells.
    pub tokens: [usize; 2],
    /// Whether the answer was as long as allowed.
    pub cut: bool,
    /// The likeliest first tokens, with the logarithms of their likelihoods, where the letters of options are compared.
    pub likeliest: Vec<(String, f64)>,
    /// The options as it read them, where their texts are compared.
    pub options: Vec<OptionRead>,
}

/// An option that a server read after the question.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionRead {
    /// Its tokens.
    pub tokens: Vec<i32>,
    /// The mean of the logarithms of their likelihoods.
    pub likelihood: f64,
}

/// First tokens that a server is asked for, where options are compared: as many as OpenAI's API gives.
pub const LIKELIEST: usize = 20;

/// Why a server said nothing.
#[derive(Debug, Clone)]
pub enum Refused {
    /// It does not take this question, which counts as failed.
    Question(String),
    /// It does not answer at all, which ends the run.
    Server(String),
}

/// A question after it was put.
enum Put {
    Known(Box<Question>, Line),
    Answered(Box<Question>, Answer, Given),
}

/// Run a task on a server. `ask` puts one question to it, from as many threads as the batch has.
///
/// # Errors
/// As [`crate::run::run`]; when the server does not answer, or does not tell the likelihoods that the task compares.
pub fn run_remote(
    task: &Task,
    folder: &Path,
    options: &Options,
    ask: &(dyn Fn(&Question) -> std::result::Result<Said, Refused> + Sync),
    told: &mut dyn FnMut(bool),
) -> Result<Outcome> {
    if task.metric.is_embedded() {
        let why = "it compares embeddings, which are not asked of a server; give the path of a model";
        return Err(Error::Task(format!("{}: {why}", task.name)));
    }
    let start = Instant::now();
    let rows = task.questions(folder)?;
    let Opened { manifest, journal, known } = Opened::new(task, rows.hashes(), options)?;
    let put = |raw: Result<crate::task::Raw>| -> Result<Put> {
        let raw = raw?;
        let mut question = Box::new(task.question(&raw)?);
        if task.score.pixels
            && let Some(first) = question.media.as_ref().ok().and_then(|media| media.first())
            && let Ok(image) = image::decode(&first.bytes, &image::Limits::default())
        {
            question.scale_box(&image, task.compat);
        }
        if let Some(line) = known.get(&raw.id) {
            question.media = Ok(Vec::new());
            return Ok(Put::Known(question, line.clone()));
        }
        let (answer, given) = answered(task, &question, ask)?;
        // Encoded media are not needed any more.
        question.media = Ok(Vec::new());
        Ok(Put::Answered(question, answer, given))
    };
    let mut state = Running::new(task, journal, told, 0);
    let batch = options.batch.max(1);
    overlap::prepare(part(rows, options), batch, 2 * batch, put, |all| {
        for put in all {
            match put? {
                Put::Known(question, line) => state.known(*question, line),
                Put::Answered(question, answer, given) => state.add(*question, answer, given)?,
            }
        }
        Ok::<_, Error>(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    outcome(state, manifest, options, start, seconds)
}

fn answered(
    task: &Task,
    question: &Question,
    ask: &(dyn Fn(&Question) -> std::result::Result<Said, Refused> + Sync),
) -> Result<(Answer, Given)> {
    let failed = |why: String| (Answer { failed: Some(why), ..Answer::default() }, Given::default());
    let media = match &question.media {
        Ok(media) => media,
        Err(why) => return Ok(failed(why.clone())),
    };
    let hashed =
        media.iter().map(|blob| json!({"kind": blob.kind, "sha256": hex(&Sha256::digest(&blob.bytes))}));
    let given = Given {
        prompt: question.prompt.clone(),
        tokens_sha256: hex(&Sha256::digest(question.prompt.as_bytes())),
        media: hashed.collect(),
        ..Given::default()
    };
    match ask(question) {
        Ok(said) => {
            let given = Given { prompt_tokens: said.tokens[0], cut: said.cut, ..given };
            if task.score.by == By::Generation {
                return Ok((Answer { said: said.text.trim().to_owned(), ..Answer::default() }, given));
            }
            if task.score.compare == Compare::Texts {
                if let Some(at) = said.options.iter().position(|option| option.tokens.is_empty()) {
                    return Ok(failed(no_tokens(at)));
                }
                let likelihoods: Vec<f64> = said.options.iter().map(|option| option.likelihood).collect();
                let answer = chosen(&likelihoods);
                let read = answer.chosen.and_then(|at| said.options.get(at));
                let tokens = read.map(|option| option.tokens.clone()).unwrap_or_default();
                return Ok((answer, Given { likelihoods, tokens, ..given }));
            }
            let likelihoods = letters(question.options.len(), &said.likeliest);
            if likelihoods.is_empty() {
                // What it begins with is no letter, and is read as an answer.
                return Ok((Answer { said: said.text.trim().to_owned(), ..Answer::default() }, given));
            }
            Ok((chosen(&likelihoods), Given { likelihoods, ..given }))
        }
        Err(Refused::Question(why)) => Ok(failed(why)),
        Err(Refused::Server(why)) => Err(Error::Task(why)),
    }
}

/// The likelihoods of the letters of options among the likeliest tokens, with or without a space before them. A letter that is not among them
/// is at most as likely as the least of them, and counts as that. Nothing where no letter is among them.
fn letters(options: usize, likeliest: &[(String, f64)]) -> Vec<f64> {
    let greatest = |letter: &str| {
        let own =
            likeliest.iter().filter(|(token, _)| token.trim() == letter).map(|(_, likelihood)| *likelihood);
        own.reduce(f64::max)
    };
    let found: Vec<Option<f64>> = (0..options).map(|at| greatest(&choice::letter(at))).collect();
    let least = likeliest.iter().map(|(_, likelihood)| *likelihood).fold(f64::INFINITY, f64::min);
    match found.iter().any(Option::is_some) {
        true => found.into_iter().map(|found| found.unwrap_or(least)).collect(),
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_found_among_the_likeliest_tokens() {
        let token = |text: &str, likelihood: f64| (text.to_owned(), likelihood);
        let likeliest =
            [token(" B", -0.5), token("The", -1.0), token("B", -2.0), token("A", -3.0), token("x", -4.0)];
        assert_eq!(letters(3, &likeliest), [-3.0, -0.5, -4.0]);
        let answer = chosen(&letters(3, &likeliest));
        assert_eq!((answer.said.as_str(), answer.chosen), ("B", Some(1)));
        let all: f64 = [-2.5f64, 0.0, -3.5].iter().map(|gap| gap.exp()).sum();
        assert!((answer.confidence.unwrap() - 1.0 / all).abs() < 1e-12);
        assert_eq!(letters(2, &likeliest[1..2]), [0.0; 0]);
    }
}
