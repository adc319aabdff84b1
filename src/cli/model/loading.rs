//! Opening a model on a device, as every command that runs one does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use percept::graph::DType;
use percept::hal::{CompileReport, Device};
use percept::infer::{Session, SessionOptions};
use percept::model::checkpoint::{Checkpoint, LoadOptions};
use percept::model::{CausalModel, Model, Weights};

use super::hub::find_model;
use crate::cli::Failure;

#[derive(Args, Clone)]
pub struct Loading {
    /// A folder of safetensors with its configuration, a .safetensors or .gguf file, an adapter's folder,
    /// whose base is found by the path or the hub id that it names, or a model on the Hugging Face hub as
    /// OWNER/NAME[@REVISION], which is fetched once
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// The GGUF file of the tower and the projector, where it is not found beside the model's by its name
    /// (mmproj-NAME.gguf)
    #[arg(long, value_name = "FILE")]
    pub mmproj: Option<PathBuf>,
    /// Where to run: auto, cpu, wgpu:0
    #[arg(long, default_value = "auto", value_name = "ID")]
    pub device: String,
    /// A folder with a low-rank adapter in PEFT's layout; may be repeated: what they add is summed, each
    /// times its weight
    #[arg(long, value_name = "PATH[=WEIGHT]", value_parser = Weighted::parse)]
    pub adapter: Vec<Weighted>,
    /// Load weights as f32, f16 or bf16; by default as the file has them
    #[arg(long, value_name = "D")]
    pub dtype: Option<DType>,
    /// Running anything on the host is an error, and so is an adapter that was trained on another base
    #[arg(long)]
    pub strict: bool,
}

/// An adapter and what it is multiplied by.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted {
    pub path: PathBuf,
    pub weight: f64,
}

impl Weighted {
    /// A path, or a path, `=` and a number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = Self { path: text.into(), weight: 1.0 };
        // A folder's name may hold the sign too.
        let Some((path, weight)) = text.rsplit_once('=').filter(|_| !whole.path.exists()) else {
            return Ok(whole);
        };
        match weight.parse::<f64>() {
            Ok(weight) if weight.is_finite() => Ok(Self { path: path.into(), weight }),
            _ => Err(format!("'{weight}' is no weight; give a number, as in {path}=0.5")),
        }
    }
}

/// The weights of a model with adapters over it. What makes an adapter doubtful is named on standard error,
/// and an error where `strict` says so.
pub fn weights(
    model: &Path,
    mmproj: Option<&Path>,
    adapters: &[Weighted],
    options: LoadOptions,
    strict: bool,
) -> Result<Weights, Failure> {
    let located = percept::model::locate(&find_model(model, None)?)?;
    located.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let checkpoint = match mmproj {
        Some(projector) => Checkpoint::open_pair(&located.base, projector, options),
        None => Checkpoint::open_with(&located.base, options),
    }
    .map_err(percept::model::Error::from)?;
    checkpoint.held().iter().for_each(|line| eprintln!("{line}"));
    let mut weights = Weights::new(Arc::new(checkpoint));
    for folder in &located.adapters {
        weights = weights.with_adapter(folder)?;
    }
    for Weighted { path, weight } in adapters {
        weights = weights.with_weighted_adapter(&percept::model::locate_adapter(path), *weight)?;
    }
    match weights.doubts().first() {
        Some(doubt) if strict => return Err(Failure::Negative(doubt.clone())),
        _ => weights.doubts().iter().for_each(|doubt| eprintln!("warning: {doubt}")),
    }
    Ok(weights)
}

/// Names on standard error what a checkpoint holds and its model does not read.
pub fn tell_unread(model: &Model) -> Result<(), Failure> {
    if let Model::Causal(model) = model {
        percept::model::unread(&**model)?.iter().for_each(|note| eprintln!("warning: {note}"));
    }
    Ok(())
}

impl Loading {
    /// The model, with no weight on a device yet.
    pub fn open(&self) -> Result<Model, Failure> {
        let options = LoadOptions { dtype: self.dtype, dequantize: self.dtype.is_some() };
        let found = find_model(&self.model, self.revision.as_deref())?;
        let mmproj = self.mmproj.as_deref();
        let model =
            percept::model::open_weights(weights(&found, mmproj, &self.adapter, options, self.strict)?)?;
        tell_unread(&model)?;
        Ok(model)
    }

    /// The device, and the host that runs what it cannot.
    pub fn device(&self) -> Result<(Arc<dyn Device>, Option<Arc<dyn Device>>), Failure> {
        let registry = percept::registry();
        let device = registry.open(&self.device)?;
        let host = if device.info().id == "cpu" { None } else { Some(registry.open("cpu")?) };
        Ok((device, host))
    }
}

/// A model that generates text, and its settings.
#[derive(Args, Clone)]
pub struct Causal {
    #[command(flatten)]
    pub loading: Loading,
    /// Dtype of cached keys and values: f32 or f16
    #[arg(long, default_value = "f32", value_name = "D")]
    pub cache: DType,
    /// Round what quantized weights multiply to int8, as llama.cpp does: less exact, and faster on some processors
    #[arg(long)]
    pub int8: bool,
}

/// The most bytes of weights of which every thread of the cpu runs a session of its own where many prompts are answered:
/// those that stay in a core's own caches. The operations of so small a model take less time than threads take to meet
/// after each; those of a larger one wait for memory, which each session would read for itself.
const SMALL_MODEL: usize = 16 << 20;

impl Causal {
    /// Open a model that generates text.
    pub fn model(&self) -> Result<Box<dyn CausalModel>, Failure> {
        match self.loading.open()? {
            Model::Causal(model) => Ok(model),
            Model::Contrastive(_) => Err(Failure::Usage(
                "this model embeds images and texts and does not generate; try `percept embed`".into(),
            )),
            Model::ImageEncoder(_) | Model::TextEncoder(_) => {
                Err(Failure::Usage("this model embeds and does not generate; try `percept embed`".into()))
            }
            Model::Speech(_) | Model::Frames(_) => Err(Failure::Usage(
                "this model transcribes speech and does not generate; try `percept transcribe`".into(),
            )),
        }
    }

    /// The model with its weights on the device.
    pub fn session(&self, model: Box<dyn CausalModel>) -> Result<Session, Failure> {
        self.session_of(model, false)
    }

    /// The same, with a draft model on that device where one is given.
    pub fn session_with(
        &self,
        model: Box<dyn CausalModel>,
        draft: Option<&Path>,
    ) -> Result<Session, Failure> {
        let (device, options) = self.place(false)?;
        let session = Session::new(device.clone(), model, options.clone())?;
        match draft {
            Some(path) => with_draft_model(session, path, device, options),
            None => Ok(session),
        }
    }

    /// The same; with `batch_invariant`, what a sequence gives does not depend on those beside it, on any
    /// device.
    pub fn session_of(&self, model: Box<dyn CausalModel>, batch_invariant: bool) -> Result<Session, Failure> {
        let (device, options) = self.place(batch_invariant)?;
        Ok(Session::new(device, model, options)?)
    }

    /// The same for `batch` prompts at a time. Of a small model the threads of the cpu each run a session of their own.
    pub fn session_for(
        &self,
        model: Box<dyn CausalModel>,
        batch_invariant: bool,
        batch: usize,
    ) -> Result<Session, Failure> {
        let session = self.session_of(model, batch_invariant)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(batch);
        if session.device().info().id != "cpu" || threads < 2 || weight_bytes(session.model()) > SMALL_MODEL {
            return Ok(session);
        }
        let lane = |_| Ok(session.on(Arc::new(percept_cpu::open(1)?))?);
        let lanes = (0..threads).map(lane).collect::<Result<_, Failure>>()?;
        Ok(session.with_lanes(lanes))
    }

    /// The same on another device, whose steps do not depend on their company either.
    pub fn session_on(&self, device: &str, model: Box<dyn CausalModel>) -> Result<Session, Failure> {
        let (_, options) = self.place(true)?;
        Ok(Session::new(percept::registry().open(device)?, model, SessionOptions { host: None, ..options })?)
    }

    /// Where a model runs, and how.
    fn place(&self, batch_invariant: bool) -> Result<(Arc<dyn Device>, SessionOptions), Failure> {
        let (device, host) = self.loading.device()?;
        let options = SessionOptions {
            batch_invariant,
            strict: self.loading.strict,
            host,
            cache: self.cache,
            int8: self.int8,
            ..SessionOptions::default()
        };
        Ok((device, options))
    }
}

/// The session with a draft model on its device, under the same options; weights are as the draft model's file has them.
pub fn with_draft_model(
    session: Session,
    path: &Path,
    device: Arc<dyn Device>,
    options: SessionOptions,
) -> Result<Session, Failure> {
    let found = find_model(path, None)?;
    let weights = weights(&found, None, &[], LoadOptions::default(), options.strict)?;
    let Model::Causal(model) = percept::model::open_weights(weights)? else {
        let why = "this model does not generate text, and so it cannot guess what is generated";
        return Err(Failure::Usage(format!("--draft-model {}: {why}", path.display())));
    };
    // Where no weight is quantized, there is nothing to round.
    let int8 = options.int8 && is_quantized(&*model);
    let draft = Session::new(device, model, SessionOptions { int8, ..options })?;
    session.with_draft(draft).map_err(|e| Failure::Content { path: path.into(), why: e.to_string() })
}

/// The bytes of a model's weights.
fn weight_bytes(model: &dyn CausalModel) -> usize {
    let checkpoint = model.weights().checkpoint();
    checkpoint.names().filter_map(|name| checkpoint.ty(name)).map(|ty| ty.bytes()).sum()
}

fn is_quantized(model: &dyn CausalModel) -> bool {
    let checkpoint = model.weights().checkpoint();
    checkpoint.names().filter_map(|name| checkpoint.ty(name)).any(|ty| ty.dtype.is_quantized())
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

    use super::Weighted;
    use crate::cli::Arguments;

    #[test]
    fn an_adapter_may_have_a_weight_and_an_equals_sign_in_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("rank=8");
        std::fs::create_dir(&named).unwrap();
        let parse = |text: &str| Weighted::parse(text).map(|w| (w.path.display().to_string(), w.weight));
        let named = named.display().to_string();
        assert_eq!(parse(&named), Ok((named.clone(), 1.0)));
        assert_eq!(parse(&format!("{named}=-0.5")), Ok((named, -0.5)));
        assert_eq!(parse("a=2"), Ok(("a".into(), 2.0)));
        for wrong in ["a=", "a=nan", "a=x"] {
            assert!(parse(wrong).unwrap_err().contains("a=0.5"), "{wrong}");
        }
    }

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
