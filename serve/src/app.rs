//! What all requests share.

use std::sync::Arc;

use percept_infer::Draft;
use tokio::sync::{Semaphore, watch};

use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::models::Registry;
use crate::options::{Fetch, Limits, Log, OpenWanted};

/// How far the server is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It takes requests.
    Serving,
    /// It takes no more requests, and finishes those that it has.
    Draining,
    /// It ends what still runs.
    Ending,
}

/// What all requests share.
pub(crate) struct App {
    pub registry: Arc<Registry>,
    pub limits: Limits,
    pub keys: Keys,
    pub metrics: Metrics,
    pub draft: Option<Draft>,
    pub fetch: Option<Fetch>,
    pub log: Option<Log>,
    pub admin: Option<Administration>,
    pub phase: watch::Receiver<Phase>,
    /// Bytes of bodies that may still be held, in units of [`BODY_UNIT`].
    pub bodies: Arc<Semaphore>,
    /// Requests whose media and prompts may be prepared at once.
    pub preparing: Arc<Semaphore>,
}

/// What loads and unloads models, and for whom.
pub(crate) struct Administration {
    pub keys: Keys,
    pub open: OpenWanted,
}

/// A handle to it.
pub(crate) type Shared = Arc<App>;

/// Bytes that a permit for bodies stands for. Bodies of at most so many need none.
pub(crate) const BODY_UNIT: usize = 1 << 16;

impl App {
    /// How far the server is on its way out.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }
}
