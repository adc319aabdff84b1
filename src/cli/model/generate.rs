//! `percept generate`: a model generates text from a prompt or a conversation.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use percept::hal::chrome_trace;
use percept::infer::{GenerateOptions, Generation, peak_memory};
use serde_json::{Value, json};

use super::continuation::Continuation;
use super::conversation::Conversation;
use super::guessing::{tell, told};
use super::loading::{Causal, report_fallbacks};
use crate::cli::Failure;
use crate::cli::failure::write_file;

#[derive(Args)]
pub struct Generate {
    #[command(flatten)]
    causal: Causal,
    #[command(flatten)]
    conversation: Conversation,
    #[command(flatten)]
    continuation: Continuation,
    /// With --json, print the log-probability of each token, and those of the N most likely ones at its place
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    /// Write a Chrome timeline of every operation; timing them one by one slows the run
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON document instead of the text
    #[arg(long)]
    json: bool,
}

impl Generate {
    pub fn run(self) -> Result<(), Failure> {
        let began = Instant::now();
        let messages = self.conversation.messages()?;
        let model = self.causal.model()?;
        let media = self.conversation.media(&messages, &*model)?;
        let inputs = model.processor().chat(&messages, &media).map_err(percept::infer::Error::from)?;
        let options = GenerateOptions { logprobs: self.logprobs, ..self.continuation.options(&*model)? };
        let mut session = self.causal.session_with(model, self.continuation.draft_model.as_deref())?;
        let load_ms = began.elapsed().as_secs_f64() * 1e3;
        if self.trace.is_some() {
            session.record_timeline();
        }
        let streams = !self.json;
        let generation = session.generate(&inputs, &options, &mut |text| {
            if streams {
                print!("{text}");
            }
        })?;
        report_fallbacks(session.reports());
        if let Some(file) = &self.trace {
            write_file(file, chrome_trace(&session.take_timeline()).to_string().as_bytes())?;
        }
        let memory = peak_memory(session.device());
        if self.json {
            let mut document = document(&generation, self.logprobs.is_some(), load_ms, memory);
            if options.draft.is_some() {
                tell(&mut document, &generation);
            }
            println!("{document}");
        } else {
            println!();
            if std::io::stderr().is_terminal() {
                let t = &generation.timings;
                eprintln!(
                    "{} + {} tokens; load {load_ms:.0} ms, prompt {:.1} tokens/s, then {:.1} tokens/s{}; {} MB",
                    generation.prompt_tokens,
                    generation.tokens.len(),
                    t.prefill_tokens_per_s,
                    t.decode_tokens_per_s,
                    told(&generation),
                    memory / 1_000_000
                );
            }
        }
        if let Some(why) = generation.not_drafted {
            eprintln!("not guessed for: {why}");
        }
        Ok(())
    }
}

fn document(g: &Generation, has_logprobs: bool, load_ms: f64, memory: u64) -> Value {
    let mut timings = json!(g.timings);
    timings["load_ms"] = json!(load_ms);
    let mut document = json!({
        "text": g.text, "tokens": g.tokens, "prompt_tokens": g.prompt_tokens, "finish_reason": g.finish,
        "timings": timings, "peak_memory_bytes": memory,
    });
    if has_logprobs {
        document["logprobs"] = json!(g.logprobs);
    }
    document
}
