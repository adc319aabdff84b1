//! How a model continues a conversation: how far, and how it chooses among tokens.

use std::path::PathBuf;

use clap::Args;
use percept::infer::{GenerateOptions, Recommended, Sampling};
use percept::model::CausalModel;

use super::guessing::Guessing;
use crate::cli::Failure;

/// What is not given comes from the checkpoint's generation_config.json.
#[derive(Args)]
pub struct Continuation {
    /// Largest number of tokens to generate; by default that of the checkpoint's generation_config.json, or until the
    /// model ends or its context is full
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    #[command(flatten)]
    choice: Choice,
    /// End before this text appears, which may be a special token such as <|im_end|>; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// A smaller model with the same tokenizer, of any kind that --model takes, that guesses the next tokens: the same
    /// answer, sooner where it is often right
    #[arg(long, value_name = "PATH")]
    pub draft_model: Option<PathBuf>,
    #[command(flatten)]
    guessing: Guessing,
}

impl Continuation {
    /// The options of a generation by this model.
    pub fn options(&self, model: &dyn CausalModel) -> Result<GenerateOptions, Failure> {
        let recommended = recommended(model)?;
        Ok(GenerateOptions {
            max_tokens: self.max_tokens.or(recommended.max_new_tokens),
            max_length: recommended.max_length,
            sampling: self.choice.sampling(&recommended),
            stop: [&self.stop[..], &recommended.stop].concat(),
            draft: self.guessing.draft(self.draft_model.is_some()),
            ..GenerateOptions::default()
        })
    }
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
