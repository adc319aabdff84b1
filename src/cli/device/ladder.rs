//! `percept device test`: the conformance ladder.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use percept::hal::Device;
use percept::hal::conformance::{Level, Options, Report, RunError, Runner, Status, Subject, run, serve};

use super::families;
use crate::cli::Failure;
use crate::cli::failure::write_file;

#[derive(Args)]
pub struct Ladder {
    /// The device: cpu, wgpu:0, plugin:./chip.so, pjrt:/path/plugin.so, onnx:/path/libonnxruntime.so
    id: String,
    /// Highest rung to climb: 0 memory, 1 primitives, 2 composites, 3 gradients and invariance, 4 endurance
    /// and speed, 5 a tiny model of every family
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=5))]
    level: u8,
    /// Only cases whose id contains this
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Instead run every operation of a checkpoint's decoder, or of a text graph, and name the one to write
    /// next
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only compile, for hardware that need not be here: v5e:2x2 with pjrt:/path/libtpu.so
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "in_process"])]
    topology: Option<String>,
    /// Running anything on the host is a failure
    #[arg(long)]
    strict: bool,
    /// Seconds a case may take before it counts as hung
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// Run in this process: a crash of the driver ends the run
    #[arg(long)]
    in_process: bool,
    /// Answer case ids on standard input; the parent process uses this
    #[arg(long, hide = true)]
    worker: bool,
}

impl Ladder {
    pub fn run(self) -> Result<(), Failure> {
        if self.worker {
            let served =
                serve(&self.subject()?, families::cases(), std::io::stdin().lock(), std::io::stdout());
            return served.map_err(|source| Failure::File { path: "standard input".into(), source });
        }
        if let Some(model) = &self.model {
            return super::model_ops::test(&self.id, model, self.json.as_deref(), self.strict);
        }
        let options = Options {
            level: Level::ALL[self.level as usize],
            filter: self.filter.clone(),
            timeout: Duration::from_secs(self.timeout),
            more: families::cases,
            ..Options::default()
        };
        let topology = self.topology.as_deref();
        let isolation = Isolation { strict: self.strict, in_process: self.in_process, topology };
        let report = climb(&self.id, &options, isolation)?;
        if let Some(file) = &self.json {
            let text = format!("{:#}\n", report.to_json());
            write_file(file, text.as_bytes())?;
        }
        println!("{report}");
        let (failed, fallbacks) = (report.failures().count(), report.fallbacks());
        match (failed, fallbacks) {
            (0, n) if n > 0 && self.strict => {
                Err(Failure::Negative(format!("{n} cases fell back to the host, which --strict forbids")))
            }
            (0, _) => Ok(()),
            (n, _) => Err(Failure::Negative(format!("{n} cases failed on {}", self.id))),
        }
    }

    fn subject(&self) -> Result<Subject, Failure> {
        subject(&self.id, self.strict, self.topology.as_deref())
    }
}

/// How cases run.
#[derive(Clone, Copy, Default)]
pub struct Isolation<'a> {
    /// Running anything on the host is a failure.
    pub strict: bool,
    /// In this process rather than in children, where a crash is the failure of its case alone.
    pub in_process: bool,
    /// Only compile, for hardware of this name that need not be here.
    pub topology: Option<&'a str>,
}

/// Climb the ladder with a device, telling on standard error how far it is.
pub fn climb(id: &str, options: &Options, isolation: Isolation<'_>) -> Result<Report, Failure> {
    let Isolation { strict, in_process, topology } = isolation;
    // Opening the device here gives a bad id its own error rather than a worker's death. A plug-in, or a compiler of
    // hardware that is not here, may end the process that opens it, so that is left to the worker.
    let trusted = in_process || !id.starts_with("plugin:") && topology.is_none();
    let subject = if trusted { Some(subject(id, strict, topology)?) } else { None };
    let program =
        std::env::current_exe().map_err(|source| Failure::File { path: "this program".into(), source })?;
    let command = || {
        let mut c = Command::new(&program);
        c.args(["device", "test", id, "--worker"]);
        if strict {
            c.arg("--strict");
        }
        if let Some(topology) = topology {
            c.args(["--topology", topology]).envs(percept::COMPILER_ENVIRONMENT.iter().copied());
        }
        c
    };
    let runner = match &subject {
        Some(subject) if in_process => Runner::InProcess(subject),
        _ => Runner::Workers(&command),
    };
    let mut progress = Progress::start();
    let report = run(id, &runner, options, &mut |outcome, done, all| {
        progress.step(outcome.status != Status::Passed && outcome.status != Status::Skipped, done, all);
    });
    progress.end();
    report.map_err(|e| match e {
        RunError::NoCase { .. } => Failure::Usage(e.to_string()),
        e => Failure::Negative(e.to_string()),
    })
}

/// The device, with the cpu as the host for what it lacks.
fn subject(id: &str, strict: bool, topology: Option<&str>) -> Result<Subject, Failure> {
    if let Some(topology) = topology {
        let mut subject = Subject::new(percept::compiler_for(id, topology)?);
        (subject.compile_only, subject.strict) = (true, strict);
        return Ok(subject);
    }
    let registry = percept::registry();
    let device = registry.open(id)?;
    let host: Option<Arc<dyn Device>> =
        if device.info().id == "cpu" { None } else { Some(registry.open("cpu")?) };
    let mut subject = Subject::new(device);
    (subject.host, subject.strict) = (host, strict);
    Ok(subject)
}

/// A line on standard error that tells how far the run is; silent where nobody watches.
struct Progress {
    start: Instant,
    shown: Instant,
    failed: usize,
    visible: bool,
}

impl Progress {
    fn start() -> Self {
        let now = Instant::now();
        Self { start: now, shown: now, failed: 0, visible: std::io::stderr().is_terminal() }
    }

    fn step(&mut self, failed: bool, done: usize, all: usize) {
        self.failed += failed as usize;
        if !self.visible || self.shown.elapsed() < Duration::from_millis(200) {
            return;
        }
        self.shown = Instant::now();
        let rate = done as f64 / self.start.elapsed().as_secs_f64().max(1e-3);
        let left = (all - done) as f64 / rate;
        eprint!("\r{done} of {all} cases, {rate:.0} a second, {left:.0} s left, {} failed ", self.failed);
        // A progress line that cannot be shown is no reason to stop.
        let _ = std::io::stderr().flush();
    }

    fn end(&self) {
        if self.visible {
            eprint!("\r{:70}\r", "");
        }
    }
}
