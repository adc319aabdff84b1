//! The models of a server: how they are opened, when it starts and later.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percept::hal::{CompileOptions, Device};
use percept::infer::{
    Embedder, FrameTranscriber, Pooling, Session, SessionOptions, SharedWeights, TextEmbedder,
    TranscribeOptions, Transcriber,
};
use percept::model::checkpoint::LoadOptions;
use percept::model::{CausalModel, LayerAdapter, Model, OpenedAdapter};
use percept::serve::{self, Loaded, Source, Wanted, WantedKind};

use super::{DeviceArgs, Serve};
use crate::cli::Failure;
use crate::cli::model::hub::find_model;
use crate::cli::model::loading::{Weighted, tell_unread, weights, with_draft_model};

/// What opens the models of a server.
pub struct Models {
    devices: Devices,
    /// What texts are embedded with.
    pooling: Pooling,
    /// Where models are that were loaded, by their names.
    paths: Mutex<HashMap<String, PathBuf>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Models {
    pub fn new(serve: &Serve) -> Self {
        let devices = Devices { args: serve.devices.clone(), opened: Mutex::default() };
        Self { devices, pooling: serve.pooling.pooling(), paths: Mutex::default() }
    }

    /// A model; `pooling` is what it embeds texts with, where it is to do that and not to generate, and `draft` the model that
    /// guesses for it.
    pub fn model(
        self: &Arc<Self>,
        name: String,
        path: &Path,
        pooling: Option<Pooling>,
        draft: Option<PathBuf>,
    ) -> Source {
        let (models, path, known) = (self.clone(), path.to_path_buf(), name.clone());
        let mut seen = None;
        let open = move || {
            let loaded = models.open(&mut seen, &path, &[], pooling, draft.as_deref())?;
            // From now on adapters can stand on it.
            lock(&models.paths).insert(known.clone(), path.clone());
            Ok(loaded)
        };
        Source { name, parent: None, open: Box::new(open), over: None }
    }

    /// An adapter over the model of a name and a path.
    pub fn adapter(self: &Arc<Self>, name: String, path: &Path, base: String, base_path: &Path) -> Source {
        let models = self.clone();
        let adapters = [Weighted { path: path.to_path_buf(), weight: 1.0 }];
        let base_path = base_path.to_path_buf();
        let mut seen = None;
        let open = move || models.open(&mut seen, &base_path, &adapters, None, None);
        let (path, strict) = (path.to_path_buf(), self.devices.args.strict);
        let over = move |model: &dyn CausalModel| over(model, &path, strict);
        Source { name, parent: Some(base), open: Box::new(open), over: Some(Box::new(over)) }
    }

    /// What opens a model that is asked for while the server runs. It must be here: nothing is fetched for it.
    pub fn wanted(self: &Arc<Self>, wanted: &Wanted) -> Result<Source, serve::Failure> {
        let Wanted { name, path, kind } = wanted;
        let place = Path::new(path);
        if !place.exists() {
            let why = format!("there is nothing at '{path}' on the server; give a path that is there");
            return Err(serve::Failure::field("path", why).with_code("path_not_found"));
        }
        Ok(match kind {
            WantedKind::Model => self.model(name.clone(), place, None, None),
            WantedKind::Embedding => self.model(name.clone(), place, Some(self.pooling), None),
            WantedKind::Adapter(base) => {
                let base_path = lock(&self.paths).get(base).cloned();
                let base_path = base_path.ok_or_else(|| {
                    let why = format!("the model '{base}' was unloaded");
                    serve::Failure::field("base", why).with_code("unknown_base")
                })?;
                self.adapter(name.clone(), place, base.clone(), &base_path)
            }
        })
    }

    fn open(
        &self,
        seen: &mut Option<u64>,
        path: &Path,
        adapters: &[Weighted],
        pooling: Option<Pooling>,
        draft: Option<&Path>,
    ) -> Result<Loaded, String> {
        // Asked again, the device that was seen before is lost.
        let (number, opened) = self.devices.open(*seen).map_err(|failure| failure.message())?;
        *seen = Some(number);
        load(path, adapters, &self.devices.args, &opened, pooling, draft).map_err(|failure| failure.message())
    }
}

/// An adapter over a model that is open. What makes it doubtful is named on standard error, and an error where `strict` says
/// so.
fn over(model: &dyn CausalModel, path: &Path, strict: bool) -> Result<OpenedAdapter, String> {
    let folder = percept::model::locate_adapter(path);
    let opened = LayerAdapter::open(model, &folder).map_err(|error| error.to_string())?;
    if let OpenedAdapter::Layers(adapter) = &opened {
        match adapter.doubts().first() {
            Some(doubt) if strict => return Err(doubt.clone()),
            _ => adapter.doubts().iter().for_each(|doubt| eprintln!("warning: {doubt}")),
        }
    }
    Ok(opened)
}

/// A device that is open, the host that runs what it cannot, and the weights that models hold on it together.
#[derive(Clone)]
struct Opened {
    device: Arc<dyn Device>,
    host: Option<Arc<dyn Device>>,
    weights: SharedWeights,
}

/// The device that all models share.
struct Devices {
    args: DeviceArgs,
    /// How often it was opened, and as what.
    opened: Mutex<(u64, Option<Opened>)>,
}

impl Devices {
    /// The device, and the number of its opening. It is opened again when the one of the number `lost` is the last.
    fn open(&self, lost: Option<u64>) -> Result<(u64, Opened), Failure> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, last) = &mut *opened;
        if let Some(last) = last.as_ref().filter(|_| lost != Some(*number)) {
            return Ok((*number, last.clone()));
        }
        let registry = percept::registry();
        let device = registry.open(&self.args.device)?;
        let host = if device.info().id == "cpu" { None } else { Some(registry.open("cpu")?) };
        let new = Opened { device, host, weights: SharedWeights::default() };
        *number += 1;
        *last = Some(new.clone());
        Ok((*number, new))
    }
}

/// Brings a model to its device; `pooling` is what it embeds texts with, where it is to do that and not to generate.
fn load(
    path: &Path,
    adapters: &[Weighted],
    args: &DeviceArgs,
    opened: &Opened,
    pooling: Option<Pooling>,
    draft: Option<&Path>,
) -> Result<Loaded, Failure> {
    let options = LoadOptions { dtype: args.dtype, dequantize: args.dtype.is_some() };
    let found = find_model(path, None)?;
    let weights = weights(&found, None, adapters, options, args.strict)?;
    let (device, host, strict) = (opened.device.clone(), opened.host.clone(), args.strict);
    let batch_invariant = !args.batch_variant;
    let compile = CompileOptions { strict, host: host.clone(), batch_invariant, ..CompileOptions::default() };
    let model = percept::model::open_weights(weights)?;
    tell_unread(&model)?;
    let generates = matches!(model, Model::Causal(_));
    if let (Some(draft), false) = (draft, generates) {
        let draft = draft.display();
        return Err(Failure::Usage(format!(
            "--draft-model {draft}: this model generates no text; leave it out"
        )));
    }
    match (model, pooling) {
        (Model::Causal(model), None) => {
            let options = SessionOptions {
                strict,
                host,
                cache: args.cache,
                cache_rows: args.cache_rows,
                int8: args.int8,
                batch_invariant,
                weights: Some(opened.weights.clone()),
                chunk: args.prefill_chunk,
                share_prefixes: !args.no_prefix_reuse,
                ..SessionOptions::default()
            };
            let session = Session::new(device.clone(), model, options.clone())?;
            let session = match draft {
                Some(path) => with_draft_model(session, path, device, options)?,
                None => session,
            };
            Ok(Loaded::Language(Box::new(session)))
        }
        (Model::Causal(model), Some(pooling)) => {
            Ok(Loaded::Texts(Box::new(TextEmbedder::new(model, device, compile)?), pooling))
        }
        (Model::Contrastive(model), _) => Ok(Loaded::Pairs(Box::new(Embedder::new(model, device, compile)))),
        (Model::TextEncoder(model), _) => {
            let pooling = model.pooling;
            Ok(Loaded::Texts(Box::new(TextEmbedder::of_encoder(model, device, compile)), pooling))
        }
        (Model::ImageEncoder(_), _) => Err(Failure::Usage(
            "this model embeds images, which no endpoint takes; try `percept embed`".into(),
        )),
        (Model::Speech(model), None) => {
            let options = TranscribeOptions::default();
            Ok(Loaded::Speech(Box::new(Transcriber::new(model, device, compile, options)?)))
        }
        (Model::Frames(model), None) => {
            let options = TranscribeOptions::default();
            Ok(Loaded::Speech(Box::new(FrameTranscriber::new(model, device, compile, options)?)))
        }
        (Model::Speech(_) | Model::Frames(_), Some(_)) => Err(Failure::Usage(
            "this model transcribes speech and embeds no texts; give it with --model".into(),
        )),
    }
}
