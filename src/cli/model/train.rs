//! `percept train`: a run from its TOML file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use percept::hal::{CompileOptions, OpTiming, chrome_trace};
#[cfg(feature = "mpi")]
use percept::train::Communicator as _;
use percept::train::{Config, Event, Outlook, RunContext, Single, Stop, Summary, Watch, run};
use serde_json::json;

use crate::cli::Failure;

#[derive(Args)]
pub struct Train {
    /// The TOML file of the run
    run: PathBuf,
    /// Where to train: auto, cpu, wgpu:0
    #[arg(long, default_value = "auto", value_name = "ID")]
    device: String,
    /// Resume from the last checkpoint of the run's folder, or begin where there is none
    #[arg(long)]
    resume: bool,
    /// Override a value of the file, such as optimizer.rate=3e-4; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Running anything on the host is an error, and so is an adapter of another base
    #[arg(long)]
    strict: bool,
    /// Write a Chrome timeline of the operations of the third step taken, or of the last where fewer are
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON document when the run is done
    #[arg(long)]
    json: bool,
}

impl Train {
    pub fn run(self) -> Result<(), Failure> {
        let config = Config::read(&self.run, &self.set)?;
        let signals =
            Some(Signals::catch().map_err(|source| Failure::File { path: "signals".into(), source })?);
        let mut lines = Lines { trace: self.trace.clone(), signals, ..Lines::new() };
        let summaries = train(&config, &self.device, self.resume, self.strict, &mut lines)?;
        if let Some(path) = &lines.trace {
            lines.print_line(&format!(
                "--trace: no step was taken, so that {} was not written",
                path.display()
            ));
        }
        if self.json {
            println!("{}", json!(summaries));
        } else {
            summaries.iter().for_each(|s| print!("{}", told(s)));
        }
        Ok(())
    }
}

/// Train on a device by its id, as `percept train` does.
pub fn train(
    config: &Config,
    device: &str,
    resume: bool,
    strict: bool,
    watch: &mut dyn Watch,
) -> Result<Vec<Summary>, Failure> {
    let registry = percept::registry();
    let device = registry.open(device)?;
    let host = if device.info().id == "cpu" { None } else { Some(registry.open("cpu")?) };
    let compile = CompileOptions { strict, host, ..CompileOptions::default() };
    #[cfg(feature = "mpi")]
    if started_by_mpi() {
        let peers = percept::train::Mpi::start()?;
        return match run(config, &RunContext { device, compile, peers: &peers }, resume, watch) {
            Ok(summaries) => Ok(summaries),
            Err(e) if peers.size() > 1 => peers.abort(&e),
            Err(e) => Err(e.into()),
        };
    }
    if started_by_mpi() {
        let why = "mpirun started several processes, but this percept was built without MPI; build it with --features mpi";
        return Err(Failure::Usage(why.into()));
    }
    Ok(run(config, &RunContext { device, compile, peers: &Single }, resume, watch)?)
}

/// Whether this is one of several processes of Open MPI, MPICH or Slurm.
fn started_by_mpi() -> bool {
    let several = |name: &str| std::env::var(name).is_ok_and(|n| n.parse::<usize>().is_ok_and(|n| n > 1));
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"].into_iter().any(several)
}

fn told(summary: &Summary) -> String {
    let stage = if summary.stage.is_empty() { String::new() } else { format!("{}: ", summary.stage) };
    let mut text = format!(
        "{stage}{} steps in {}, loss {:.4}, {} parameters trained; the model is {}\n",
        summary.steps,
        HumanDuration(Duration::from_secs_f64(summary.seconds)),
        summary.loss,
        HumanCount(summary.outlook.trained_parameters),
        summary.model.display()
    );
    for e in &summary.evaluations {
        text += &format!(
            "{}: loss {:.4}, {:.1} % of answer tokens and {:.1} % of {} answers right\n",
            e.corpus,
            e.loss,
            100.0 * e.token_accuracy,
            100.0 * e.accuracy,
            e.samples
        );
    }
    text
}

/// What a run is about to do, in lines.
fn foretold(outlook: &Outlook) -> String {
    let corpus = |c: &percept::train::Corpus| {
        format!("{} {} samples, {:.2} epochs", c.name, HumanCount(c.samples), c.epochs)
    };
    let corpora: Vec<String> = outlook.corpora.iter().map(corpus).collect();
    let mut text = format!("data: {}", corpora.join("; "));
    if outlook.samples_per_step > 0 {
        text += &format!(
            "; a step has {} samples with {} tokens",
            HumanCount(outlook.samples_per_step as u64),
            HumanCount(outlook.tokens_per_step as u64)
        );
    }
    text += &format!(
        "\ntrained: {} of {} parameters, {:.2} %",
        HumanCount(outlook.trained_parameters),
        HumanCount(outlook.parameters),
        100.0 * outlook.trained_parameters as f64 / outlook.parameters.max(1) as f64
    );
    if outlook.expected_memory > 0 {
        text += &format!("; about {} of device memory", HumanBytes(outlook.expected_memory));
    }
    text
}

/// Ctrl-C and SIGTERM. The first of them lets the run save and stop; one more of its kind ends the process at
/// once.
#[derive(Clone)]
struct Signals(Arc<AtomicUsize>);

impl Signals {
    fn catch() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag;
        let seen = Arc::new(AtomicUsize::new(0));
        for (signal, stop) in [(SIGINT, Stop::Interrupt), (SIGTERM, Stop::Terminate)] {
            let again = Arc::new(AtomicBool::new(false));
            let code = stop.exit_code();
            // In this order, so that only the second signal finds the flag set.
            flag::register_conditional_shutdown(signal, code.into(), again.clone())?;
            flag::register(signal, again)?;
            flag::register_usize(signal, seen.clone(), code.into())?;
        }
        Ok(Self(seen))
    }

    fn seen(&self) -> Option<Stop> {
        let code = self.0.load(Ordering::Relaxed);
        [Stop::Interrupt, Stop::Terminate].into_iter().find(|s| usize::from(s.exit_code()) == code)
    }
}

/// A progress line and what happens beside it, on standard error.
pub struct Lines {
    bar: ProgressBar,
    trace: Option<PathBuf>,
    /// The step whose timeline is written, once the run has begun.
    traced: Option<u64>,
    signals: Option<Signals>,
}

impl Lines {
    pub fn new() -> Self {
        let bar = ProgressBar::no_length();
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self { bar, trace: None, traced: None, signals: None }
    }

    fn print_line(&self, text: &str) {
        // Where standard error is no terminal there is no bar, and its own lines would be lost.
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

impl Watch for Lines {
    fn stop(&self) -> Option<Stop> {
        self.signals.as_ref()?.seen()
    }

    fn wants_timeline(&self, step: u64) -> bool {
        self.traced == Some(step)
    }

    fn timeline(&mut self, events: &[OpTiming]) -> percept::train::Result<()> {
        let Some(path) = &self.trace else { return Ok(()) };
        percept_files::write_shared(path, chrome_trace(events).to_string().as_bytes())
            .map_err(|source| percept::train::Error::File { path: path.clone(), source })?;
        self.print_line(&format!("wrote {}", path.display()));
        self.trace = None;
        Ok(())
    }

    fn event(&mut self, event: &Event) -> percept::train::Result<()> {
        match event {
            Event::Begin { step, steps, device, processes, stage, outlook } => {
                // Of several stages the first that takes steps is timed.
                self.traced = self.trace.as_ref().map(|_| (step + 3).min(*steps));
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
                let others =
                    if *processes > 1 { format!(" in {processes} processes") } else { String::new() };
                let from = if *step > 0 { format!(" from step {step} on") } else { String::new() };
                let stage = if stage.is_empty() { String::new() } else { format!("{stage}: ") };
                self.print_line(&format!("{stage}training on {device}{others}{from}, {steps} steps"));
                self.print_line(&foretold(outlook));
            }
            Event::Step(s) => {
                self.bar.set_position(s.step);
                let text = format!(
                    "loss {:.4} rate {:.2e} {:.0} tokens/s {:.1} samples/s {} left {}",
                    s.loss,
                    s.rate,
                    s.tokens_per_s,
                    s.samples_per_s,
                    HumanDuration(Duration::from_secs_f64(s.seconds_left)),
                    HumanBytes(s.memory)
                );
                let round = s.step == 1 || s.step.is_multiple_of((s.steps / 20).max(1));
                if self.bar.is_hidden() && round {
                    eprintln!("step {}/{} {text}", s.step, s.steps);
                }
                self.bar.set_message(text);
            }
            Event::Evaluate(e) => {
                self.print_line(&format!(
                    "step {}: {} loss {:.4}, {:.1} % of tokens and {:.1} % of answers right",
                    e.step,
                    e.corpus,
                    e.loss,
                    100.0 * e.token_accuracy,
                    100.0 * e.accuracy
                ));
                for s in &e.said {
                    let right = if s.expected.trim() == s.answer.trim() { "right" } else { "wrong" };
                    self.print_line(&format!(
                        "  {}: {:?} ({right}, expected {:?})",
                        s.key, s.answer, s.expected
                    ));
                }
            }
            Event::Save { path, .. } => self.print_line(&format!("wrote {}", path.display())),
            Event::Note { text, .. } => self.print_line(text),
        }
        Ok(())
    }
}
