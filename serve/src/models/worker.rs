//! A model on its thread that does one job after the other.

use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::Loaded;
use crate::failure::Failure;
use crate::options::Limits;

/// What became of the model while it did a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It goes on.
    Fine,
    /// Its device failed.
    Lost,
}

type Job<T> = Box<dyn FnOnce(&mut T) -> After + Send>;

/// A handle to a model that does jobs. Clones are the same.
pub struct Worker<T> {
    jobs: std_mpsc::Sender<Option<Job<T>>>,
    slots: Arc<Semaphore>,
    fault: Arc<Mutex<Option<String>>>,
}

impl<T> Clone for Worker<T> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), slots: self.slots.clone(), fault: self.fault.clone() }
    }
}

/// What its thread runs.
pub(super) struct Bench<T> {
    model: T,
    jobs: std_mpsc::Receiver<Option<Job<T>>>,
    fault: Arc<Mutex<Option<String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle to a model, and what its thread runs.
pub(super) fn hire<T>(model: T, limits: &Limits) -> (Worker<T>, Bench<T>) {
    let (sender, jobs) = std_mpsc::channel();
    let slots = Arc::new(Semaphore::new(limits.waiting.saturating_add(1)));
    let fault = Arc::new(Mutex::default());
    (Worker { jobs: sender, slots, fault: fault.clone() }, Bench { model, jobs, fault })
}

impl<T> Worker<T> {
    /// Why it does nothing.
    pub(super) fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    /// Ends its thread when the jobs that wait are done.
    pub(super) fn stop(&self) {
        // A thread that ended already has nothing to stop.
        let _ = self.jobs.send(None);
    }

    /// Does a job when those before it are done. It is told by `is_left` when nobody waits for it any more. What the job
    /// fails at with the device is no fault of the request's.
    ///
    /// # Errors
    /// When too many jobs wait, the server ends, or the job fails.
    pub(crate) async fn work<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut T, &dyn Fn() -> bool) -> Result<R, percept_infer::Error> + Send + 'static,
    ) -> Result<R, Failure> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            return Err(Failure::busy(
                "as many requests wait for this model as the server takes; try again later",
                5,
            ));
        };
        let (told, answer) = oneshot::channel();
        let work = move |model: &mut T| {
            let _slot = slot;
            if told.is_closed() {
                return After::Fine;
            }
            let done = job(model, &|| told.is_closed());
            let after = match &done {
                Err(error) if Failure::of_infer(error).status.is_server_error() => After::Lost,
                _ => After::Fine,
            };
            // Who left need not be told.
            let _ = told.send(done);
            after
        };
        let gone = || Failure::unavailable("the server is stopping", 5);
        self.jobs.send(Some(Box::new(work))).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(|error| Failure::of_infer(&error))
    }
}

/// Between two tries to open a lost device.
const AGAIN: Duration = Duration::from_secs(5);

impl<T> Bench<T> {
    /// Works until it is stopped. `open` brings the model back when its device was lost, and `take` is what of it is this
    /// one.
    pub fn run(
        mut self,
        mut open: impl FnMut() -> Result<Loaded, String>,
        take: impl Fn(Loaded) -> Option<T>,
    ) {
        while let Ok(Some(job)) = self.jobs.recv() {
            if job(&mut self.model) == After::Fine {
                continue;
            }
            loop {
                let opened = open();
                match opened.and_then(|loaded| take(loaded).ok_or_else(|| "it is another model now".into())) {
                    Ok(model) => {
                        self.model = model;
                        *lock(&self.fault) = None;
                        break;
                    }
                    Err(why) => *lock(&self.fault) = Some(why),
                }
                // Jobs are dropped meanwhile, which tells those who wait.
                match self.jobs.recv_timeout(AGAIN) {
                    Ok(None) | Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
                    Ok(Some(_)) | Err(std_mpsc::RecvTimeoutError::Timeout) => {}
                }
            }
        }
    }
}
