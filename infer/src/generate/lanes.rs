//! Prompts shared out to sessions that run side by side, each on a thread of its own.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Generation, Request};
use crate::error::{Error, Result};
use crate::session::Session;

/// Requests that no lane has taken yet, by number.
#[derive(Default)]
struct Waiting {
    requests: VecDeque<(usize, Request)>,
    /// None will be added any more.
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A thread that panicked leaves it as it was between two requests.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, number: usize, request: Request) {
        self.waiting().requests.push_back((number, request));
        self.changed.notify_one();
    }

    /// No request follows.
    fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_all();
    }

    /// The next request. Where none waits, `patient` waits for one, unless none will come.
    fn take(&self, patient: bool) -> Option<(usize, Request)> {
        let mut waiting = self.waiting();
        while patient && waiting.requests.is_empty() && !waiting.closed {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.requests.pop_front()
    }
}

/// Empties and closes the queue when the thread that fills it has ended, also by a panic: lanes end too.
struct Closing<'q>(&'q Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.waiting().requests.clear();
        self.0.close();
    }
}

/// What a lane tells.
enum Told {
    /// What became of a request, by its number.
    Done(usize, Box<Generation>),
    /// The lane is at its end.
    Ended(Result<()>),
}

/// Tells the end of a lane that panics, so that nobody waits for what it had begun.
struct Panicking<'t>(&'t Sender<Told>);

impl Drop for Panicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.send(Told::Ended(Err(stopped())));
        }
    }
}

impl Session {
    /// Let these sessions, of the same model and each on a device of its own, answer what [`Session::generate_all`] is
    /// asked, side by side, each on a thread of its own; [`Session::on`] makes them. For a model so small that the
    /// threads of one device mostly wait for each other. A request that names an adapter or a draft model needs
    /// sessions that have it.
    pub fn with_lanes(mut self, lanes: Vec<Session>) -> Self {
        self.lanes = lanes;
        self
    }
}

/// As [`Session::generate_all`], on several sessions of one model, which have `batch` requests at a time between them.
/// `done` gets answers in the order of the requests: which lane is faster is another thing each time.
pub(super) fn generate_in_lanes<E: From<Error>>(
    lanes: &mut [Session],
    requests: impl IntoIterator<Item = Result<Request, E>>,
    batch: usize,
    mut done: impl FnMut(usize, Generation) -> Result<(), E>,
) -> Result<(), E> {
    let batch = batch.max(1);
    let (queue, share) = (Queue::default(), batch.div_ceil(lanes.len().max(1)));
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        let closing = Closing(&queue);
        for lane in lanes {
            let (queue, tell) = (&queue, tell.clone());
            scope.spawn(move || {
                let _panicking = Panicking(&tell);
                let ended = run_lane(lane, queue, share, &mut |number, generation| {
                    // Who has stopped listening has an error, and wants no more.
                    tell.send(Told::Done(number, Box::new(generation))).map_err(|_| stopped())
                });
                let _ = tell.send(Told::Ended(ended));
            });
        }
        drop(tell);
        let mut requests = requests.into_iter();
        let (mut added, mut running, mut is_last) = (0, 0, false);
        // Answers that came before their turn.
        let (mut early, mut next) = (BTreeMap::new(), 0);
        let mut work = || -> Result<(), E> {
            loop {
                // Behind one that takes long, answers of another batch wait for their turn, and no more.
                while !is_last && running < batch && added < next + 2 * batch {
                    match requests.next().transpose()? {
                        Some(request) => {
                            queue.add(added, request);
                            (added, running) = (added + 1, running + 1);
                        }
                        None => {
                            is_last = true;
                            queue.close();
                        }
                    }
                }
                match told.recv() {
                    Ok(Told::Done(number, generation)) => {
                        running -= 1;
                        early.insert(number, *generation);
                        while let Some(generation) = early.remove(&next) {
                            done(next, generation)?;
                            next += 1;
                        }
                    }
                    Ok(Told::Ended(ended)) => ended?,
                    // All lanes have ended.
                    Err(_) => return Ok(()),
                }
            }
        };
        let worked = work();
        drop(closing);
        drop(told);
        worked
    })
}

/// One lane: as many requests at a time as its share, until the queue has no more.
fn run_lane(
    lane: &mut Session,
    queue: &Queue,
    share: usize,
    done: &mut dyn FnMut(usize, Generation) -> Result<()>,
) -> Result<()> {
    let running = Cell::new(0_usize);
    // The numbers of all requests of the lane, by its own.
    let numbers = std::cell::RefCell::new(Vec::new());
    let requests = std::iter::from_fn(|| {
        let (number, request) = queue.take(running.get() == 0)?;
        running.set(running.get() + 1);
        numbers.borrow_mut().push(number);
        Some(Ok(request))
    });
    lane.generate_all::<Error>(requests, share, |own, generation| {
        running.set(running.get() - 1);
        let number = numbers.borrow()[own];
        done(number, generation)
    })
}

fn stopped() -> Error {
    Error::Setting("the run was ended while requests were answered".into())
}
