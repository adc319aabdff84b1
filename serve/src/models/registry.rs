//! Models by their names.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use axum::http::StatusCode;
use percept_infer::{Embedder, Pooling, TextEmbedder, Transcriber};
use tokio::sync::oneshot;

use super::worker::{Worker, hire};
use super::{Language, Loaded, Source, language};
use crate::clock::unix_seconds;
use crate::error::Error;
use crate::failure::Failure;
use crate::options::Limits;

/// What a model does.
pub enum Kind {
    /// It continues text.
    Language(Box<Language>),
    /// It embeds texts.
    Texts(Worker<TextEmbedder>, Pooling),
    /// It embeds texts where images are embedded too.
    Pairs(Worker<Embedder>),
    /// It transcribes speech.
    Speech(Worker<Transcriber>),
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
    fn stop(&self) {
        match self {
            Kind::Language(language) => language.stop(),
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
    kind: OnceLock<Kind>,
}

impl Entry {
    /// What it does, once it is loaded.
    pub fn kind(&self) -> Option<&Kind> {
        self.kind.get()
    }
}

/// All models of the server.
pub struct Registry {
    entries: Vec<Arc<Entry>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Registry {
    /// Starts a thread for every model. What is received tells when all are loaded, or that one cannot be.
    ///
    /// # Errors
    /// When two models have one name, there is none, or a thread cannot be started.
    pub fn start(
        sources: Vec<Source>,
        limits: &Limits,
    ) -> Result<(Arc<Self>, Vec<oneshot::Receiver<Result<(), Error>>>), Error> {
        if sources.is_empty() {
            return Err(Error::Setting("there is no model to serve".into()));
        }
        let mut registry = Self { entries: Vec::new(), threads: Mutex::default() };
        let (mut loads, mut threads) = (Vec::new(), Vec::new());
        for source in sources {
            if registry.entries.iter().any(|entry| entry.name == source.name) {
                let why = format!("two models are called '{}'; name one of them with NAME=PATH", source.name);
                return Err(Error::Setting(why));
            }
            let Source { name, parent, open } = source;
            let entry = Arc::new(Entry {
                name: name.clone(),
                parent,
                created: unix_seconds(),
                kind: OnceLock::new(),
            });
            registry.entries.push(entry.clone());
            let (told, load) = oneshot::channel();
            loads.push(load);
            let limits = limits.clone();
            let thread = std::thread::Builder::new()
                .name(format!("model {name}"))
                .spawn(move || serve(&entry, open, &limits, told))
                .map_err(|why| Error::Setting(format!("no thread for the model '{name}': {why}")))?;
            threads.push(thread);
        }
        registry.threads = Mutex::new(threads);
        Ok((Arc::new(registry), loads))
    }

    /// All models, in the order in which they were given.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The model of a name.
    ///
    /// # Errors
    /// When there is none of it, or it is not loaded yet.
    pub fn find(&self, name: &str) -> Result<(&Arc<Entry>, &Kind), Failure> {
        let Some(entry) = self.entries.iter().find(|entry| entry.name == name) else {
            let known: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
            let name: String = name.chars().take(80).collect();
            let why = format!("there is no model '{name}'; there are: {}", known.join(", "));
            return Err(Failure::not_found(why).at("model").with_code("model_not_found"));
        };
        match entry.kind() {
            Some(kind) => match kind.fault() {
                Some(why) => Err(Failure::unavailable(format!("the model '{name}' is down: {why}"), 10)),
                None => Ok((entry, kind)),
            },
            None => Err(Failure::unavailable(format!("the model '{name}' is being loaded"), 5)),
        }
    }

    /// The language model of a name.
    ///
    /// # Errors
    /// Also when the model of that name does something else.
    pub(crate) fn language(&self, name: &str) -> Result<(&Arc<Entry>, &Language), Failure> {
        match self.find(name)? {
            (entry, Kind::Language(language)) => Ok((entry, &**language)),
            (entry, other) => Err(wrong_kind(&entry.name, other, "generates text")),
        }
    }

    /// Why the server is not ready; `None` when it is.
    pub fn unready(&self) -> Option<String> {
        self.entries.iter().find_map(|entry| match entry.kind() {
            None => Some(format!("the model '{}' is being loaded", entry.name)),
            Some(kind) => kind.fault().map(|why| format!("the model '{}' is down: {why}", entry.name)),
        })
    }

    /// Ends all threads; what still runs is told.
    pub fn stop(&self) {
        self.entries.iter().filter_map(|entry| entry.kind()).for_each(Kind::stop);
    }

    /// Waits until all threads ended, after [`Registry::stop`].
    pub fn join(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// The failure of a request to a model that does something else.
pub(crate) fn wrong_kind(name: &str, kind: &Kind, wanted: &str) -> Failure {
    let failure = Failure::new(
        StatusCode::BAD_REQUEST,
        "invalid_request_error",
        format!("the model '{name}' {}; this request needs one that {wanted}", kind.name()),
    );
    failure.at("model").with_code("wrong_model")
}

type Open = Box<dyn FnMut() -> Result<Loaded, String> + Send>;

/// Loads a model and serves it until it is asked to stop.
fn serve(entry: &Entry, mut open: Open, limits: &Limits, told: oneshot::Sender<Result<(), Error>>) {
    let loaded = match open() {
        Ok(loaded) => loaded,
        Err(why) => {
            // Nobody listens where the server ended meanwhile.
            let _ = told.send(Err(Error::Model { name: entry.name.clone(), why }));
            return;
        }
    };
    match loaded {
        Loaded::Language(session) => match language::bring_up(*session, limits) {
            Ok((language, engine)) => {
                let _ = entry.kind.set(Kind::Language(Box::new(language)));
                let _ = told.send(Ok(()));
                engine.run(open);
            }
            Err(why) => {
                let _ = told.send(Err(Error::Model { name: entry.name.clone(), why }));
            }
        },
        Loaded::Texts(embedder, pooling) => {
            let (worker, bench) = hire(*embedder, limits);
            let _ = entry.kind.set(Kind::Texts(worker, pooling));
            let _ = told.send(Ok(()));
            bench.run(open, |loaded| match loaded {
                Loaded::Texts(embedder, _) => Some(*embedder),
                _ => None,
            });
        }
        Loaded::Pairs(embedder) => {
            let (worker, bench) = hire(*embedder, limits);
            let _ = entry.kind.set(Kind::Pairs(worker));
            let _ = told.send(Ok(()));
            bench.run(open, |loaded| match loaded {
                Loaded::Pairs(embedder) => Some(*embedder),
                _ => None,
            });
        }
        Loaded::Speech(transcriber) => {
            let (worker, bench) = hire(*transcriber, limits);
            let _ = entry.kind.set(Kind::Speech(worker));
            let _ = told.send(Ok(()));
            bench.run(open, |loaded| match loaded {
                Loaded::Speech(transcriber) => Some(*transcriber),
                _ => None,
            });
        }
    }
}
