//! `percept generate`: a model generates text from a prompt or a conversation.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use percept::hal::chrome_trace;
use percept::infer::{GenerateOptions, Generation, PromptLookup, Recommended, Sampling, peak_memory};
use percept::model::CausalModel;
use serde_json::{Value, json};

use super::conversation::Conversation;
use super::loading::{Causal, report_fallbacks};
use crate::cli::Failure;
use crate::cli::failure::write_file;

/// Last tokens that are looked for when the next ones are guessed.
const NGRAM: usize = 3;

#[derive(Args)]
pub struct Generate {
    #[command(flatten)]
    causal: Causal,
    #[command(flatten)]
    conversation: Conversation,
    /// Largest number of tokens to generate; by default that of the checkpoint's generation_config.json, or until the
    /// model ends or its context is full
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    #[command(flatten)]
    choice: Choice,
    /// End before this text appears, which may be a special token such as <|im_end|>; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// With --json, print the log-probability of each token, and those of the N most likely ones at its place
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    /// Guess up to N tokens at a time by what followed the last ones before: the same tokens, sooner where the answer
    /// quotes its prompt
    #[arg(long, value_name = "N")]
    lookup: Option<usize>,
    /// Write a Chrome timeline of every operation; timing them one by one slows the run
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON document instead of the text
    #[arg(long)]
    json: bool,
}

/// How tokens are chosen; what is not given comes from the checkpoint's generation_config.json.
#[derive(Args)]
struct Choice {
    /// Temperature, which divides the logits; 0 takes the most likely token
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Choose among this many of the most likely tokens; 0 is off, 50 the default where tokens are drawn
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Choose among the most likely tokens with this much probability together
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Choose among tokens at least this likely compared with the most likely
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Penalty that divides the logits of tokens that occurred before
    #[arg(long, value_name = "R")]
    repetition_penalty: Option<f32>,
    /// The seed of sampling: the same seed gives the same text
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

impl Choice {
    /// The options over the checkpoint's recommendations; it draws only where one of the two does.
    fn sampling(&self, recommended: &Recommended) -> Sampling {
        let draws = self.temperature.map_or(recommended.draws, |t| t > 0.0);
        let base = if draws { recommended.drawn() } else { recommended.sampling() };
        if !draws && (self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some()) {
            eprintln!(
                "the most likely token is taken, so --top-k, --top-p and --min-p have no effect; give --temperature"
            );
        }
        Sampling {
            temperature: self.temperature.unwrap_or(if draws { base.temperature } else { 0.0 }),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            seed: self.seed,
            ..base
        }
    }
}

/// What the checkpoint recommends; fields without effect are named.
fn recommended(model: &dyn CausalModel) -> Result<Recommended, Failure> {
    let file = model.weights().checkpoint().file("generation_config.json");
    let Some(bytes) = file.map_err(percept::model::Error::from)? else { return Ok(Recommended::default()) };
    let recommended = Recommended::read(&bytes)?;
    if !recommended.ignored.is_empty() {
        eprintln!(
            "generation_config.json: not supported, and without effect: {}",
            recommended.ignored.join(", ")
        );
    }
    Ok(recommended)
}

impl Generate {
    pub fn run(self) -> Result<(), Failure> {
        let began = Instant::now();
        let messages = self.conversation.messages()?;
        let model = self.causal.model()?;
        let media = self.conversation.media(&messages, model.processor())?;
        let inputs = model.processor().chat(&messages, &media).map_err(percept::infer::Error::from)?;
        let recommended = recommended(&*model)?;
        let options = GenerateOptions {
            max_tokens: self.max_tokens.or(recommended.max_new_tokens),
            max_length: recommended.max_length,
            sampling: self.choice.sampling(&recommended),
            stop: [&self.stop[..], &recommended.stop].concat(),
            logprobs: self.logprobs,
            draft: self.lookup.map(|tokens| PromptLookup { ngram: NGRAM, tokens }),
            ..GenerateOptions::default()
        };
        let mut session = self.causal.session(model)?;
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
            println!("{}", document(&generation, self.logprobs.is_some(), load_ms, memory));
        } else {
            println!();
            if std::io::stderr().is_terminal() {
                let t = &generation.timings;
                eprintln!(
                    "{} + {} tokens; load {load_ms:.0} ms, prompt {:.1} tokens/s, then {:.1} tokens/s; {} MB",
                    generation.prompt_tokens,
                    generation.tokens.len(),
                    t.prefill_tokens_per_s,
                    t.decode_tokens_per_s,
                    memory / 1_000_000
                );
            }
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
