//! A language model on its thread, which steps through all answers that are under way.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use percept_infer::{
    Draft, Event, Recommended, Request, Scheduler, SchedulerOptions, SchedulerStatistics, Session,
};
use percept_modalities::text::ChatTemplate;
use percept_modalities::{Content, Media, Message, Part, image::Image};
use percept_model::text::template;
use percept_model::{CausalModel, LayerAdapter};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::OpenOver;
use super::engine::Engine;
use super::vocabulary::Vocabulary;
use crate::constraint::Grammars;
use crate::failure::Failure;
use crate::options::Limits;
use crate::reply::CallFormat;

/// What becomes of the answers of a request.
pub(crate) enum Update {
    /// Something of the answer of this number.
    Event(usize, Box<Event>),
    /// The server ends.
    Stopped,
}

/// Room for answers of a model. It is given back when it is dropped, or with each answer that ends.
pub(crate) struct Admission(pub(super) OwnedSemaphorePermit);

/// What a model reads beside text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reads {
    pub image: bool,
    pub video: bool,
    pub audio: bool,
}

/// A handle to a language model, or to an adapter that is read beside one. Clones are the same.
#[derive(Clone)]
pub struct Language {
    thread: Arc<Thread>,
    /// The number of the adapter, among those of the model's thread.
    adapter: Option<u64>,
}

/// What is known of a language model, and the way to its thread.
pub struct Thread {
    model: Arc<dyn CausalModel>,
    pub(crate) recommended: Recommended,
    pub(crate) reads: Reads,
    /// How it writes the calls of tools; `None` when its template knows none.
    pub(crate) calls: Option<CallFormat>,
    /// Its answers may begin with reasoning.
    pub(crate) thinks: bool,
    template: Option<ChatTemplate>,
    has_draft_model: bool,
    vocabulary: OnceLock<Result<Arc<Vocabulary>, String>>,
    grammars: OnceLock<Result<Arc<Grammars>, String>>,
    slots: Arc<Semaphore>,
    most: usize,
    commands: std_mpsc::Sender<Command>,
    adapters: AtomicU64,
    shared: Arc<Shared>,
}

impl Deref for Language {
    type Target = Thread;

    fn deref(&self) -> &Thread {
        &self.thread
    }
}

/// What the thread tells all.
#[derive(Default)]
pub(super) struct Shared {
    pub statistics: Mutex<Statistics>,
    pub fault: Mutex<Option<String>>,
}

/// What a thread counts, for the model itself and each adapter.
#[derive(Default)]
pub(super) struct Statistics {
    pub model: SchedulerStatistics,
    pub adapters: Vec<(u64, SchedulerStatistics)>,
}

/// What begins of a request, or why it does not.
pub(super) type Begun = Result<mpsc::Receiver<Update>, Failure>;

/// What a thread is asked for.
pub(super) enum Command {
    Submit {
        requests: Vec<Request>,
        adapter: Option<u64>,
        admission: Admission,
        told: oneshot::Sender<Begun>,
    },
    /// Read what names this number with an adapter, which `over` opens again when the model is brought back.
    Add { number: u64, adapter: Box<LayerAdapter>, over: OpenOver, told: oneshot::Sender<Result<(), String>> },
    /// Take no more answers of an adapter.
    Remove { number: u64 },
    /// Take no more answers, and end when those that run have ended.
    Leave,
    /// End, whatever runs.
    Stop,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle to a model, and what its thread runs.
pub(super) fn bring_up(session: Session, limits: &Limits) -> Result<(Language, Engine), String> {
    let model = session.shared_model();
    let file = model.weights().checkpoint().file("generation_config.json");
    let recommended = match file.map_err(|error| error.to_string())? {
        Some(bytes) => Recommended::read(&bytes).map_err(|error| error.to_string())?,
        None => Recommended::default(),
    };
    let tokenizer = model.processor().tokenizer();
    let template = template(model.weights().checkpoint(), tokenizer).map_err(|error| error.to_string())?;
    let most = limits.running.saturating_add(limits.waiting);
    let options = SchedulerOptions { running: limits.running, waiting: most, prompt_rows: session.chunk() };
    let has_draft_model = session.draft().is_some();
    let scheduler = Scheduler::new(session, options).map_err(|error| error.to_string())?;
    let (commands, received) = std_mpsc::channel();
    let shared = Arc::new(Shared::default());
    let thread = Thread {
        reads: reads(&*model),
        model,
        recommended,
        calls: template.as_ref().and_then(|template| CallFormat::of(template.source())),
        thinks: template.as_ref().is_some_and(|template| template.source().contains("</think>")),
        template,
        has_draft_model,
        vocabulary: OnceLock::new(),
        grammars: OnceLock::new(),
        slots: Arc::new(Semaphore::new(most)),
        most,
        commands,
        adapters: AtomicU64::new(0),
        shared: shared.clone(),
    };
    let language = Language { thread: Arc::new(thread), adapter: None };
    Ok((language, Engine::new(scheduler, options, received, shared)))
}

/// What a model reads beside text. Whether it takes images, its processor alone knows, so it is shown one.
fn reads(model: &dyn CausalModel) -> Reads {
    let processor = model.processor();
    let image = Image::filled(64, 64, [127; 3]).is_ok_and(|image| {
        let parts = vec![Part::Image { path: None }, Part::Text { text: "?".into() }];
        let media = Media { images: vec![image], ..Media::default() };
        processor.chat(&[Message::new("user", Content::Parts(parts))], &media).is_ok()
    });
    Reads { image, video: processor.video_sampling().is_some(), audio: processor.audio_rate().is_some() }
}

impl Language {
    /// The model.
    pub fn model(&self) -> &dyn CausalModel {
        &*self.model
    }

    /// The name of its family, as its configuration has it.
    pub(crate) fn family(&self) -> String {
        self.model.weights().checkpoint().config()["model_type"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether it has this source of guesses.
    pub(crate) fn has(&self, draft: &Draft) -> bool {
        self.has_draft_model || matches!(draft, Draft::Lookup(_))
    }

    /// Whether its chat template may read a variable, or a field of a message, of this name.
    pub(crate) fn reads_named(&self, name: &str) -> bool {
        self.template.as_ref().is_some_and(|template| template.reads(name))
    }

    /// Tells the chat template whether the answer is to begin with reasoning, in the word that templates have for it.
    ///
    /// # Errors
    /// When the model does otherwise and its template reads no such word: why.
    pub(crate) fn think(&self, on: bool, variables: &mut Map<String, Value>) -> Result<(), &'static str> {
        const NAME: &str = "enable_thinking";
        if self.reads_named(NAME) {
            variables.entry(NAME).or_insert(on.into());
            return Ok(());
        }
        match (on, self.thinks) {
            (true, false) => Err("this model does not think; leave it out"),
            (false, true) => Err("this model always thinks, and its chat template cannot be told otherwise"),
            _ => Ok(()),
        }
    }

    /// The bytes of its tokens.
    pub(crate) fn vocabulary(&self) -> Result<Arc<Vocabulary>, Failure> {
        let read = || Vocabulary::of(self.model.processor().tokenizer()).map(Arc::new);
        self.vocabulary.get_or_init(read).clone().map_err(Failure::server)
    }

    /// What makes constraints over its tokens.
    pub(crate) fn grammars(&self) -> Result<Arc<Grammars>, Failure> {
        let vocabulary = self.vocabulary()?;
        let make = || {
            let ends = self.model.ends().map_err(|error| error.to_string())?;
            Grammars::of(&vocabulary, &ends).map(Arc::new)
        };
        self.grammars.get_or_init(make).clone().map_err(Failure::server)
    }

    /// Counts of what its thread does for it. Those of the cache are the model's alone.
    pub fn statistics(&self) -> SchedulerStatistics {
        let all = lock(&self.shared.statistics);
        match self.adapter {
            None => all.model,
            Some(number) => {
                let own = all.adapters.iter().find(|(other, _)| *other == number);
                own.map(|(_, statistics)| *statistics).unwrap_or_default()
            }
        }
    }

    /// Why it does not answer.
    pub(super) fn fault(&self) -> Option<String> {
        lock(&self.shared.fault).clone()
    }

    /// Ends its thread, whatever runs. That of an adapter is the model's, and goes on.
    pub(super) fn stop(&self) {
        if self.adapter.is_none() {
            // A thread that ended already has nothing to stop.
            let _ = self.commands.send(Command::Stop);
        }
    }

    /// Lets what runs end, and frees what it has.
    pub(super) fn leave(&self) {
        let command = self.adapter.map_or(Command::Leave, |number| Command::Remove { number });
        let _ = self.commands.send(command);
    }

    /// Reads answers with an adapter from now on; what is given is the handle to it. It waits for the step that runs, so no
    /// thread that must not wait may call it.
    pub(super) fn add(&self, adapter: LayerAdapter, over: OpenOver) -> Result<Self, String> {
        let number = self.adapters.fetch_add(1, Ordering::Relaxed);
        let (told, added) = oneshot::channel();
        let gone = || "the model under it is being unloaded, or its device was lost".to_owned();
        let command = Command::Add { number, adapter: Box::new(adapter), over, told };
        self.commands.send(command).map_err(|_| gone())?;
        added.blocking_recv().map_err(|_| gone())??;
        Ok(Self { thread: self.thread.clone(), adapter: Some(number) })
    }

    /// Room for some answers; `retry_after` estimates when there would be some.
    ///
    /// # Errors
    /// When too many answers are under way.
    pub(crate) fn admit(&self, answers: usize, retry_after: impl Fn() -> u64) -> Result<Admission, Failure> {
        let permits = u32::try_from(answers).unwrap_or(u32::MAX);
        match self.slots.clone().try_acquire_many_owned(permits) {
            Ok(permit) => Ok(Admission(permit)),
            Err(_) if answers > self.most => {
                let why =
                    format!("{answers} answers are asked for, and the server makes {} at most", self.most);
                Err(Failure::field("n", why))
            }
            Err(_) => {
                let why = format!(
                    "{} answers run or wait already, as many as the server takes; try again later",
                    self.most - self.slots.available_permits()
                );
                Err(Failure::busy(why, retry_after()))
            }
        }
    }

    /// Begins the answers to requests, one each. They end when what is received is dropped.
    ///
    /// # Errors
    /// When a request does not fit the model, or the model does not run any more.
    pub(crate) async fn submit(
        &self,
        requests: Vec<Request>,
        admission: Admission,
    ) -> Result<mpsc::Receiver<Update>, Failure> {
        let gone = || Failure::unavailable("the server is stopping", 5);
        let (told, answer) = oneshot::channel();
        let command = Command::Submit { requests, adapter: self.adapter, admission, told };
        self.commands.send(command).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
