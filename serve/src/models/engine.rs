//! What the thread of a language model runs: the steps over all answers that are under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;

use percept_infer::{
    AdapterId, Error as InferError, Event, Request, RequestId, Scheduler, SchedulerOptions,
    SchedulerStatistics,
};
use percept_model::{LayerAdapter, OpenedAdapter};
use tokio::sync::mpsc;

use super::language::{Admission, Begun, Command, Shared, Statistics, Update, lock};
use super::{Loaded, OpenOver};
use crate::failure::Failure;

/// Events that an answer may be behind its client. One that is further behind is ended.
const BEHIND: usize = 4096;

/// An answer that is being made.
struct Live {
    choice: usize,
    adapter: Option<u64>,
    is_begun: bool,
    updates: mpsc::Sender<Update>,
    _admission: Admission,
}

/// An adapter that answers are read with.
struct Riding {
    id: AdapterId,
    over: OpenOver,
}

/// What a model's thread runs.
pub(super) struct Engine {
    scheduler: Scheduler,
    options: SchedulerOptions,
    received: std_mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    live: HashMap<RequestId, Live>,
    adapters: HashMap<u64, Riding>,
    /// What was counted of answers with each adapter, and of those that are no more.
    counts: BTreeMap<u64, SchedulerStatistics>,
    gone: SchedulerStatistics,
    is_leaving: bool,
}

impl Engine {
    pub fn new(
        scheduler: Scheduler,
        options: SchedulerOptions,
        received: std_mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        let (live, adapters, counts, gone) = Default::default();
        Self { scheduler, options, received, shared, live, adapters, counts, gone, is_leaving: false }
    }

    /// Answers until it is stopped. `open` brings the model back when its device was lost.
    pub fn run(mut self, mut open: impl FnMut() -> Result<Loaded, String>) {
        loop {
            let command = match self.live.is_empty() {
                true if self.is_leaving => return,
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
                Some(Command::Submit { requests, adapter, admission, told }) => {
                    // Nobody may wait any more, here and below.
                    let _ = told.send(self.begin(requests, adapter, admission));
                    self.publish();
                }
                Some(Command::Add { number, adapter, over, told }) => {
                    let _ = told.send(self.add(number, *adapter, over));
                }
                Some(Command::Remove { number }) => self.remove(number),
                Some(Command::Leave) => self.is_leaving = true,
                Some(Command::Stop) | None => return self.end(),
            }
        }
    }

    /// When nobody waits for what is received, it is dropped, and the answers are cancelled before the next step.
    fn begin(&mut self, requests: Vec<Request>, adapter: Option<u64>, mut admission: Admission) -> Begun {
        let unloaded =
            || Failure::not_found("the model was unloaded").at("model").with_code("model_not_found");
        let id = match adapter {
            Some(number) => Some(self.adapters.get(&number).ok_or_else(unloaded)?.id),
            None => None,
        };
        if self.is_leaving {
            return Err(unloaded());
        }
        let (updates, receiver) = mpsc::channel(BEHIND * requests.len().max(1));
        let mut begun = Vec::with_capacity(requests.len());
        for (choice, mut request) in requests.into_iter().enumerate() {
            request.options.adapter = id;
            match self.scheduler.submit(request) {
                Ok(id) => {
                    // There is a permit for every answer; one without is not counted.
                    let permit = admission.0.split(1).map(Admission);
                    let Some(permit) = permit else { continue };
                    let updates = updates.clone();
                    let live = Live { choice, adapter, is_begun: false, updates, _admission: permit };
                    self.live.insert(id, live);
                    begun.push(id);
                }
                Err(error) => {
                    begun.into_iter().for_each(|id| self.cancel(id));
                    return Err(match error {
                        InferError::QueueFull { .. } => Failure::busy(error.to_string(), 1),
                        other => Failure::of_infer(&other),
                    });
                }
            }
        }
        Ok(receiver)
    }

    fn add(&mut self, number: u64, adapter: LayerAdapter, over: OpenOver) -> Result<(), String> {
        if self.is_leaving {
            return Err("the model under it is being unloaded".into());
        }
        let id = self.scheduler.add_adapter(adapter).map_err(|error| error.to_string())?;
        self.adapters.insert(number, Riding { id, over });
        self.counts.insert(number, SchedulerStatistics::default());
        self.publish();
        Ok(())
    }

    /// Answers that have an adapter keep it until they end.
    fn remove(&mut self, number: u64) {
        if let Some(riding) = self.adapters.remove(&number) {
            // The session has it as long as it is listed here.
            let _ = self.scheduler.remove_adapter(riding.id);
        }
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
        let (live, counts, mut behind) = (&mut self.live, &mut self.counts, Vec::new());
        let stepped = self.scheduler.step(&mut |id, event| {
            let ends = matches!(event, Event::Finished { .. } | Event::Failed(_));
            let Some(answer) = live.get_mut(&id) else { return };
            if let Some(counts) = answer.adapter.and_then(|number| counts.get_mut(&number)) {
                count(counts, &event);
            }
            answer.is_begun |= matches!(event, Event::Started { .. });
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

    /// Tells what was counted. What is the adapters' is not counted for the model too.
    fn publish(&mut self) {
        let (live, adapters, gone) = (&self.live, &self.adapters, &mut self.gone);
        self.counts.retain(|number, counts| {
            let is_needed =
                adapters.contains_key(number) || live.values().any(|l| l.adapter == Some(*number));
            if !is_needed {
                add(gone, counts);
            }
            is_needed
        });
        let mut all = Statistics { model: self.scheduler.statistics(), adapters: Vec::new() };
        take(&mut all.model, gone);
        for (number, counts) in &self.counts {
            let own = live.values().filter(|live| live.adapter == Some(*number));
            let (running, waiting): (Vec<&Live>, Vec<&Live>) = own.partition(|live| live.is_begun);
            let own = SchedulerStatistics { running: running.len(), waiting: waiting.len(), ..*counts };
            take(&mut all.model, &own);
            all.adapters.push((*number, own));
        }
        *lock(&self.shared.statistics) = all;
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
            match opened.and_then(|scheduler| self.bring_back(scheduler)) {
                Ok(()) => {
                    *lock(&self.shared.fault) = None;
                    self.publish();
                    return true;
                }
                Err(why) => *lock(&self.shared.fault) = Some(why),
            }
            // Requests are refused meanwhile; the device is tried again after a while.
            match self.received.recv_timeout(AGAIN) {
                Ok(Command::Stop | Command::Leave) | Err(std_mpsc::RecvTimeoutError::Disconnected) => {
                    return false;
                }
                Ok(Command::Remove { number }) => drop(self.adapters.remove(&number)),
                Ok(Command::Add { told, .. }) => {
                    let _ =
                        told.send(Err("the device of the model under it was lost; try again later".into()));
                }
                Ok(Command::Submit { told, .. }) => {
                    let why = "the device of the model was lost, and is being opened again";
                    let _ = told.send(Err(Failure::unavailable(why, 10)));
                }
                Err(std_mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Goes on with a new scheduler, and the same adapters.
    fn bring_back(&mut self, mut scheduler: Scheduler) -> Result<(), String> {
        let model = scheduler.session().shared_model();
        let mut ids = Vec::new();
        for (number, riding) in &mut self.adapters {
            let OpenedAdapter::Layers(adapter) = (riding.over)(&*model)? else {
                return Err("an adapter is another one now".into());
            };
            ids.push((*number, scheduler.add_adapter(adapter).map_err(|error| error.to_string())?));
        }
        for (number, id) in ids {
            self.adapters.entry(number).and_modify(|riding| riding.id = id);
        }
        // What was counted before the device was lost is counted no more.
        self.counts.values_mut().for_each(|counts| *counts = SchedulerStatistics::default());
        self.gone = SchedulerStatistics::default();
        self.scheduler = scheduler;
        Ok(())
    }

    /// Ends all answers.
    fn end(mut self) {
        for (id, live) in std::mem::take(&mut self.live) {
            self.scheduler.cancel(id);
            let _ = live.updates.try_send(Update::Stopped);
        }
    }
}

/// Counts what becomes of an answer.
fn count(counts: &mut SchedulerStatistics, event: &Event) {
    match event {
        Event::Started { prompt_tokens, cached_tokens } => {
            counts.prompt_tokens += *prompt_tokens as u64;
            counts.prefix_queries += *prompt_tokens as u64;
            counts.prefix_hits += *cached_tokens as u64;
        }
        Event::Token { .. } => counts.generated_tokens += 1,
        Event::Finished { .. } | Event::Failed(_) => {}
    }
}

/// The counts of requests, each changed by those of another.
fn each(counts: &mut SchedulerStatistics, other: &SchedulerStatistics, change: impl Fn(u64, u64) -> u64) {
    counts.running = change(counts.running as u64, other.running as u64) as usize;
    counts.waiting = change(counts.waiting as u64, other.waiting as u64) as usize;
    for (count, other) in [
        (&mut counts.prompt_tokens, other.prompt_tokens),
        (&mut counts.prefix_queries, other.prefix_queries),
        (&mut counts.prefix_hits, other.prefix_hits),
        (&mut counts.generated_tokens, other.generated_tokens),
    ] {
        *count = change(*count, other);
    }
}

fn add(counts: &mut SchedulerStatistics, other: &SchedulerStatistics) {
    each(counts, other, u64::saturating_add);
}

fn take(counts: &mut SchedulerStatistics, other: &SchedulerStatistics) {
    each(counts, other, u64::saturating_sub);
}

/// Between two tries to open a lost device.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);
