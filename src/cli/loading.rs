//! Opening a model on a device, as every command that runs one does.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use percept::graph::DType;
use percept::hal::{CompileReport, Device};
use percept::infer::{Engine, EngineOptions};
use percept::model::checkpoint::{Checkpoint, LoadOptions};
use percept::model::{CausalModel, Model, Weights};

use super::Failure;
use super::hub::find_model;

#[derive(Args)]
pub struct Loading {
    /// A folder of safetensors with its configuration, a .safetensors or .gguf file, or a model on the Hugging Face hub as
    /// OWNER/NAME[@REVISION], which is fetched once
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Where to run: auto, cpu, wgpu:0
    #[arg(long, default_value = "auto", value_name = "ID")]
    pub device: String,
    /// A folder with a low-rank adapter in PEFT's layout
    #[arg(long, value_name = "PATH")]
    pub adapter: Option<PathBuf>,
    /// Load weights as f32, f16 or bf16; by default as the file has them
    #[arg(long, value_name = "D")]
    pub dtype: Option<DType>,
    /// Running anything on the host is an error
    #[arg(long)]
    pub strict: bool,
}

impl Loading {
    /// The model, with no weight on a device yet.
    pub fn open(&self) -> Result<Model, Failure> {
        let options = LoadOptions { dtype: self.dtype, dequantize: self.dtype.is_some() };
        let path = find_model(&self.model, self.revision.as_deref())?;
        let checkpoint = Checkpoint::open_with(path, options).map_err(percept::model::Error::from)?;
        checkpoint.held().iter().for_each(|line| eprintln!("{line}"));
        let mut weights = Weights::new(Arc::new(checkpoint));
        if let Some(adapter) = &self.adapter {
            weights = weights.with_adapter(adapter)?;
        }
        Ok(percept::model::open_weights(weights)?)
    }

    /// The device, and the host that runs what it cannot.
    pub fn device(&self) -> Result<(Arc<dyn Device>, Option<Arc<dyn Device>>), Failure> {
        let registry = percept::registry();
        let device = registry.open(&self.device)?;
        let host = if device.info().id == "cpu" { None } else { Some(registry.open("cpu")?) };
        Ok((device, host))
    }
}

/// A model that continues text, and how it does.
#[derive(Args)]
pub struct Causal {
    #[command(flatten)]
    pub loading: Loading,
    /// Dtype of cached keys and values: f32 or f16
    #[arg(long, default_value = "f32", value_name = "D")]
    pub cache: DType,
    /// Round what quantized weights multiply to int8, as llama.cpp does: faster, and less exact
    #[arg(long)]
    pub int8: bool,
}

impl Causal {
    /// A model that continues text.
    pub fn model(&self) -> Result<Box<dyn CausalModel>, Failure> {
        match self.loading.open()? {
            Model::Causal(model) => Ok(model),
            Model::Contrastive(_) => Err(Failure::Usage(
                "this model places pictures and texts and continues nothing; try `percept embed`".into(),
            )),
            Model::Speech(_) => Err(Failure::Usage(
                "this model writes down speech and continues nothing; try `percept transcribe`".into(),
            )),
        }
    }

    /// The model with its weights on the device.
    pub fn engine(&self, model: Box<dyn CausalModel>) -> Result<Engine, Failure> {
        let (device, host) = self.loading.device()?;
        let options = EngineOptions {
            strict: self.loading.strict,
            host,
            cache: self.cache,
            int8: self.int8,
            ..EngineOptions::default()
        };
        Ok(Engine::new(device, model, options)?)
    }
}

/// Name on standard error, once each, the operations that ran on the host.
pub fn report_fallbacks<'a>(reports: impl Iterator<Item = &'a CompileReport>) {
    let mut lines: Vec<String> = reports
        .flat_map(|r| r.fallbacks().map(|p| format!("{} ran on the host: {}", p.op, p.reason)))
        .collect();
    lines.sort();
    lines.dedup();
    lines.iter().for_each(|line| eprintln!("{line}"));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Arguments;

    #[test]
    fn how_text_is_continued_is_asked_of_what_continues_text() {
        let parse = |words: &str| Arguments::try_parse_from(words.split(' ')).map(|_| ());
        for option in ["--int8", "--cache=f16"] {
            parse(&format!("percept generate --model m {option} hello")).unwrap();
            let refused =
                parse(&format!("percept embed --model m --text t {option}")).unwrap_err().to_string();
            assert!(refused.contains("unexpected argument"), "{refused}");
        }
    }
}
