//! A case of the ladder and how it is run on a device in this process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use percept_graph::reference::{ExactTensor, evaluate_exact};
use percept_graph::{DType, GraphError, HostTensor, Role, decode};
use serde::{Deserialize, Serialize};

use super::agreement::compare;
use super::problem::{Problem, Recipe, build};
use super::values::{flushed, held_in};
use super::workload::OpTime;
use crate::buffer::{Arg, Buffer};
use crate::device::{CompileOptions, Device, Executable, Weight};
use crate::error::Error;
use crate::report::Placement;

/// A rung of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Memory, donation, order, lifetimes, errors.
    L0,
    /// Primitives over dtypes, odd shapes and special values.
    L1,
    /// Composites against their own decompositions.
    L2,
    /// Gradients, training, decoding, invariance of rows, repeatability.
    L3,
    /// Endurance, concurrency and speed.
    L4,
    /// Models: what the program that runs the ladder knows beside this crate.
    L5,
}

impl Level {
    /// Every rung, lowest first.
    pub const ALL: [Level; 6] = [Level::L0, Level::L1, Level::L2, Level::L3, Level::L4, Level::L5];
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "L{}", *self as usize)
    }
}

/// One thing to check on a device.
pub struct Case {
    /// `L1/exp/f32/prime/normal`: level, operation or promise, and variant.
    pub id: String,
    /// The rung of the ladder that it is on.
    pub level: Level,
    /// The operation or promise: the row of the report.
    pub op: String,
    pub(crate) check: Check,
}

/// What a case does.
pub(crate) enum Check {
    /// The outputs of a graph agree with the reference.
    Values(Recipe),
    /// The gradients of a graph do; the longest sum has this many terms.
    Gradient(Recipe, usize),
    /// A promise of the contract holds.
    Promise(Promise),
    /// A graph is timed.
    Speed(Recipe),
    /// The operations of a model are timed.
    Model(Recipe),
    /// Something of the program's own.
    Program(ProgramCheck),
}

/// A check of a program's own, which notes in the outcome what it measured.
pub(crate) type ProgramCheck = Arc<dyn Fn(&Subject, &mut Outcome) -> Result<(), Fault> + Send + Sync>;

/// Checks a promise on a device.
pub(crate) type Promise = Arc<dyn Fn(&Subject) -> Result<(), Fault> + Send + Sync>;

/// The device under test, and what the ladder needs beside it.
pub struct Subject {
    /// The device under test.
    pub device: Arc<dyn Device>,
    /// Runs what the device cannot; what it ran is reported as a fallback.
    pub host: Option<Arc<dyn Device>>,
    /// A fallback is a failure.
    pub strict: bool,
    /// Runs of the endurance case; a slow device is let off after a minute, but not before 2 000.
    pub soak_runs: usize,
    /// Graphs are compiled and nothing runs: for the compilers of devices that are not here.
    pub compile_only: bool,
    pub(crate) bandwidth: OnceLock<f64>,
}

impl Subject {
    /// A device without a host beside it.
    pub fn new(device: Arc<dyn Device>) -> Self {
        let bandwidth = OnceLock::new();
        Self { device, host: None, strict: false, soak_runs: 10_000, compile_only: false, bandwidth }
    }

    /// The options with which cases are compiled.
    pub fn options(&self) -> CompileOptions {
        CompileOptions { strict: self.strict, host: self.host.clone(), ..CompileOptions::default() }
    }
}

/// Why a case does not pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The device does not do what it should.
    Wrong(String),
    /// The device says that it cannot run this.
    Unsupported(String),
    /// The case cannot be put to such a device.
    Inapplicable(String),
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        match e {
            Error::Unsupported { .. } => Fault::Unsupported(e.to_string()),
            e => Fault::Wrong(e.to_string()),
        }
    }
}

impl From<GraphError> for Fault {
    fn from(e: GraphError) -> Self {
        Fault::Wrong(format!("the case does not build: {e}"))
    }
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The case passed.
    Passed,
    /// With a wrong result or an error.
    Failed,
    /// The device does not have the operation, and says so.
    Skipped,
    /// The process that ran it died.
    Crashed,
    /// It did not come to an end.
    Hung,
}

/// The result of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The case's id.
    pub case: String,
    /// The rung of the ladder that it is on.
    pub level: Level,
    /// The operation that it tests.
    pub op: String,
    /// Where its worst-placed operation ran.
    pub placement: Option<Placement>,
    /// Largest error in ULP of the output's dtype; absent where nothing was compared or an element is
    /// infinitely off.
    pub error_ulp: Option<f64>,
    /// The dtype in whose units errors are counted where the device computes in it; otherwise they are in units of the output's dtype.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<DType>,
    /// Normalized mean square error.
    pub nmse: Option<f64>,
    /// Time of one run in milliseconds, reading included; for speed cases the median.
    pub ms: f64,
    /// How the case ended.
    pub status: Status,
    /// What was wrong, in words; empty when nothing was.
    #[serde(default)]
    pub note: String,
    /// Operations that ran on the host.
    #[serde(default)]
    pub fallbacks: Vec<String>,
    /// Share of the device's measured memory bandwidth that a speed case reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_share: Option<f64>,
    /// Operations of a model that are not native, with the time they take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<OpTime>,
}

impl Outcome {
    /// An outcome of a case with nothing measured.
    pub(crate) fn of(case: &Case, status: Status, note: impl Into<String>) -> Self {
        Self {
            case: case.id.clone(),
            level: case.level,
            op: case.op.clone(),
            placement: None,
            error_ulp: None,
            units: None,
            nmse: None,
            ms: 0.0,
            status,
            note: note.into(),
            fallbacks: Vec::new(),
            bandwidth_share: None,
            next: Vec::new(),
        }
    }
}

impl Case {
    /// A case that the program adds to the table: `L5/{op}/{variant}` where the level is 5. [`Options::more`] brings it into
    /// a run, and [`serve`](super::serve) into a worker.
    ///
    /// [`Options::more`]: super::Options::more
    pub fn of_program(
        level: Level,
        op: &str,
        variant: &str,
        check: impl Fn(&Subject, &mut Outcome) -> Result<(), Fault> + Send + Sync + 'static,
    ) -> Self {
        let id = format!("{level}/{op}/{variant}");
        Self { id, level, op: op.to_string(), check: Check::Program(Arc::new(check)) }
    }

    /// Run on a device in this process. A panic is a failure of the case.
    pub fn run(&self, subject: &Subject) -> Outcome {
        let start = Instant::now();
        let mut outcome = Outcome::of(self, Status::Passed, "");
        let result = catch_unwind(AssertUnwindSafe(|| self.check(subject, &mut outcome)));
        let (status, note) = match result {
            Ok(Ok(())) => (Status::Passed, String::new()),
            Ok(Err(Fault::Wrong(why))) => (Status::Failed, why),
            Ok(Err(Fault::Unsupported(why))) if subject.strict => (Status::Failed, why),
            Ok(Err(Fault::Unsupported(why) | Fault::Inapplicable(why))) => (Status::Skipped, why),
            Err(panic) => (Status::Failed, format!("panicked: {}", panic_message(panic.as_ref()))),
        };
        (outcome.status, outcome.note) = (status, note);
        if outcome.ms == 0.0 {
            outcome.ms = start.elapsed().as_secs_f64() * 1e3;
        }
        outcome
    }

    fn check(&self, subject: &Subject, outcome: &mut Outcome) -> Result<(), Fault> {
        if subject.compile_only {
            return self.compile(subject, outcome);
        }
        match &self.check {
            Check::Values(recipe) => agree(subject, &build(&self.id, recipe)?, outcome),
            Check::Gradient(recipe, terms) => {
                let forward = build(&self.id, recipe)?;
                agree(subject, &forward.gradient(&self.id, *terms)?, outcome)
            }
            Check::Promise(promise) => promise(subject),
            Check::Speed(recipe) => super::speed::measure(subject, &build(&self.id, recipe)?, outcome),
            Check::Model(recipe) => super::workload::measure(subject, build(&self.id, recipe)?, outcome),
            Check::Program(check) => check(subject, outcome),
        }
    }

    /// Compile the graph of a case that has one.
    fn compile(&self, subject: &Subject, outcome: &mut Outcome) -> Result<(), Fault> {
        let problem = match &self.check {
            Check::Values(recipe) | Check::Speed(recipe) | Check::Model(recipe) => build(&self.id, recipe)?,
            Check::Gradient(recipe, terms) => build(&self.id, recipe)?.gradient(&self.id, *terms)?,
            Check::Promise(_) | Check::Program(_) => {
                return Err(Fault::Inapplicable("it has to run, and this device only compiles".into()));
            }
        };
        compile(subject, &problem, outcome).map(drop)
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

/// The device's outputs of a problem are those of the reference, within tolerance.
fn agree(subject: &Subject, problem: &Problem, outcome: &mut Outcome) -> Result<(), Fault> {
    let executable = compile(subject, problem, outcome)?;
    let args = arguments(subject, problem)?;
    let start = Instant::now();
    let outputs = executable.run(args)?;
    let got = outputs.iter().map(|b| read(subject, b)).collect::<Result<Vec<_>, _>>()?;
    outcome.ms = start.elapsed().as_secs_f64() * 1e3;
    judge(problem, subject.device.info().computes_in, &got, outcome)
}

/// Compile a problem, noting where its operations went.
pub(crate) fn compile(
    subject: &Subject,
    problem: &Problem,
    outcome: &mut Outcome,
) -> Result<Box<dyn Executable>, Fault> {
    let executable = subject.device.compile(&problem.graph, &subject.options())?;
    let report = executable.report();
    outcome.placement = report.placed.iter().map(|p| p.placement).max();
    outcome.fallbacks = report.fallbacks().map(|p| p.op.clone()).collect();
    Ok(executable)
}

/// Upload the inputs of a problem; those that outputs replace are donated.
pub(crate) fn arguments(subject: &Subject, problem: &Problem) -> Result<Vec<Arg>, Fault> {
    let donated = problem.graph.donated();
    let inputs = problem.graph.inputs().iter().zip(&problem.inputs).enumerate();
    inputs
        .map(|(i, (input, values))| {
            let buffer = match input.role {
                Role::Parameter if !donated.contains(&i) => load(subject, values)?,
                _ => subject.device.upload(values.ty(), values.bytes())?,
            };
            Ok(if donated.contains(&i) { Arg::Donate(buffer) } else { Arg::Borrow(buffer) })
        })
        .collect()
}

fn load(subject: &Subject, values: &HostTensor) -> Result<Buffer, Fault> {
    let weight = Weight::new(values.ty().clone(), Arc::new(values.bytes().to_vec()))?;
    Ok(subject.device.load_weight(&weight)?)
}

/// The values of a buffer.
pub(crate) fn read(subject: &Subject, buffer: &Buffer) -> Result<Vec<f64>, Fault> {
    let bytes = subject.device.read(buffer)?;
    let ty = buffer.ty();
    if bytes.len() != ty.bytes() {
        return Err(Fault::Wrong(format!("{} bytes were read of {ty}", bytes.len())));
    }
    Ok(bytes.chunks_exact(ty.dtype.block_bytes()).map(|b| decode(ty.dtype, b)).collect())
}

/// Hold outputs of a device that computes in a dtype to the reference.
pub(crate) fn judge(
    problem: &Problem,
    computes_in: DType,
    got: &[Vec<f64>],
    outcome: &mut Outcome,
) -> Result<(), Fault> {
    let evaluate = |inputs: Vec<HostTensor>| {
        let limit = percept_graph::reference::DEFAULT_MAX_ELEMENTS;
        let inputs: Vec<ExactTensor> = inputs.iter().map(ExactTensor::from).collect();
        evaluate_exact(&problem.graph, &inputs, limit)
            .map_err(|e| Fault::Wrong(format!("the reference: {e}")))
    };
    let want = evaluate(problem.inputs.clone())?;
    let mut others = Vec::new();
    if problem.subnormal {
        others.push(evaluate(problem.inputs.iter().map(flushed).collect())?);
    }
    if matches!(computes_in, DType::F16 | DType::BF16) {
        let held: Vec<HostTensor> = problem.inputs.iter().map(|t| held_in(t, computes_in)).collect();
        others.push(evaluate(held.iter().map(flushed).collect())?);
        others.push(evaluate(held)?);
    }
    if got.len() != want.len() {
        return Err(Fault::Wrong(format!("{} outputs, expected {}", got.len(), want.len())));
    }
    let mut fault = None;
    let (mut ulp, mut nmse) = (0.0f64, 0.0f64);
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let (bounds, unit) = problem.classes[i].computed_in(w.ty.dtype, computes_in);
        if unit != w.ty.dtype {
            outcome.units = Some(unit);
        }
        let others: Vec<&[f64]> = others.iter().map(|other| other[i].values.as_slice()).collect();
        let a = compare(unit, g, &w.values, &others, &bounds);
        (ulp, nmse) = (ulp.max(a.ulp), nmse.max(a.nmse));
        fault = fault.or(a.fault.map(|f| format!("output '{}': {f}", problem.graph.outputs()[i].name)));
    }
    outcome.error_ulp = Some(ulp).filter(|u| u.is_finite());
    outcome.nmse = Some(nmse).filter(|n| n.is_finite());
    fault.map_or(Ok(()), |f| Err(Fault::Wrong(f)))
}
