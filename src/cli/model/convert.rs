//! `percept convert`: cast, quantize, and change the format of a checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use percept::graph::DType;
use percept::model::checkpoint::{LoadOptions, convert};
use serde_json::json;

use super::loading::{Weighted, weights};
use crate::cli::Failure;

#[derive(Args)]
pub struct Convert {
    /// A Hugging Face folder, a .safetensors, a .gguf, a CTranslate2 Whisper folder, or an adapter's folder,
    /// which is merged into its base
    path: PathBuf,
    /// A GGUF file if its name ends in .gguf, with mmproj-NAME.gguf beside it for a model that reads images;
    /// otherwise a Hugging Face folder
    out: PathBuf,
    /// Dtype of the weights: f32, f16, bf16, and for GGUF also q8_0, q4_0, q4_1, q4_k, q6_k; by default as
    /// the file has them
    #[arg(long)]
    dtype: Option<DType>,
    /// A folder with a low-rank adapter in PEFT's layout, to be merged into the weights; may be repeated
    #[arg(long, value_name = "PATH[=WEIGHT]", value_parser = Weighted::parse)]
    adapter: Vec<Weighted>,
    /// The GGUF file of the tower and the projector, where it is not found beside the model's by its name
    /// (mmproj-NAME.gguf)
    #[arg(long, value_name = "FILE")]
    mmproj: Option<PathBuf>,
    /// An adapter that was trained on another base is an error
    #[arg(long)]
    strict: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Convert {
    pub fn run(self) -> Result<(), Failure> {
        let checkpoint =
            weights(&self.path, self.mmproj.as_deref(), &self.adapter, LoadOptions::default(), self.strict)?
                .merged()?;
        let converted = convert(&checkpoint, &self.out, self.dtype)?;
        if self.json {
            let kept = converted.kept.iter();
            let kept: Vec<_> = kept
                .map(|(name, dtype, why)| json!({ "name": name, "dtype": dtype.name(), "why": why }))
                .collect();
            let document = json!({
                "out": self.out, "tensors": converted.tensors, "bytes": converted.bytes, "kept": kept,
                "notes": converted.notes,
            });
            println!("{document}");
            return Ok(());
        }
        let megabytes = converted.bytes as f64 / 1e6;
        println!("{} tensors, {megabytes:.1} MB, written to {}", converted.tensors, self.out.display());
        if let Some(dtype) = self.dtype.filter(|_| !converted.kept.is_empty()) {
            println!("not {dtype}:");
            let mut reasons: BTreeMap<(DType, &str), Vec<&str>> = BTreeMap::new();
            for (name, dtype, why) in &converted.kept {
                reasons.entry((*dtype, why)).or_default().push(name);
            }
            for ((dtype, why), names) in reasons {
                let more =
                    if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
                println!("  {dtype}, because {why}: {}{more}", names[0]);
            }
        }
        converted.notes.iter().for_each(|note| println!("note: {note}"));
        Ok(())
    }
}
