//! A run from its first step to its finished model.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use percept_hal::{CompileOptions, Device, TraceEvent};
use percept_infer::peak_memory;
use serde::Serialize;

use crate::batch::Batch;
use crate::checkpoints::{Checkpoints, Progress, write_model};
use crate::communicator::Communicator;
use crate::config::Config;
use crate::encode::Encoded;
use crate::error::{Error, Result, file};
use crate::evaluate::Evaluator;
use crate::feed::{Feed, Rows};
use crate::initial;
use crate::leakage;
use crate::log::Log;
use crate::trainer::{StepReport, Trainer};
use crate::watch::{Evaluation, Event, StepEvent, Watch};

/// Where a run computes, and with whom.
pub struct Place<'a> {
    /// The device.
    pub device: Arc<dyn Device>,
    /// How graphs are compiled, with the host that runs what the device cannot.
    pub compile: CompileOptions,
    /// The processes of the run.
    pub peers: &'a dyn Communicator,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Steps done.
    pub steps: u64,
    /// Mean loss of the last ten steps.
    pub loss: f64,
    /// The last measures of every held-out corpus.
    pub evaluations: Vec<Evaluation>,
    /// The finished model: a checkpoint, or an adapter to the one that training began with.
    pub model: PathBuf,
    /// Parameters that were trained.
    pub trained_parameters: u64,
    /// Seconds of training, this time.
    pub seconds: f64,
}

/// Train as a run's file says; with `resume` from its last checkpoint on, if there is one. Stages follow each other.
///
/// # Errors
/// When something is wrong with the file, the model or the data, or training cannot go on. Checkpoints stay.
pub fn run(config: &Config, place: &Place, resume: bool, watch: &mut dyn Watch) -> Result<Vec<Summary>> {
    let runs = config.runs()?;
    if place.peers.rank() == 0 {
        leakage::check(&runs, watch)?;
    }
    let mut done = Vec::new();
    for stage in runs {
        done.push(run_stage(&stage, place, resume, watch)?);
    }
    Ok(done)
}

fn run_stage(config: &Config, place: &Place, resume: bool, watch: &mut dyn Watch) -> Result<Summary> {
    std::fs::create_dir_all(&config.out).map_err(file(&config.out))?;
    let is_first = place.peers.rank() == 0;
    if is_first {
        // What the other processes read is made before they look.
        Checkpoints::clean(config)?;
        initial::open(config)?;
    }
    place.peers.meet()?;
    let checkpoints = Checkpoints::open(config);
    let last = checkpoints.steps()?.last().copied();
    if !resume && (last.is_some() || config.out.join("model").exists()) {
        return Err(Error::Setting(format!(
            "{} holds a run already; go on with it by --resume, or give another `out`",
            config.out.display()
        )));
    }
    let mut trainer = Trainer::new(config, place.device.clone(), place.compile.clone())?;
    let progress = match last {
        Some(step) => checkpoints.restore(step, &mut trainer, config)?,
        None => Progress::first(config.seed),
    };
    let model = trainer.shared_model();
    let evaluator = Evaluator::new(&*model, config)?;
    let feed = Feed::new(model, &config.data, config.seed, progress.position)?;
    let log = if is_first { Some(Log::open(&config.out, progress.step)?) } else { None };
    let mut watches = Watches { log, other: watch };
    if is_first {
        write_whole(&config.out.join("run.toml"), toml::to_string(config).unwrap_or_default().as_bytes())?;
    }
    let mut stage = Stage { config, place, checkpoints, trainer, evaluator, watch: &mut watches, progress };
    stage.train(feed)
}

/// A run while it goes.
struct Stage<'a> {
    config: &'a Config,
    place: &'a Place<'a>,
    checkpoints: Checkpoints,
    trainer: Trainer,
    evaluator: Evaluator,
    watch: &'a mut Watches<'a>,
    progress: Progress,
}

impl Stage<'_> {
    fn train(&mut self, mut feed: Feed) -> Result<Summary> {
        let steps = self.config.steps;
        self.watch.event(&Event::Begin {
            step: self.progress.step,
            steps,
            device: self.place.device.info().id.clone(),
            processes: self.place.peers.size(),
        })?;
        let began = Instant::now();
        let first = self.progress.step;
        let mut recent: Vec<f64> = Vec::new();
        let mut evaluations = Vec::new();
        while self.progress.step < steps {
            let at = Instant::now();
            let drawn = feed.next_step()?;
            let step = self.progress.step + 1;
            if let Some((n, why)) = &drawn.refused {
                let text = format!("{n} samples were left out so far, the last because {why}");
                self.watch.event(&Event::Note { step: step - 1, text })?;
            }
            let factor = self.config.schedule.factor(step, steps);
            let traced = self.watch.wants_timeline(step);
            if traced {
                self.trainer.record_timeline();
            }
            let (report, batches) = self.step(&drawn.rows, factor)?;
            if traced {
                self.watch.timeline(&self.trainer.take_timeline())?;
            }
            self.check(step, &report, &batches)?;
            self.progress.step = step;
            self.progress.position = Some(drawn.position);
            self.progress.held_out_loss = None;
            recent.push(report.loss);
            recent.drain(..recent.len().saturating_sub(10));
            let seconds = at.elapsed().as_secs_f64();
            let pace = began.elapsed().as_secs_f64() / (step - first) as f64;
            let count =
                |of: fn(&Encoded) -> usize| drawn.rows.iter().flatten().map(|s| of(s)).sum::<usize>() as f64;
            self.watch.event(&Event::Step(StepEvent {
                step,
                steps,
                loss: report.loss,
                norm: report.norm,
                rate: self.config.optimizer.rate * factor,
                skipped: report.skipped,
                tokens_per_s: count(Encoded::tokens) / seconds,
                samples_per_s: count(|_| 1) / seconds,
                seconds,
                seconds_left: pace * (steps - step) as f64,
                memory: peak_memory(&*self.place.device),
            }))?;
            let due = |every: u64| every > 0 && step.is_multiple_of(every);
            if due(self.config.evaluate.every) || step == steps {
                evaluations = self.evaluate(step)?;
            }
            if due(self.config.checkpoint.every) || step == steps && self.config.checkpoint.every > 0 {
                self.save()?;
            }
        }
        if evaluations.is_empty() {
            evaluations = self.evaluate(steps)?;
        }
        let model = self.finish()?;
        let parameters = self.trainer.trained().values().map(|t| t.numel() as u64).sum();
        Ok(Summary {
            steps: self.progress.step,
            loss: recent.iter().sum::<f64>() / recent.len().max(1) as f64,
            evaluations,
            model,
            trained_parameters: parameters,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    /// One step over this process's share of the rows.
    fn step(&mut self, rows: &Rows, factor: f64) -> Result<(StepReport, Vec<Batch>)> {
        let answers: usize = rows.iter().flatten().map(|s| s.answers()).sum();
        if answers == 0 {
            return Err(Error::Setting("a step has no answer tokens; there is nothing to learn from".into()));
        }
        let (rank, size) = (self.place.peers.rank(), self.place.peers.size());
        let own = &rows[rank * rows.len() / size..(rank + 1) * rows.len() / size];
        let pieces = self.config.data.accumulate.clamp(1, own.len().max(1));
        let model = self.trainer.shared_model();
        let batches = own
            .chunks(own.len().div_ceil(pieces).max(1))
            .map(|rows| Batch::new(&*model, &borrowed(rows), self.config.data.length))
            .collect::<Result<Vec<_>>>()?;
        let report = self.trainer.step(&batches, answers, factor, self.place.peers)?;
        Ok((report, batches))
    }

    /// Stop at what training cannot recover from.
    fn check(&mut self, step: u64, report: &StepReport, batches: &[Batch]) -> Result<()> {
        let finite = report.loss.is_finite() && report.norm.is_finite();
        if !finite && !report.skipped {
            let place = self.trainer.first_not_finite(batches)?;
            let what = if report.loss.is_finite() { "gradients are" } else { "loss is" };
            return Err(Error::NotFinite(format!(
                "at step {step} the {what} no finite number any more; the first such value is in {place}. Lower \
                 optimizer.rate, warm up for longer, or clip; the last checkpoint is kept"
            )));
        }
        if step == 1 {
            let without = self.trainer.without_gradient()?;
            if !without.is_empty() {
                return Err(Error::NoGradient(format!(
                    "the gradient of {} is zero everywhere at the first step; freeze what is not meant to be trained \
                     with model.freeze",
                    without.join(", ")
                )));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, step: u64) -> Result<Vec<Evaluation>> {
        let evaluations =
            self.evaluator.measure(&mut self.trainer, step, self.config, self.place.peers.rank() == 0)?;
        if !evaluations.is_empty() {
            let loss = evaluations.iter().map(|e| e.loss).sum::<f64>() / evaluations.len() as f64;
            self.progress.held_out_loss = Some(loss);
        }
        for e in &evaluations {
            self.watch.event(&Event::Evaluate(e.clone()))?;
        }
        Ok(evaluations)
    }

    fn save(&mut self) -> Result<()> {
        let (updates, scale) = self.trainer.progress();
        self.progress.updates = updates;
        self.progress.loss_scale = (scale.value, scale.steady);
        if self.place.peers.rank() == 0 {
            let path = self.checkpoints.save(&self.trainer, self.config, &self.progress)?;
            self.watch.event(&Event::Save { step: self.progress.step, path })?;
        }
        self.place.peers.meet()
    }

    /// Write the finished model.
    fn finish(&mut self) -> Result<PathBuf> {
        let place = self.config.out.join("model");
        if self.place.peers.rank() == 0 {
            if place.exists() {
                std::fs::remove_dir_all(&place).map_err(file(&place))?;
            }
            write_model(&self.trainer, self.config, &self.trainer.parameters()?, &place)?;
            self.watch.event(&Event::Save { step: self.progress.step, path: place.clone() })?;
        }
        self.place.peers.meet()?;
        Ok(place)
    }
}

impl Progress {
    fn first(seed: u64) -> Self {
        Self { step: 0, updates: 0, loss_scale: (0.0, 0), position: None, seed, held_out_loss: None }
    }
}

/// The run's own log and whoever else watches. Only the first process tells.
struct Watches<'a> {
    log: Option<Log>,
    other: &'a mut dyn Watch,
}

impl Watch for Watches<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        log.event(event)?;
        self.other.event(event)
    }

    fn wants_timeline(&self, step: u64) -> bool {
        self.log.is_some() && self.other.wants_timeline(step)
    }

    fn timeline(&mut self, events: &[TraceEvent]) -> Result<()> {
        self.other.timeline(events)
    }
}

/// Rows as batches take them.
pub fn borrowed(rows: &[Vec<Arc<Encoded>>]) -> Vec<Vec<&Encoded>> {
    rows.iter().map(|r| r.iter().map(|s| &**s).collect()).collect()
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("tmp");
    let written = std::fs::File::create(&temporary).and_then(|mut f| {
        f.write_all(bytes)?;
        f.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    written.map_err(file(path))
}
