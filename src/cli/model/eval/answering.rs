//! Models of every kind on a device, ready for the tasks of their kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::eval::embedding::{TextModel, run_embedding};
use percept::eval::run::{self, Options, Outcome};
use percept::eval::speech::run_speech;
use percept::eval::task::Task;
use percept::hal::{CompileOptions, Device};
use percept::infer::{
    Embedder, FrameTranscriber, Pooling, Session, TextEmbedder, Transcribe, TranscribeOptions, Transcriber,
};
use percept::model::Model;

use crate::cli::Failure;
use crate::cli::model::loading::{Causal, report_fallbacks};

/// A model on a device.
pub(super) enum Answering {
    /// It continues text.
    Session(Box<Session>),
    /// It transcribes speech.
    Speech(Box<dyn Transcribe>, Arc<dyn Device>),
    /// It embeds images and texts.
    Images(Box<Embedder>, Arc<dyn Device>),
    /// It embeds texts.
    Texts(Box<TextModel>, Arc<dyn Device>),
}

impl Answering {
    /// Bring a model to its device, for these tasks; with `batch_invariant`, an answer does not depend on those beside it.
    /// Questions are asked `batch` at a time.
    pub fn open(
        causal: &Causal,
        tasks: &[(Task, PathBuf)],
        batch_invariant: bool,
        batch: usize,
    ) -> Result<Self, Failure> {
        let embedded = tasks.iter().find(|(task, _)| task.metric.is_embedded());
        let is_mixed = tasks.iter().any(|(task, _)| !task.metric.is_embedded());
        let model = match (causal.loading.open()?, embedded) {
            (Model::Causal(model), None) => {
                return Ok(Self::Session(Box::new(causal.session_for(model, batch_invariant, batch)?)));
            }
            (Model::Causal(_), Some((task, _))) if is_mixed => {
                return Err(Failure::Usage(format!(
                    "{} compares embeddings, and others of --tasks ask for answers; evaluate them one after the other",
                    task.name
                )));
            }
            (model, _) => model,
        };
        let (device, host) = causal.loading.device()?;
        let options = CompileOptions {
            strict: causal.loading.strict,
            batch_invariant,
            host,
            ..CompileOptions::default()
        };
        Ok(match model {
            Model::Causal(model) => {
                let embedder = TextEmbedder::new(model, device.clone(), options)?;
                Self::Texts(Box::new(TextModel(embedder, Pooling::Last)), device)
            }
            Model::TextEncoder(model) => {
                let pooling = model.pooling;
                let embedder = TextEmbedder::of_encoder(model, device.clone(), options);
                Self::Texts(Box::new(TextModel(embedder, pooling)), device)
            }
            Model::Contrastive(model) => {
                Self::Images(Box::new(Embedder::new(model, device.clone(), options)), device)
            }
            Model::Speech(model) => {
                // As `percept transcribe` compiles it, so that both transcribe alike.
                let options = CompileOptions { batch_invariant: false, ..options };
                let transcriber =
                    Transcriber::new(model, device.clone(), options, TranscribeOptions::default())?;
                Self::Speech(Box::new(transcriber), device)
            }
            Model::Frames(model) => {
                let options = CompileOptions { batch_invariant: false, ..options };
                let transcriber =
                    FrameTranscriber::new(model, device.clone(), options, TranscribeOptions::default())?;
                Self::Speech(Box::new(transcriber), device)
            }
            Model::ImageEncoder(_) => {
                let why = "this model embeds images alone, and no task asks for that; give CLIP or SigLIP";
                return Err(Failure::Usage(why.into()));
            }
        })
    }

    /// The device that it is on.
    pub fn device(&self) -> &dyn Device {
        match self {
            Self::Session(session) => session.device(),
            Self::Speech(_, device) | Self::Images(_, device) | Self::Texts(_, device) => &**device,
        }
    }

    /// The model that continues text, which alone is held to the cpu.
    pub fn session(&mut self) -> Option<&mut Session> {
        match self {
            Self::Session(session) => Some(session),
            _ => None,
        }
    }

    /// Run a task.
    pub fn run(
        &mut self,
        task: &Task,
        folder: &Path,
        options: &Options,
        told: &mut dyn FnMut(bool),
    ) -> Result<Outcome, Failure> {
        Ok(match self {
            Self::Session(session) => run::run(session, task, folder, options, told),
            Self::Speech(transcriber, _) => run_speech(&mut **transcriber, task, folder, options, told),
            Self::Images(embedder, _) => run_embedding(&mut **embedder, task, folder, options, told),
            Self::Texts(model, _) => run_embedding(&mut **model, task, folder, options, told),
        }?)
    }

    /// Name what ran on the host.
    pub fn report_fallbacks(&self) {
        match self {
            Self::Session(session) => report_fallbacks(session.reports()),
            Self::Speech(transcriber, _) => report_fallbacks(transcriber.all_reports().into_iter()),
            Self::Images(embedder, _) => report_fallbacks(embedder.reports()),
            Self::Texts(model, _) => report_fallbacks(model.0.reports()),
        }
    }
}
