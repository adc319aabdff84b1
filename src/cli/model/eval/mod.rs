//! `percept eval`: what a model scores on benchmarks and on corpora of one's own.

mod answering;
mod compare;
mod corpora;
mod energy;
mod init_task;
mod server;
mod side_by_side;
mod spread;
mod tasks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use percept::eval::metric::Compat;
use percept::eval::task::Task;
use percept::infer::BATCH;

use super::loading::Causal;
use crate::cli::Failure;

/// A model is asked, or one of the commands beside it is run.
pub enum Eval {
    Own(Own),
    Run(Box<Run>),
}

// By hand, since the derived reading of a command with arguments and commands of its own wants the arguments beside each.
impl FromArgMatches for Eval {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand_name() {
            Some(_) => Own::from_arg_matches(matches).map(Self::Own),
            None => Run::from_arg_matches(matches).map(|run| Self::Run(Box::new(run))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Eval {
    fn augment_args(command: Command) -> Command {
        Own::augment_subcommands(Run::augment_args(command))
            .subcommand_required(false)
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[derive(Subcommand)]
pub enum Own {
    /// Compare two runs over the same questions: what differs, and whether by more than chance
    #[command(after_help = "Example:\n  percept eval compare scores/base scores/tuned")]
    Compare(compare::Compare),
    /// Write a commented file of a task, to be filled in
    #[command(after_help = "Example:\n  percept eval init-task my-task.toml")]
    InitTask(init_task::InitTask),
    /// List the tasks that are built in
    Tasks(tasks::List),
}

// Asking a model. A comment for the help text would take the place of that of the command.
#[derive(Args, Clone)]
pub struct Run {
    #[command(flatten)]
    causal: Causal,
    /// The name of the model on the server whose address --model is; by default the first that it lists
    #[arg(long, value_name = "NAME")]
    served: Option<String>,
    /// Tasks by name (`percept eval tasks` lists them) or as .toml files; or corpora: a split of one, as CORPUS/SPLIT or
    /// CORPUS:SPLIT, a folder of shards, or a .tar file
    #[arg(long, value_name = "TASK", value_delimiter = ',', required = true)]
    tasks: Vec<PathBuf>,
    /// The folder of the tasks' data: DIR/TASK holds the published files
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    /// Evaluate only the first N questions of each task or corpus; by default all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Batch size: questions answered in parallel; the answers do not depend on it
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    batch: usize,
    /// Let an answer depend on those that are made beside it: for devices whose compilers choose the order of sums, such as
    /// pjrt: and onnx:. The results say so
    #[arg(long)]
    batch_variant: bool,
    /// Write results and samples to this folder; a run that was stopped goes on from there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The answers of the corpora are classes, of which each is scored: precision, recall, specificity, F1, what was taken for what. The
    /// classes are those that the corpora have; =A,B names others
    #[arg(long, value_name = "CLASS", value_delimiter = ',', num_args = 0.., require_equals = true)]
    classes: Option<Vec<String>>,
    /// With --classes: the column of metadata that questions share which belong together, such as a patient; intervals draw them together
    #[arg(long, value_name = "COLUMN", requires = "classes")]
    group: Option<String>,
    /// With --classes: columns of metadata by whose values scores are given too
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', requires = "classes")]
    categories: Vec<String>,
    /// With --classes: take the class that the model holds likeliest, which gives confidences and their calibration, rather than read
    /// its answer
    #[arg(long, requires = "classes")]
    by_likelihood: bool,
    /// Ask the part I of N of the questions, counted from 0
    #[arg(long, value_name = "I/N", value_parser = part)]
    shard: Option<(usize, usize)>,
    /// Share the questions out to the devices of --device, rather than ask each of them all
    #[arg(long, conflicts_with = "shard")]
    spread: bool,
    /// Score as this harness does where it differs from what is right: lmms-eval
    #[arg(long, value_name = "HARNESS", value_parser = harness)]
    compat: Option<Compat>,
    /// Hold the device to the cpu on the first N questions: how often both expect the same token, and how far apart they are
    #[arg(long, value_name = "N", default_value_t = 0)]
    agreement: usize,
    /// On the question on which the device is furthest from the cpu, name the first operation that differs by more than rounding; of
    /// those that --agreement holds to the cpu, by default the first 8
    #[arg(long)]
    explain: bool,
    /// The seed of the draws that intervals are found by
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Own(Own::Compare(command)) => command.run(),
            Self::Own(Own::InitTask(command)) => command.run(),
            Self::Own(Own::Tasks(command)) => command.run(),
            Self::Run(run) => run.run(),
        }
    }
}

impl Run {
    fn run(self) -> Result<(), Failure> {
        // A task's name counts before a folder's; a folder of that name is ./NAME.
        let is_task = |name: &PathBuf| {
            let named = name.to_str().is_some_and(|name| percept::eval::task::source(name).is_some());
            named || name.extension().is_some_and(|extension| extension == "toml")
        };
        let (tasks, others): (Vec<&PathBuf>, Vec<&PathBuf>) =
            self.tasks.iter().partition(|name| is_task(name));
        if tasks.is_empty() && others.iter().all(|path| may_be_corpus(path)) {
            if self.classes.is_some() {
                return tasks::run(&self);
            }
            let only = [
                ("--shard", self.shard.is_some()),
                ("--spread", self.spread),
                ("--compat", self.compat.is_some()),
                ("--agreement", self.agreement > 0),
                ("--explain", self.explain),
                ("--device with several devices", self.devices().len() > 1),
                ("--served", self.served.is_some()),
            ];
            return match only.iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(Failure::Usage(format!(
                    "{option} is for tasks, and {} is a corpus, which is scored by exact match; --classes makes a task of a corpus whose answers are classes",
                    others[0].display()
                ))),
                None => corpora::run(&self),
            };
        }
        match others.first() {
            None if self.classes.is_some() => Err(Failure::Usage(
                "--classes is for corpora; the file of a task names its own: metric = \"classes\"".into(),
            )),
            None => tasks::run(&self),
            Some(path) if may_be_corpus(path) => Err(Failure::Usage(format!(
                "{} is a corpus, and others of --tasks are tasks; evaluate them one after the other",
                path.display()
            ))),
            // Says which task is nearest.
            Some(name) => Err(Task::find(&name.to_string_lossy()).err().map_or_else(
                || Failure::Usage(format!("{}: no such task or corpus", name.display())),
                Failure::from,
            )),
        }
    }
}

/// Questions that are held to the cpu where nothing says how many.
const HELD: usize = 8;

impl Run {
    /// The devices that the questions are put to.
    fn devices(&self) -> Vec<&str> {
        self.causal.loading.device.split(',').map(str::trim).filter(|id| !id.is_empty()).collect()
    }

    /// How many questions are held to the cpu.
    fn held(&self) -> usize {
        if self.explain && self.agreement == 0 { HELD } else { self.agreement }
    }

    /// The same on one of the devices.
    fn with(&self, device: &str) -> Self {
        let mut run = self.clone();
        run.causal.loading.device = device.to_owned();
        run
    }

    /// The same on one of the devices, with a folder of its own for what comes of it.
    fn on(&self, device: &str) -> Self {
        let mut run = self.with(device);
        let name: String = device.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        run.out = self.out.as_ref().map(|out| out.join(name));
        run
    }
}

/// Whether a path is one, rather than a task's name with a mistake.
fn may_be_corpus(path: &Path) -> bool {
    path.exists() || path.to_string_lossy().contains(['/', ':', '\\', '.'])
}

fn part(text: &str) -> Result<(usize, usize), String> {
    let why = || format!("'{text}' is no part; give I/N with I below N, as 0/4");
    let (part, parts) = text.split_once('/').ok_or_else(why)?;
    match (part.parse(), parts.parse()) {
        (Ok(part), Ok(parts)) if part < parts => Ok((part, parts)),
        _ => Err(why()),
    }
}

fn harness(text: &str) -> Result<Compat, String> {
    match text {
        "lmms-eval" => Ok(Compat::LmmsEval),
        "none" => Ok(Compat::None),
        other => Err(format!("'{other}' is no harness that is known; lmms-eval is")),
    }
}

/// The bar of a run of `total` questions, or of as many as there are.
fn progress(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
    let rate = |state: &ProgressState, w: &mut dyn std::fmt::Write| {
        // Nothing can be done about a line that cannot be written.
        let _ = write!(w, "{:.1} a second", state.per_sec());
    };
    let template = match total {
        Some(_) => "{wide_bar} {pos}/{len} questions, {rate}, {eta} left, {msg}",
        None => "{spinner} {pos} questions, {rate}, {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.with_key("rate", rate));
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
