//! `percept bench train-step`: how fast a decoder is trained.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use percept::graph::DType;
use percept::hal::CompileOptions;
use percept::infer::peak_memory;
use percept::train::batch::Batch;
use percept::train::encode::Encoded;
use percept::train::{Config, Single, Trainer};
use serde_json::json;

use super::Timing;
use super::explain::{Breakdown, Roof};
use crate::cli::Failure;
use crate::cli::model::loading::report_fallbacks;

#[derive(Args)]
pub struct TrainStep {
    /// Where to run: auto, cpu, wgpu:0
    #[arg(long, default_value = "auto", value_name = "ID")]
    device: String,
    /// Blocks of a llama decoder with new weights
    #[arg(long, default_value_t = 6, value_name = "N")]
    layers: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = 384, value_name = "N")]
    hidden: usize,
    /// Width inside the MLP
    #[arg(long, default_value_t = 1024, value_name = "N")]
    intermediate: usize,
    /// Attention heads
    #[arg(long, default_value_t = 6, value_name = "N")]
    heads: usize,
    /// Tokens of the vocabulary
    #[arg(long, default_value_t = 8192, value_name = "N")]
    vocab: usize,
    /// Rows of a step
    #[arg(long, default_value_t = 8, value_name = "N")]
    rows: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 256, value_name = "N")]
    length: usize,
    /// Dtype of products: f32, bf16 or f16
    #[arg(long, default_value = "f32", value_name = "D")]
    dtype: DType,
    /// Compute each block again on the way back
    #[arg(long)]
    rematerialize: bool,
    /// Timed steps
    #[arg(long, default_value_t = 10, value_name = "N")]
    runs: usize,
    /// Say where the time of one more step goes: by operation and by cause, beside what the device can do at best
    #[arg(long)]
    explain: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl TrainStep {
    pub fn run(self) -> Result<(), Failure> {
        let registry = percept::registry();
        let device = registry.open(&self.device)?;
        let host = if device.info().id == "cpu" { None } else { Some(registry.open("cpu")?) };
        let folder = tempfile::tempdir()
            .map_err(|source| Failure::File { path: "a temporary folder".into(), source })?;
        self.describe(folder.path())?;
        let config = self.config(folder.path())?;
        let compile = CompileOptions { host, ..CompileOptions::default() };
        let mut trainer = Trainer::new(&config, device.clone(), compile)?;
        let step = |trainer: &mut Trainer, seed: usize| -> Result<f64, Failure> {
            let at = Instant::now();
            let batch = self.batch(trainer, seed)?;
            let answers = batch.answers;
            trainer.step(&[batch], answers, 1.0, &Single)?;
            Ok(at.elapsed().as_secs_f64() * 1e3)
        };
        let first = step(&mut trainer, 0)?;
        step(&mut trainer, 1)?;
        let last = 2 + self.runs.max(1);
        let times = (2..last).map(|seed| step(&mut trainer, seed)).collect::<Result<Vec<_>, _>>()?;
        let Timing { median, min, runs, first } = Timing::of(first, times);
        let breakdown = if self.explain {
            trainer.record_timeline();
            let ms = step(&mut trainer, last)?;
            Some(Breakdown::of(&trainer.take_timeline(), ms, median, Roof::measure(&*device)?))
        } else {
            None
        };
        report_fallbacks(trainer.reports());
        let rate = (self.rows * self.length) as f64 / median * 1e3;
        let memory = peak_memory(&*device);
        let planned = trainer.reports().map(|r| r.scratch_bytes).max().unwrap_or(0);
        let settings = json!({
            "layers": self.layers, "hidden": self.hidden, "intermediate": self.intermediate, "heads": self.heads,
            "vocab": self.vocab, "rows": self.rows, "length": self.length, "dtype": self.dtype.name(),
            "rematerialize": self.rematerialize,
        });
        if self.json {
            let mut document = json!({
                "bench": "train-step", "device": device.info().id, "settings": settings, "median_ms": median,
                "min_ms": min, "runs": runs, "rate": rate, "rate_unit": "tokens/s", "first_call_ms": first,
                "peak_memory_bytes": memory, "arena_bytes": planned,
            });
            if let Some(breakdown) = breakdown {
                document["breakdown"] = breakdown.to_json();
            }
            println!("{document}");
        } else {
            println!(
                "train-step {settings} on {}: median {median:.1} ms, best {min:.1} ms of {} steps, {rate:.0} tokens/s; \
                 {} MB at most, {} MB of them between values of a step",
                device.info().id,
                runs,
                memory / 1_000_000,
                planned / 1_000_000
            );
            breakdown.iter().for_each(Breakdown::print);
        }
        Ok(())
    }

    /// Write the folder of a model without weights.
    fn describe(&self, folder: &Path) -> Result<(), Failure> {
        let config = json!({
            "model_type": "llama", "vocab_size": self.vocab, "hidden_size": self.hidden,
            "intermediate_size": self.intermediate, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.heads,
            "max_position_embeddings": self.length, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        });
        // Steps are made of ids, so any tokenizer will do.
        let tokenizer = json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": null, "model": { "type": "WordLevel", "vocab": { "a": 0 }, "unk_token": "a" },
        });
        for (name, value) in [("config.json", config), ("tokenizer.json", tokenizer)] {
            crate::cli::failure::write_file(&folder.join(name), value.to_string().as_bytes())?;
        }
        Ok(())
    }

    fn config(&self, folder: &Path) -> Result<Config, Failure> {
        let text = format!(
            "out = {out:?}\nsteps = 1\nmodel = {{ path = {path:?}, init = true }}\n\
             data = {{ length = {}, rows = {} }}\nprecision = {{ compute = '{}', rematerialize = {} }}",
            self.length,
            self.rows,
            self.dtype.name(),
            self.rematerialize,
            out = folder.join("out"),
            path = folder,
        );
        Ok(Config::parse(Path::new("bench train-step"), &text, &[])?)
    }

    fn batch(&self, trainer: &Trainer, seed: usize) -> Result<Batch, Failure> {
        let row = |r: usize| {
            let id = |i: usize| ((seed * self.rows + r) * 7919 + i * 104_729 + i * i * 31) % self.vocab;
            let ids: Vec<i32> = (0..self.length).map(|i| id(i) as i32).collect();
            Encoded::of_ids(&format!("row {r}"), ids)
        };
        let rows: Vec<Encoded> = (0..self.rows).map(row).collect();
        let rows: Vec<Vec<&Encoded>> = rows.iter().map(|r| vec![r]).collect();
        Ok(Batch::new(trainer.model(), &rows, self.length)?)
    }
}
