//! `percept bench prefill` and `percept bench decode`: how fast a model reads and writes.

use std::time::Instant;

use clap::Args;
use percept::infer::{Part, Session, peak_memory};
use percept::modalities::{Array, Inputs, Values};
use serde_json::json;

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
    measure: Repeat,
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
    measure: Repeat,
}

#[derive(Args)]
struct Repeat {
    /// Timed runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Prefill {
    pub fn run(self) -> Result<(), Failure> {
        let mut session = self.causal.session(self.causal.model()?)?;
        let inputs = prompt(&session, self.tokens);
        let settings = json!({"tokens": self.tokens});
        self.measure.report("prefill", &self.causal, settings, self.tokens, &mut session, |session| {
            let start = Instant::now();
            session.prefill(&inputs, 0, self.tokens.saturating_sub(1))?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
    }
}

impl Decode {
    pub fn run(self) -> Result<(), Failure> {
        let mut session = self.causal.session(self.causal.model()?)?;
        let inputs = prompt(&session, self.depth);
        let settings = json!({"depth": self.depth, "tokens": self.tokens, "batch": self.batch});
        let (steps, batch) = (self.tokens, self.batch.max(1));
        session.reserve_for(self.depth + steps, batch)?;
        self.measure.report("decode", &self.causal, settings, steps * batch, &mut session, |session| {
            let start = |session: &mut Session| match self.depth {
                0 => Ok::<_, Failure>(session.start_empty()),
                depth => Ok(session.prefill(&inputs, steps, depth - 1)?.0),
            };
            let mut sequences = (0..batch).map(|_| start(session)).collect::<Result<Vec<_>, _>>()?;
            let begun = Instant::now();
            for id in 0..steps {
                for (i, sequence) in sequences.iter_mut().enumerate() {
                    session.push(sequence, &[((id + 31 * i) % 1000) as i32])?;
                }
                let part = |sequence| Part { sequence, rows: 1, logits: 1 };
                session.step(&mut sequences.iter_mut().map(part).collect::<Vec<_>>())?;
            }
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        })
    }
}

/// A prompt of any tokens: their values do not change the work.
fn prompt(session: &Session, tokens: usize) -> Inputs {
    let vocab = session.model().decoder().vocab as i64;
    let ids = (0..tokens as i64).map(|i| i * 7919 % vocab).collect();
    let mut inputs = Inputs::default();
    inputs.arrays.insert("input_ids".into(), Array { dims: vec![1, tokens], values: Values::I64(ids) });
    inputs
}

impl Repeat {
    /// Run once to warm up, then timed; `run` gives milliseconds for `tokens` tokens.
    fn report(
        &self,
        bench: &str,
        causal: &Causal,
        mut settings: serde_json::Value,
        tokens: usize,
        session: &mut Session,
        mut run: impl FnMut(&mut Session) -> Result<f64, Failure>,
    ) -> Result<(), Failure> {
        let first = run(session)?;
        let mut times = (0..self.runs.max(1)).map(|_| run(session)).collect::<Result<Vec<_>, _>>()?;
        times.sort_by(f64::total_cmp);
        let (median, min) = (times[times.len() / 2], times[0]);
        report_fallbacks(session.reports());
        let id = &session.device().info().id;
        let rate = tokens as f64 / median * 1e3;
        settings["model"] = json!(causal.loading.model);
        settings["dtype"] = json!(causal.loading.dtype.map(|d| d.name()));
        settings["cache"] = json!(causal.cache.name());
        settings["int8"] = json!(causal.int8);
        if self.json {
            let document = json!({
                "bench": bench, "device": id, "settings": settings, "median_ms": median, "min_ms": min,
                "runs": times.len(), "rate": rate, "rate_unit": "tokens/s", "first_call_ms": first,
                "peak_memory_bytes": peak_memory(session.device()),
            });
            println!("{document}");
        } else {
            println!(
                "{bench} {settings} on {id}: median {median:.1} ms, best {min:.1} ms of {} runs, {rate:.1} tokens/s \
                 (best {:.1})",
                times.len(),
                tokens as f64 / min * 1e3
            );
        }
        Ok(())
    }
}
