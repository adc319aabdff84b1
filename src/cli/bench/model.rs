//! `percept bench prefill` and `percept bench decode`: how fast a model reads and writes.

use std::time::Instant;

use clap::Args;
use percept::infer::{Part, Session, peak_memory};
use percept::modalities::{Array, Inputs, Values};
use serde_json::{Value, json};

use super::explain::Roof;
use super::runs::{Runs, Timed};
use crate::cli::Failure;
use crate::cli::model::loading::{Causal, report_fallbacks};

#[derive(Args)]
pub struct Prefill {
    #[command(flatten)]
    causal: Causal,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512)]
    tokens: usize,
    #[command(flatten)]
    measure: Runs,
}

#[derive(Args)]
pub struct Decode {
    #[command(flatten)]
    causal: Causal,
    /// Tokens in the cache before the first timed step
    #[arg(long, default_value_t = 0)]
    depth: usize,
    /// Steps of one run
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Sequences that a step reads a token of
    #[arg(long, default_value_t = 1)]
    batch: usize,
    #[command(flatten)]
    measure: Runs,
}

impl Prefill {
    pub fn run(self) -> Result<(), Failure> {
        let mut session = self.causal.session(self.causal.model()?)?;
        let settings = json!({"tokens": self.tokens});
        let mut turn = 0;
        measured(
            &self.measure,
            "prefill",
            &self.causal,
            settings,
            self.tokens,
            &mut session,
            |session, clocks| {
                turn += 1;
                let inputs = prompt(session, self.tokens, turn);
                if clocks {
                    session.record_timeline();
                }
                let start = Instant::now();
                session.prefill(&inputs, 0, self.tokens.saturating_sub(1))?;
                Ok(start.elapsed().as_secs_f64() * 1e3)
            },
        )
    }
}

impl Decode {
    pub fn run(self) -> Result<(), Failure> {
        let mut session = self.causal.session(self.causal.model()?)?;
        let settings = json!({"depth": self.depth, "tokens": self.tokens, "batch": self.batch});
        let (steps, batch) = (self.tokens, self.batch.max(1));
        session.reserve_for(self.depth + steps, batch)?;
        let mut turn = 0;
        measured(
            &self.measure,
            "decode",
            &self.causal,
            settings,
            steps * batch,
            &mut session,
            |session, clocks| {
                let mut start = |session: &mut Session| match self.depth {
                    0 => Ok::<_, Failure>(session.start_empty()),
                    depth => {
                        turn += 1;
                        let inputs = prompt(session, depth, turn);
                        Ok(session.prefill(&inputs, steps, depth - 1)?.0)
                    }
                };
                let mut sequences = (0..batch).map(|_| start(session)).collect::<Result<Vec<_>, _>>()?;
                if clocks {
                    session.record_timeline();
                }
                let (begun, mut logits) = (Instant::now(), Vec::new());
                for id in 0..steps {
                    for (i, sequence) in sequences.iter_mut().enumerate() {
                        session.push(sequence, &[((id + 31 * i) % 1000) as i32])?;
                    }
                    let part = |sequence| Part { sequence, rows: 1, logits: 1 };
                    session
                        .step_into(&mut sequences.iter_mut().map(part).collect::<Vec<_>>(), &mut logits)?;
                }
                Ok(begun.elapsed().as_secs_f64() * 1e3)
            },
        )
    }
}

/// A prompt of any tokens: their values do not change the work. Each turn's is another from its first token on, for what the
/// cache still has of an earlier one would not be read again.
fn prompt(session: &Session, tokens: usize, turn: usize) -> Inputs {
    let values = Values::I64(token_ids(tokens, session.model().decoder().vocab, turn));
    let mut inputs = Inputs::default();
    inputs.arrays.insert("input_ids".into(), Array { dims: vec![1, tokens], values });
    inputs
}

fn token_ids(tokens: usize, vocab: usize, turn: usize) -> Vec<i64> {
    (0..tokens).map(|i| ((i * 7919 + turn) % vocab.max(1)) as i64).collect()
}

/// Time runs that give milliseconds for `tokens` tokens, and print them. A run that is told to have clocks records the
/// session's timeline.
fn measured(
    measure: &Runs,
    bench: &str,
    causal: &Causal,
    mut settings: Value,
    tokens: usize,
    session: &mut Session,
    mut run: impl FnMut(&mut Session, bool) -> Result<f64, Failure>,
) -> Result<(), Failure> {
    let timing = measure.time(|| run(session, false))?;
    let breakdown = measure.explain(&timing, || {
        let ms = run(session, true)?;
        Ok((ms, session.take_timeline(), Roof::measure(session.device())?))
    })?;
    report_fallbacks(session.reports());
    settings["cache"] = json!(causal.cache.name());
    settings["int8"] = json!(causal.int8);
    let device = &session.device().info().id;
    let more = json!({ "peak_memory_bytes": peak_memory(session.device()) });
    let timed = Timed { bench, device, settings, timing, work: (tokens as f64, "tokens/s"), more, breakdown };
    measure.print(timed, &causal.loading);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prompt_begins_as_the_one_before() {
        let [first, second] = [0, 1].map(|turn| token_ids(64, 1000, turn));
        assert!(first[0] != second[0] && first.iter().chain(&second).all(|id| (0..1000).contains(id)));
        assert_eq!(token_ids(64, 1000, 0), first);
    }
}
