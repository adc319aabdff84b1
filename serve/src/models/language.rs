//! A language model on its thread, which steps through all answers that are under way.

use std::collections::HashMap;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use percept_infer::{
    Error as InferError, Event, Recommended, Request, RequestId, Scheduler, SchedulerOptions,
    SchedulerStatistics, Session,
};
use percept_modalities::{Content, Media, Message, Part, image::Image};
use percept_model::CausalModel;
use percept_model::text::template;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Loaded;
use super::vocabulary::Vocabulary;
use crate::constraint::Grammars;
use crate::failure::Failure;
use crate::options::Limits;
use crate::reply::CallFormat;

/// Events that an answer may be behind its client. One that is further behind is ended.
const BEHIND: usize = 4096;

/// What becomes of the answers of a request.
pub(crate) enum Update {
    /// Something of the answer of this number.
    Event(usize, Box<Event>),
    /// The server ends.
    Stopped,
}

/// Room for answers of a model. It is given back when it is dropped, or with each answer that ends.
pub(crate) struct Admission(OwnedSemaphorePermit);

/// What a model reads beside text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reads {
    pub image: bool,
    pub video: bool,
    pub audio: bool,
}

/// A handle to a language model.
pub struct Language {
    model: Arc<dyn CausalModel>,
    pub(crate) recommended: Recommended,
    pub(crate) reads: Reads,
    /// How it writes the calls of tools; `None` when its template knows none.
    pub(crate) calls: Option<CallFormat>,
    /// Its answers may begin with reasoning.
    pub(crate) thinks: bool,
    vocabulary: OnceLock<Result<Arc<Vocabulary>, String>>,
    grammars: OnceLock<Result<Arc<Grammars>, String>>,
    slots: Arc<Semaphore>,
    most: usize,
    commands: std_mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// What the thread tells all.
#[derive(Default)]
struct Shared {
    statistics: Mutex<SchedulerStatistics>,
    fault: Mutex<Option<String>>,
}

enum Command {
    Submit {
        requests: Vec<Request>,
        admission: Admission,
        told: oneshot::Sender<Result<mpsc::Receiver<Update>, InferError>>,
    },
    Stop,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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
    let options = SchedulerOptions { running: limits.running, waiting: most, ..SchedulerOptions::default() };
    let scheduler = Scheduler::new(session, options).map_err(|error| error.to_string())?;
    let (commands, received) = std_mpsc::channel();
    let shared = Arc::new(Shared::default());
    let language = Language {
        reads: reads(&*model),
        model,
        recommended,
        calls: template.as_ref().and_then(|template| CallFormat::of(template.source())),
        thinks: template.as_ref().is_some_and(|template| template.source().contains("</think>")),
        vocabulary: OnceLock::new(),
        grammars: OnceLock::new(),
        slots: Arc::new(Semaphore::new(most)),
        most,
        commands,
        shared: shared.clone(),
    };
    Ok((language, Engine { scheduler, options, received, shared, live: HashMap::new() }))
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

    /// Counts of what its thread does.
    pub fn statistics(&self) -> SchedulerStatistics {
        *lock(&self.shared.statistics)
    }

    /// Why it does not answer.
    pub(super) fn fault(&self) -> Option<String> {
        lock(&self.shared.fault).clone()
    }

    pub(super) fn stop(&self) {
        // A thread that ended already has nothing to stop.
        let _ = self.commands.send(Command::Stop);
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
        self.commands.send(Command::Submit { requests, admission, told }).map_err(|_| gone())?;
        let begun = answer.await.map_err(|_| gone())?;
        begun.map_err(|error| match error {
            InferError::QueueFull { .. } => Failure::busy(error.to_string(), 1),
            other => Failure::of_infer(&other),
        })
    }
}

/// An answer that is being made.
struct Live {
    choice: usize,
    updates: mpsc::Sender<Update>,
    _admission: Admission,
}

/// What a model's thread runs.
pub(super) struct Engine {
    scheduler: Scheduler,
    options: SchedulerOptions,
    received: std_mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    live: HashMap<RequestId, Live>,
}

impl Engine {
    /// Answers until it is stopped. `open` brings the model back when its device was lost.
    pub fn run(mut self, mut open: impl FnMut() -> Result<Loaded, String>) {
        loop {
            let command = match self.live.is_empty() {
                true => self.received.recv().ok(),
                false => match self.received.try_recv() {
                    Ok(command) => Some(command),
                    Err(std_mpsc::TryRecvError::Empty) => {
                        if !self.step() && !self.reopen(&mut open) {
                            return;
                        }
                        continue;
                    }
                    Err(std_mpsc::TryRecvError::Disconnected) => None,
                },
            };
            match command {
                Some(Command::Submit { requests, admission, told }) => self.begin(requests, admission, told),
                Some(Command::Stop) | None => return self.end(),
            }
        }
    }

    fn begin(
        &mut self,
        requests: Vec<Request>,
        mut admission: Admission,
        told: oneshot::Sender<Result<mpsc::Receiver<Update>, InferError>>,
    ) {
        let (updates, receiver) = mpsc::channel(BEHIND * requests.len().max(1));
        let mut begun = Vec::with_capacity(requests.len());
        for (choice, request) in requests.into_iter().enumerate() {
            match self.scheduler.submit(request) {
                Ok(id) => {
                    // There is a permit for every answer; one without is not counted.
                    let permit = admission.0.split(1).map(Admission);
                    let Some(permit) = permit else { continue };
                    self.live.insert(id, Live { choice, updates: updates.clone(), _admission: permit });
                    begun.push(id);
                }
                Err(error) => {
                    begun.into_iter().for_each(|id| self.cancel(id));
                    let _ = told.send(Err(error));
                    return;
                }
            }
        }
        // When nobody waits any more, the receiver is dropped and the answers are cancelled before the next step.
        let _ = told.send(Ok(receiver));
        self.publish();
    }

    fn cancel(&mut self, id: RequestId) {
        self.scheduler.cancel(id);
        self.live.remove(&id);
    }

    /// One step over all answers; false when the device failed.
    fn step(&mut self) -> bool {
        let left: Vec<RequestId> =
            self.live.iter().filter(|(_, live)| live.updates.is_closed()).map(|(id, _)| *id).collect();
        left.into_iter().for_each(|id| self.cancel(id));
        let (live, mut behind) = (&mut self.live, Vec::new());
        let stepped = self.scheduler.step(&mut |id, event| {
            let ends = matches!(event, Event::Finished { .. } | Event::Failed(_));
            let Some(answer) = live.get(&id) else { return };
            if answer.updates.try_send(Update::Event(answer.choice, Box::new(event))).is_err() {
                behind.push(id);
            }
            if ends {
                live.remove(&id);
            }
        });
        behind.into_iter().for_each(|id| self.cancel(id));
        self.publish();
        match stepped {
            Ok(_) => true,
            Err(error) => {
                let failed = |(_, live): (RequestId, Live)| {
                    let event = Event::Failed(error.clone());
                    // Who left need not be told.
                    let _ = live.updates.try_send(Update::Event(live.choice, Box::new(event)));
                };
                self.live.drain().for_each(failed);
                false
            }
        }
    }

    fn publish(&self) {
        *lock(&self.shared.statistics) = self.scheduler.statistics();
    }

    /// Brings the model back after its device failed; false when the server is to end meanwhile.
    fn reopen(&mut self, open: &mut impl FnMut() -> Result<Loaded, String>) -> bool {
        loop {
            let opened = open().and_then(|loaded| match loaded {
                Loaded::Language(session) => {
                    Scheduler::new(*session, self.options).map_err(|error| error.to_string())
                }
                _ => Err("it is another model now".into()),
            });
            match opened {
                Ok(scheduler) => {
                    self.scheduler = scheduler;
                    *lock(&self.shared.fault) = None;
                    self.publish();
                    return true;
                }
                Err(why) => *lock(&self.shared.fault) = Some(why),
            }
            // Requests are refused meanwhile; the device is tried again after a while.
            match self.received.recv_timeout(AGAIN) {
                Ok(Command::Stop) | Err(std_mpsc::RecvTimeoutError::Disconnected) => return false,
                Ok(Command::Submit { .. }) | Err(std_mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Ends all answers.
    fn end(mut self) {
        for (id, live) in std::mem::take(&mut self.live) {
            self.scheduler.cancel(id);
            let _ = live.updates.try_send(Update::Stopped);
        }
    }
}

/// Between two tries to open a lost device.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);
