//! `percept generate`: a model continues a conversation.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use percept::hal::chrome_trace;
use percept::infer::{GenerateOptions, Generation, Sampling, peak_memory};
use percept::model::CausalModel;
use serde_json::{Value, json};

use super::Failure;
use super::conversation::Conversation;
use super::failure::write_file;
use super::loading::{Causal, report_fallbacks};

#[derive(Args)]
pub struct Generate {
    #[command(flatten)]
    causal: Causal,
    #[command(flatten)]
    conversation: Conversation,
    /// Tokens at most; by default until the model ends, or its context
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    #[command(flatten)]
    choice: Choice,
    /// End before this text appears; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
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
    /// Divides the logits; 0 takes the most likely token
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Choose among this many of the most likely tokens; 0 is off
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Choose among the most likely tokens with this much probability together
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Choose among tokens at least this likely compared with the most likely
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Divides the logits of tokens seen before
    #[arg(long, value_name = "R")]
    repetition_penalty: Option<f32>,
    /// Seeds the draws: the same seed gives the same text
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

impl Choice {
    /// What was asked for, over what the checkpoint recommends; it draws only where one of the two says so.
    fn sampling(&self, model: &dyn CausalModel) -> Result<Sampling, Failure> {
        let recommended = model
            .weights()
            .checkpoint()
            .file("generation_config.json")
            .map_err(percept::model::Error::from)?;
        let recommended: Value =
            recommended.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null);
        let number = |key: &str| recommended.get(key).and_then(Value::as_f64).map(|v| v as f32);
        let draws = recommended.get("do_sample").and_then(Value::as_bool).unwrap_or(false);
        let only = |v: Option<f32>| v.filter(|_| draws);
        Ok(Sampling {
            temperature: self.temperature.or(only(number("temperature").or(Some(1.0)))).unwrap_or(0.0),
            top_k: self.top_k.or(only(number("top_k")).map(|k| k as usize)).unwrap_or(0),
            top_p: self.top_p.or(only(number("top_p"))).unwrap_or(1.0),
            min_p: self.min_p.or(only(number("min_p"))).unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.or(number("repetition_penalty")).unwrap_or(1.0),
            seed: self.seed,
            ..Sampling::default()
        })
    }
}

impl Generate {
    pub fn run(self) -> Result<(), Failure> {
        let began = Instant::now();
        let messages = self.conversation.messages()?;
        let model = self.causal.model()?;
        let media = self.conversation.media(&messages, model.processor())?;
        let inputs = model.processor().chat(&messages, &media).map_err(percept::infer::Error::from)?;
        let options = GenerateOptions {
            max_tokens: self.max_tokens,
            sampling: self.choice.sampling(&*model)?,
            stop: self.stop.clone(),
        };
        let mut engine = self.causal.engine(model)?;
        let load_ms = began.elapsed().as_secs_f64() * 1e3;
        if self.trace.is_some() {
            engine.record_timeline();
        }
        let streams = !self.json;
        let generation = engine.generate(&inputs, &options, &mut |text| {
            if streams {
                print!("{text}");
            }
        })?;
        report_fallbacks(engine.reports());
        if let Some(file) = &self.trace {
            write_file(file, chrome_trace(&engine.take_timeline()).to_string().as_bytes())?;
        }
        let memory = peak_memory(engine.device());
        if self.json {
            println!("{}", document(&generation, load_ms, memory));
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

fn document(g: &Generation, load_ms: f64, memory: u64) -> Value {
    let mut timings = json!(g.timings);
    timings["load_ms"] = json!(load_ms);
    json!({
        "text": g.text, "tokens": g.tokens, "prompt_tokens": g.prompt_tokens, "finish_reason": g.finish,
        "timings": timings, "peak_memory_bytes": memory,
    })
}
