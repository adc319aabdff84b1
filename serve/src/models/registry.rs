//! Models by their names: they come and go while the server runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use axum::http::StatusCode;
use percept_model::OpenedAdapter;
use serde_json::json;
use tokio::sync::oneshot;

use super::entry::{Entry, Kind};
use super::worker::hire;
use super::{Language, Loaded, Open, OpenOver, Source, language};
use crate::clock::timestamp;
use crate::error::Error;
use crate::failure::Failure;
use crate::options::{Limits, Log};

/// Tells when a model is loaded, or why it is not.
pub(crate) type Load = oneshot::Receiver<Result<(), Error>>;

/// All models of the server.
pub struct Registry {
    entries: Mutex<Vec<Arc<Entry>>>,
    /// Those that were unloaded, as long as something of them runs.
    leaving: Mutex<Vec<Weak<Entry>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    limits: Limits,
    log: Option<Log>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Starts a thread for every model. What is received tells when all are loaded, or that one cannot be.
    ///
    /// # Errors
    /// When two models have one name, there is none, or a thread cannot be started.
    pub fn start(
        sources: Vec<Source>,
        limits: &Limits,
        log: Option<Log>,
    ) -> Result<(Arc<Self>, Vec<Load>), Error> {
        if sources.is_empty() {
            return Err(Error::Setting("there is no model to serve".into()));
        }
        let (entries, leaving, threads) = Default::default();
        let registry = Arc::new(Self { entries, leaving, threads, limits: limits.clone(), log });
        let mut loads = Vec::new();
        for source in sources {
            let name = source.name.clone();
            let load = registry.begin(source, true).map_err(|refused| match refused {
                Refused::Name => {
                    Error::Setting(format!("two models are called '{name}'; name one of them with NAME=PATH"))
                }
                Refused::Parent(parent) => {
                    Error::Setting(format!("'{name}' stands on '{parent}', which is no model before it"))
                }
                Refused::Thread(why) => Error::Setting(why),
            })?;
            loads.push(load);
        }
        Ok((registry, loads))
    }

    /// Begins to load one more model, whose name is taken from now on. Nothing waits for it but who asks for it.
    ///
    /// # Errors
    /// When its name is taken, or the model under it is none.
    pub(crate) fn load(self: &Arc<Self>, source: Source) -> Result<Load, Failure> {
        let name = source.name.clone();
        self.begin(source, false).map_err(|refused| match refused {
            Refused::Name => {
                let why = format!(
                    "a model is called '{name}' already; choose another name, or unload that one first"
                );
                conflict("name_taken", why).at("name")
            }
            Refused::Parent(parent) => {
                Failure::field("base", format!("the model '{parent}' was unloaded")).with_code("unknown_base")
            }
            Refused::Thread(why) => Failure::server(why),
        })
    }

    fn begin(self: &Arc<Self>, source: Source, is_first: bool) -> Result<Load, Refused> {
        let Source { name, parent, open, over } = source;
        let entry = Arc::new(Entry::new(name.clone(), parent.clone(), is_first));
        let mut entries = lock(&self.entries);
        if entries.iter().any(|other| other.name == name) {
            return Err(Refused::Name);
        }
        // An adapter has none under it but a whole model.
        let is_under = |other: &&Arc<Entry>, name: &String| other.name == *name && other.parent.is_none();
        let find = |name: &String| entries.iter().find(|other| is_under(other, name)).cloned();
        let under = match &parent {
            Some(parent) => Some(find(parent).ok_or_else(|| Refused::Parent(parent.clone()))?),
            None => None,
        };
        let (told, load) = oneshot::channel();
        let (registry, own) = (Arc::downgrade(self), entry.clone());
        let (limits, log) = (self.limits.clone(), self.log.clone());
        let thread = std::thread::Builder::new().name(format!("model {name}")).spawn(move || {
            let loading = Loading { entry: own, registry, told: Some(told) };
            let adapter = under.zip(over);
            loading.run(open, adapter, &limits, log.as_ref());
        });
        let thread =
            thread.map_err(|why| Refused::Thread(format!("no thread for the model '{name}': {why}")))?;
        entries.push(entry);
        drop(entries);
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(load)
    }

    /// Takes a model away: no request finds it any more, those that it answers get their answers, and then it is freed.
    ///
    /// # Errors
    /// When there is none of this name, it is being loaded, or adapters stand on it.
    pub(crate) fn unload(&self, name: &str) -> Result<(), Failure> {
        let mut entries = lock(&self.entries);
        let at = entries.iter().position(|entry| entry.name == name);
        let at = at.ok_or_else(|| unknown(&entries, name))?;
        let Some(kind) = entries[at].kind() else {
            let why = format!("the model '{name}' is being loaded; unload it when it is");
            return Err(conflict("loading", why));
        };
        let stand_on = |entry: &&Arc<Entry>| entry.parent.as_deref() == Some(name);
        let adapters: Vec<&str> = entries.iter().filter(stand_on).map(|entry| entry.name.as_str()).collect();
        if !adapters.is_empty() {
            let why =
                format!("adapters stand on the model '{name}'; unload them first: {}", adapters.join(", "));
            return Err(conflict("has_adapters", why));
        }
        kind.leave();
        let entry = entries.remove(at);
        let mut leaving = lock(&self.leaving);
        leaving.retain(|entry| entry.strong_count() > 0);
        leaving.push(Arc::downgrade(&entry));
        Ok(())
    }

    /// All models, in the order in which they came.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.entries).clone()
    }

    /// The model of a name.
    ///
    /// # Errors
    /// When there is none of it, or it is not loaded yet.
    pub fn find(&self, name: &str) -> Result<(Arc<Entry>, Kind), Failure> {
        let entries = lock(&self.entries);
        let entry = entries.iter().find(|entry| entry.name == name).cloned();
        let entry = entry.ok_or_else(|| unknown(&entries, name))?;
        drop(entries);
        match entry.kind().cloned() {
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
    pub(crate) fn language(&self, name: &str) -> Result<(Arc<Entry>, Language), Failure> {
        match self.find(name)? {
            (entry, Kind::Language(language)) => Ok((entry, language)),
            (entry, other) => Err(wrong_kind(&entry.name, &other, "generates text")),
        }
    }

    /// Why the server is not ready; `None` when it is. Models that are loaded while it runs keep nobody away.
    pub fn unready(&self) -> Option<String> {
        self.entries().iter().find_map(|entry| match entry.kind() {
            None if !entry.is_first => None,
            None => Some(format!("the model '{}' is being loaded", entry.name)),
            Some(kind) => kind.fault().map(|why| format!("the model '{}' is down: {why}", entry.name)),
        })
    }

    /// Ends all threads; what still runs is told.
    pub fn stop(&self) {
        let leaving: Vec<Arc<Entry>> = lock(&self.leaving).iter().filter_map(Weak::upgrade).collect();
        self.entries().iter().chain(&leaving).filter_map(|entry| entry.kind()).for_each(Kind::stop);
    }

    /// Waits until all threads ended, after [`Registry::stop`].
    pub fn join(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Why a model does not begin to load.
enum Refused {
    /// Its name is taken.
    Name,
    /// There is no model under it, whose name this is.
    Parent(String),
    /// It has no thread.
    Thread(String),
}

fn conflict(code: &'static str, why: String) -> Failure {
    Failure::new(StatusCode::CONFLICT, "invalid_request_error", why).with_code(code)
}

fn unknown(entries: &[Arc<Entry>], name: &str) -> Failure {
    let known: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let name: String = name.chars().take(80).collect();
    let known =
        if known.is_empty() { "there is none".into() } else { format!("there are: {}", known.join(", ")) };
    Failure::not_found(format!("there is no model '{name}'; {known}"))
        .at("model")
        .with_code("model_not_found")
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

/// A model that a thread loads.
struct Loading {
    entry: Arc<Entry>,
    registry: Weak<Registry>,
    /// Who waits for it, until that is told.
    told: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Loading {
    /// Loads the model and serves it until it is asked to stop. An adapter is left to the thread of the model under it, where
    /// that is possible.
    fn run(
        mut self,
        mut open: Open,
        adapter: Option<(Arc<Entry>, OpenOver)>,
        limits: &Limits,
        log: Option<&Log>,
    ) {
        if let Some((under, over)) = adapter {
            match ride(&under, over) {
                Ok(Rides::With(language)) => return self.is(Kind::Language(language)),
                Ok(Rides::Alone(why)) => {
                    let name = &self.entry.name;
                    let why = format!("the adapter '{name}' has a session of its own, since it {why}");
                    let line = json!({ "time": timestamp(), "level": "info", "model": name, "message": why });
                    log.iter().for_each(|log| log(&line));
                }
                Err(why) => return self.fails(why),
            }
        }
        let loaded = match open() {
            Ok(loaded) => loaded,
            Err(why) => return self.fails(why),
        };
        match loaded {
            Loaded::Language(session) => match language::bring_up(*session, limits) {
                Ok((language, engine)) => {
                    self.is(Kind::Language(language));
                    engine.run(open);
                }
                Err(why) => self.fails(why),
            },
            Loaded::Texts(embedder, pooling) => {
                let (worker, bench) = hire(*embedder, limits);
                self.is(Kind::Texts(worker, pooling));
                bench.run(open, |loaded| match loaded {
                    Loaded::Texts(embedder, _) => Some(*embedder),
                    _ => None,
                });
            }
            Loaded::Pairs(embedder) => {
                let (worker, bench) = hire(*embedder, limits);
                self.is(Kind::Pairs(worker));
                bench.run(open, |loaded| match loaded {
                    Loaded::Pairs(embedder) => Some(*embedder),
                    _ => None,
                });
            }
            Loaded::Speech(transcriber) => {
                let (worker, bench) = hire(transcriber, limits);
                self.is(Kind::Speech(worker));
                bench.run(open, |loaded| match loaded {
                    Loaded::Speech(transcriber) => Some(transcriber),
                    _ => None,
                });
            }
        }
    }

    /// It is loaded.
    fn is(&mut self, kind: Kind) {
        self.entry.is(kind);
        // Nobody listens where the server ended meanwhile, here and below.
        let _ = self.told.take().map(|told| told.send(Ok(())));
    }

    /// It cannot be loaded. The name of one that was asked for later is free again.
    fn fails(&mut self, why: String) {
        self.entry.fails(&why);
        if let Some(registry) = self.registry.upgrade().filter(|_| !self.entry.is_first) {
            lock(&registry.entries).retain(|other| !Arc::ptr_eq(other, &self.entry));
        }
        let error = Error::Model { name: self.entry.name.clone(), why };
        let _ = self.told.take().map(|told| told.send(Err(error)));
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if self.told.is_some() {
            self.fails("its thread ended while it was loaded".into());
        }
    }
}

/// How an adapter runs.
enum Rides {
    /// In the steps of the model under it.
    With(Language),
    /// With a session of its own, for this reason.
    Alone(String),
}

fn ride(under: &Entry, mut over: OpenOver) -> Result<Rides, String> {
    let below = |why: String| format!("the model '{}' under it: {why}", under.name);
    let Kind::Language(language) = under.wait().map_err(below)? else {
        // Its own error says what adapters of such models are good for.
        return Ok(Rides::Alone("stands on a model that does not generate".into()));
    };
    match over(language.model())? {
        OpenedAdapter::Layers(adapter) => language.add(adapter, over).map(Rides::With),
        OpenedAdapter::More(why) => Ok(Rides::Alone(why)),
    }
}
