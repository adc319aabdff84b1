//! What a compilation decided and what a traced run measured.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cost::OpCost;

/// Where an operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// By a kernel of the device.
    Native,
    /// By the kernels of its decomposition.
    Decomposed,
    /// By the host device.
    Host,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Placement::Native => "native",
            Placement::Decomposed => "decomposed",
            Placement::Host => "host",
        })
    }
}

/// One operation of the graph as it was given, and where it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Placed {
    /// The operation's name.
    pub op: String,
    /// The module path of the operation.
    pub path: Arc<str>,
    /// Where it runs.
    pub placement: Placement,
    /// Why it does not run natively; empty when it does.
    pub reason: String,
}

/// What a compilation decided.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CompileReport {
    /// Every operation of the graph that computes.
    pub placed: Vec<Placed>,
    /// The number of fused elementwise regions.
    pub fused: usize,
    /// Kernels launched by one run.
    pub launches: usize,
    /// Bytes of scratch a run needs.
    pub scratch_bytes: u64,
    /// Time the compilation took.
    pub compile_ms: f64,
}

impl CompileReport {
    /// The operations that fell back to the host.
    pub fn fallbacks(&self) -> impl Iterator<Item = &Placed> {
        self.placed.iter().filter(|p| p.placement == Placement::Host)
    }
}

/// How long one operation of a timed run took, and where it ran.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpTiming {
    /// The operation or kernel.
    pub name: Arc<str>,
    /// The module path of the operation.
    pub path: Arc<str>,
    /// Where it ran: the device's id, or the host's.
    pub place: Arc<str>,
    /// Microseconds since the start of the run.
    pub start_us: f64,
    /// Microseconds it took; on a device of several threads those of the first.
    pub duration_us: f64,
    /// Microseconds that the first thread then waited for the others; 0 where operations are timed one by one.
    pub waiting_us: f64,
    /// What it moves and computes, where its types tell.
    pub cost: Option<OpCost>,
}

impl OpTiming {
    /// Microseconds from the start of the run to its end, the waiting included.
    pub fn end_us(&self) -> f64 {
        self.start_us + self.duration_us + self.waiting_us
    }
}

/// The timings as a Chrome trace (chrome://tracing, Perfetto): "complete" events of the Trace Event Format.
pub fn chrome_trace(events: &[OpTiming]) -> serde_json::Value {
    let mut places: Vec<&str> = events.iter().map(|e| &*e.place).collect();
    places.sort_unstable();
    places.dedup();
    let thread = |place: &str| places.iter().position(|p| *p == place).unwrap_or(0);
    let names = places.iter().map(|p| {
        serde_json::json!({"ph": "M", "name": "thread_name", "pid": 0, "tid": thread(p), "args": {"name": p}})
    });
    let spans = events.iter().map(|e| {
        serde_json::json!({
            "ph": "X", "name": &*e.name, "cat": "op", "pid": 0, "tid": thread(&e.place),
            "ts": e.start_us, "dur": e.duration_us, "args": {"path": &*e.path},
        })
    });
    serde_json::json!({"traceEvents": names.chain(spans).collect::<Vec<_>>()})
}
