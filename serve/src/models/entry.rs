//! A model under its name, and what it does once it is loaded.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use percept_infer::{Embedder, Pooling, TextEmbedder, Transcribe};

use super::Language;
use super::worker::Worker;
use crate::clock::unix_seconds;

/// What a model does. Clones are handles to the same one.
#[derive(Clone)]
pub enum Kind {
    /// It continues text.
    Language(Language),
    /// It embeds texts.
    Texts(Worker<TextEmbedder>, Pooling),
    /// It embeds texts where images are embedded too.
    Pairs(Worker<Embedder>),
    /// It transcribes speech.
    Speech(Worker<Box<dyn Transcribe>>),
}

impl Kind {
    /// What it is called in lists and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Language(_) => "generates text",
            Kind::Texts(..) | Kind::Pairs(_) => "embeds texts",
            Kind::Speech(_) => "transcribes speech",
        }
    }

    /// Asks its thread to end what runs, and to return.
    pub(super) fn stop(&self) {
        match self {
            Kind::Language(language) => language.stop(),
            other => other.leave(),
        }
    }

    /// Asks its thread to return when what runs has ended.
    pub(super) fn leave(&self) {
        match self {
            Kind::Language(language) => language.leave(),
            Kind::Texts(worker, _) => worker.stop(),
            Kind::Pairs(worker) => worker.stop(),
            Kind::Speech(worker) => worker.stop(),
        }
    }

    /// Whether it answers: a model whose device was lost and did not come back does not.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Kind::Language(language) => language.fault(),
            Kind::Texts(worker, _) => worker.fault(),
            Kind::Pairs(worker) => worker.fault(),
            Kind::Speech(worker) => worker.fault(),
        }
    }
}

/// A model of the server.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The model under it, where it is an adapter's.
    pub parent: Option<String>,
    /// When it was brought up, in seconds since 1970.
    pub created: u64,
    /// The server is not ready without it: it was not asked for later.
    pub(super) is_first: bool,
    kind: OnceLock<Kind>,
    /// Whether it is loaded, once that is decided.
    decided: Mutex<Option<Result<(), String>>>,
    changed: Condvar,
}

impl Entry {
    pub(super) fn new(name: String, parent: Option<String>, is_first: bool) -> Self {
        let (kind, decided, changed) = Default::default();
        Self { name, parent, created: unix_seconds(), is_first, kind, decided, changed }
    }

    /// What it does, once it is loaded.
    pub fn kind(&self) -> Option<&Kind> {
        self.kind.get()
    }

    /// It is loaded.
    pub(super) fn is(&self, kind: Kind) {
        // It is said once, by the thread that loads it.
        let _ = self.kind.set(kind);
        self.decide(Ok(()));
    }

    /// It is not loaded, unless it was before.
    pub(super) fn fails(&self, why: &str) {
        self.decide(Err(why.to_owned()));
    }

    fn decide(&self, how: Result<(), String>) {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(how);
        self.changed.notify_all();
    }

    /// What it does. Where it is being loaded, that is waited for.
    pub(super) fn wait(&self) -> Result<&Kind, String> {
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(how) = &*decided {
                how.clone()?;
                return self.kind.get().ok_or_else(|| "it is not loaded".into());
            }
            decided = self.changed.wait(decided).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
