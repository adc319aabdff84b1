//! A run from its first step to its finished model.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use percept_files::AtomicFolder;
use percept_hal::{CompileOptions, Device, OpTiming};
use percept_infer::peak_memory;
use percept_model::checkpoint::{Base, Checkpoint};
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::check::check;
use crate::checkpoints::{Checkpoints, Progress, write_model};
use crate::communicator::Communicator;
use crate::config::Config;
use crate::encode::Encoded;
use crate::error::{Error, Result, file};
use crate::evaluate::Evaluator;
use crate::feed::{self, Feed, Rows, StepRows};
use crate::folder::{self, Standing};
use crate::initial;
use crate::leakage;
use crate::log::Log;
use crate::outlook;
use crate::stages::Stage;
use crate::trainer::{StepReport, Trainer};
use crate::watch::{Evaluation, Event, Outlook, StepEvent, Stop, Watch};

/// Where a run computes, and with whom.
pub struct RunContext<'a> {
    /// The device that the steps run on.
    pub device: Arc<dyn Device>,
    /// How graphs are compiled, with the host that runs what the device cannot.
    pub compile: CompileOptions,
    /// The processes of the run.
    pub peers: &'a dyn Communicator,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The stage; empty for a run without stages.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// How many steps were done.
    pub steps: u64,
    /// Mean loss of the last ten steps.
    pub loss: f64,
    /// The last measures of every held-out corpus.
    pub evaluations: Vec<Evaluation>,
    /// The finished model: a checkpoint, or an adapter to the one that training began with.
    pub model: PathBuf,
    /// What it trained on, and how many parameters.
    #[serde(flatten)]
    pub outlook: Outlook,
    /// Bytes of memory at most.
    pub memory: u64,
    /// Seconds of training, this time.
    pub seconds: f64,
}

/// Train as a run's file says; with `resume` from its last checkpoint on, if there is one. Stages follow each
/// other.
///
/// Nothing is changed before the folders are held against other runs, the settings are those of the run that
/// is resumed, and every stage is held to its model and data.
///
/// # Errors
/// When something is wrong with the file, the model or the data, or training cannot go on. Checkpoints stay.
pub fn run(
    config: &Config,
    context: &RunContext,
    resume: bool,
    watch: &mut dyn Watch,
) -> Result<Vec<Summary>> {
    let stages = config.stages()?;
    let is_first = context.peers.rank() == 0;
    let mut held = Vec::new();
    if is_first {
        let mut folders = vec![&config.out];
        folders.extend(stages.iter().map(|s| &s.config.out).filter(|o| **o != config.out));
        for folder in folders {
            let folder = folder::hold(folder)?;
            folder.unlocked.iter().try_for_each(|why| say(why.clone(), watch))?;
            held.push(folder);
        }
    }
    context.peers.meet()?;
    let standings: Vec<Standing> = stages
        .iter()
        .map(|s| folder::look(&s.config, resume).map_err(|e| s.wrong(e)))
        .collect::<Result<_>>()?;
    context.peers.meet()?;
    if is_first && resume && standings.iter().all(|s| matches!(s, Standing::New)) {
        let out = config.out.display();
        say(format!("there is nothing to resume in {out}: the run begins at its first step"), watch)?;
    }
    let next = standings.iter().take_while(|s| matches!(s, Standing::Finished(_))).count();
    if is_first && next < stages.len() {
        for stage in &stages {
            folder::sweep(&stage.config)?.map_or(Ok(()), |removed| say(removed, watch))?;
        }
        // What the other processes read is made before they look.
        check(&stages, next, context.compile.strict)?.into_iter().try_for_each(|text| say(text, watch))?;
        let runs: Vec<Config> = stages.iter().map(|s| s.config.clone()).collect();
        leakage::check(&runs, watch)?;
    }
    context.peers.meet()?;
    let mut done = Vec::new();
    for (i, (stage, standing)) in stages.iter().zip(standings).enumerate() {
        match standing {
            Standing::Finished(summary) if i < next => {
                if is_first {
                    let name = if stage.title.is_empty() { "the run" } else { &stage.title };
                    let (steps, model) = (summary.steps, summary.model.display());
                    say(format!("{name} is finished after {steps} steps: {model}"), watch)?;
                }
                done.push(*summary);
                continue;
            }
            Standing::Begun(changed) if is_first => {
                changed.into_iter().try_for_each(|text| say(text, watch))?;
            }
            _ => {}
        }
        done.push(run_stage(stage, context, watch).map_err(|e| stage.wrong(e))?);
    }
    drop(held);
    Ok(done)
}

/// Say something before the first step.
fn say(text: String, watch: &mut dyn Watch) -> Result<()> {
    watch.event(&Event::Note { step: 0, text })
}

fn run_stage(stage: &Stage, context: &RunContext, watch: &mut dyn Watch) -> Result<Summary> {
    let config = &stage.config;
    let is_first = context.peers.rank() == 0;
    if is_first {
        initial::open(config)?;
    }
    context.peers.meet()?;
    let checkpoints = Checkpoints::open(config);
    let mut trainer = Trainer::new(config, context.device.clone(), context.compile.clone())?;
    let base = match is_first {
        true => Some(Base::of(&Checkpoint::open(config.base_path())?)?),
        false => None,
    };
    let (progress, damaged) = checkpoints.restore_last(&mut trainer, config, base.as_ref())?;
    let mut progress = progress.unwrap_or_else(|| Progress::first(config.seed));
    context.peers.meet()?;
    if let Some(base) = base {
        progress.base = Some(base.clone());
        trainer.record_base(base);
    }
    let model = trainer.shared_model();
    let steps = outlook::steps(&model, config)?;
    // Before anything is drawn: a row that is too long takes a while to fill.
    for text in feed::doubts(&*model, &config.data)? {
        watch.event(&Event::Note { step: progress.step, text })?;
    }
    let evaluator = Evaluator::new(&*model, config, progress.step, watch)?;
    let mut feed = Feed::new(model, &config.data, config.seed, progress.position)?;
    let ahead = if progress.step < steps { Some(feed.next_step()?) } else { None };
    if is_first {
        for damaged in &damaged {
            let text = checkpoints.set_aside(damaged)?;
            watch.event(&Event::Note { step: progress.step, text })?;
        }
        folder::keep_settings(config)?;
    }
    let log = if is_first { Some(Log::open(&config.out, progress.step)?) } else { None };
    let mut watches = Watches { log, other: watch };
    let mut going = Going {
        stage,
        config,
        steps,
        context,
        checkpoints,
        trainer,
        evaluator,
        watch: &mut watches,
        progress,
    };
    going.train(feed, ahead)
}

/// A run while it goes.
struct Going<'a> {
    stage: &'a Stage,
    config: &'a Config,
    steps: u64,
    context: &'a RunContext<'a>,
    checkpoints: Checkpoints,
    trainer: Trainer,
    evaluator: Evaluator,
    watch: &'a mut Watches<'a>,
    progress: Progress,
}

impl Going<'_> {
    fn train(&mut self, mut feed: Feed, mut ahead: Option<StepRows>) -> Result<Summary> {
        let steps = self.steps;
        let outlook = self.look_ahead(&feed, ahead.as_ref())?;
        self.watch.event(&Event::Begin {
            step: self.progress.step,
            steps,
            device: self.context.device.info().id.clone(),
            processes: self.context.peers.size(),
            stage: self.stage.title.clone(),
            outlook: outlook.clone(),
        })?;
        for text in percept_model::unread(&*self.trainer.shared_model())? {
            self.watch.event(&Event::Note { step: self.progress.step, text })?;
        }
        if self.config.schedule.warmup >= steps && self.config.schedule.warmup > 0 {
            let text = format!(
                "schedule.warmup is {} and the run has {steps} steps: the rate never stays at optimizer.rate",
                self.config.schedule.warmup
            );
            self.watch.event(&Event::Note { step: self.progress.step, text })?;
        }
        let began = Instant::now();
        let first = self.progress.step;
        let mut saved = (first > 0).then_some(first);
        let mut evaluations = Vec::new();
        while self.progress.step < steps {
            if let Some(stop) = self.asked_to_stop()? {
                return Err(self.stop(stop, &mut saved)?);
            }
            let at = Instant::now();
            let drawn = match ahead.take() {
                Some(drawn) => drawn,
                None => feed.next_step()?,
            };
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
            let recent = &mut self.progress.recent;
            recent.push(report.loss);
            recent.drain(..recent.len().saturating_sub(10));
            let seconds = at.elapsed().as_secs_f64();
            let pace = began.elapsed().as_secs_f64() / (step - first) as f64;
            let (samples, tokens) = outlook::extent(&drawn);
            self.watch.event(&Event::Step(StepEvent {
                step,
                steps,
                loss: report.loss,
                norm: report.norm,
                rate: self.config.optimizer.rate * factor,
                router: report.router,
                skipped: report.skipped,
                tokens_per_s: tokens as f64 / seconds,
                samples_per_s: samples as f64 / seconds,
                seconds,
                seconds_left: pace * (steps - step) as f64,
                memory: peak_memory(&*self.context.device),
            }))?;
            let due = |every: u64| every > 0 && step.is_multiple_of(every);
            if due(self.config.evaluate.every) || step == steps {
                evaluations = self.evaluate(step)?;
            }
            if due(self.config.checkpoint.every) || step == steps && self.config.checkpoint.every > 0 {
                self.save()?;
                saved = Some(step);
            }
        }
        if evaluations.is_empty() {
            evaluations = self.evaluate(steps)?;
        }
        let model = self.finish()?;
        let parameters = self.trainer.trained_parameters();
        let summary = Summary {
            stage: self.stage.title.clone(),
            steps: self.progress.step,
            loss: self.progress.recent.iter().sum::<f64>() / self.progress.recent.len().max(1) as f64,
            evaluations,
            model,
            outlook: Outlook { trained_parameters: parameters, ..outlook },
            memory: peak_memory(&*self.context.device),
            seconds: began.elapsed().as_secs_f64(),
        };
        if self.context.peers.rank() == 0 {
            folder::keep_summary(self.config, &summary)?;
        }
        Ok(summary)
    }

    /// What the run is about to do, with the programs of its next step compiled.
    fn look_ahead(&mut self, feed: &Feed, next: Option<&StepRows>) -> Result<Outlook> {
        let (mut samples_per_step, mut tokens_per_step, mut draws) = (0, 0, 0.0);
        let mut expected_memory = 0;
        if let Some(next) = next {
            (samples_per_step, tokens_per_step) = outlook::extent(next);
            let before = self.progress.position.map_or(0, |p| p.drawn);
            draws = before as f64
                + (next.position.drawn - before) as f64 * (self.steps - self.progress.step) as f64;
            let batches = self.batches(&next.rows)?;
            expected_memory = self.trainer.prepare(&batches, self.context.peers)?;
        } else if let Some(position) = self.progress.position {
            draws = position.drawn as f64;
        }
        Ok(Outlook {
            corpora: outlook::corpora(&self.config.data, feed.sizes(), draws),
            samples_per_step,
            tokens_per_step,
            trained_parameters: self.trainer.trained_parameters(),
            parameters: self.trainer.parameters_in_all(),
            expected_memory,
        })
    }

    /// Whether any process of the run was asked to stop.
    fn asked_to_stop(&mut self) -> Result<Option<Stop>> {
        let own = self.watch.stop();
        if self.context.peers.size() == 1 {
            return Ok(own);
        }
        let mut flags = [Stop::Interrupt, Stop::Terminate].map(|s| f32::from(u8::from(own == Some(s))));
        self.context.peers.sum(&mut flags)?;
        Ok(match flags {
            [_, terminate] if terminate > 0.0 => Some(Stop::Terminate),
            [interrupt, _] if interrupt > 0.0 => Some(Stop::Interrupt),
            _ => None,
        })
    }

    /// Save where the run is, and make the error that ends it.
    fn stop(&mut self, stop: Stop, saved: &mut Option<u64>) -> Result<Error> {
        let step = self.progress.step;
        if step > 0 && *saved != Some(step) {
            self.save()?;
            *saved = Some(step);
        }
        let saved = saved.map(|s| self.checkpoints.place(s));
        Ok(Error::Stopped { stop, step, steps: self.steps, saved })
    }

    /// One step over this process's share of the rows.
    fn step(&mut self, rows: &Rows, factor: f64) -> Result<(StepReport, Vec<Batch>)> {
        let answers: usize = rows.iter().flatten().map(|s| s.answers()).sum();
        if answers == 0 {
            return Err(Error::Setting("a step has no answer tokens; there is nothing to learn from".into()));
        }
        let batches = self.batches(rows)?;
        let report = self.trainer.step(&batches, answers, factor, self.context.peers)?;
        Ok((report, batches))
    }

    /// This process's share of the rows, cut into the pieces that the run asks for.
    fn batches(&self, rows: &Rows) -> Result<Vec<Batch>> {
        let (rank, size) = (self.context.peers.rank(), self.context.peers.size());
        let own = &rows[rank * rows.len() / size..(rank + 1) * rows.len() / size];
        let pieces = self.config.data.accumulate.max(1);
        if pieces > 1 && pieces > own.len() {
            return Err(Error::Setting(format!(
                "data.accumulate is {pieces}, and process {rank} of {size} has {} of the {} rows of a step, which cannot be cut \
                 into more pieces",
                own.len(),
                rows.len()
            )));
        }
        let model = self.trainer.shared_model();
        let cut = (0..pieces).map(|i| &own[i * own.len() / pieces..(i + 1) * own.len() / pieces]);
        cut.filter(|rows| !rows.is_empty())
            .map(|rows| Batch::new(&*model, &borrowed(rows), self.config.data.length))
            .collect()
    }

    /// Stop at what training cannot recover from.
    fn check(&mut self, step: u64, report: &StepReport, batches: &[Batch]) -> Result<()> {
        let finite = report.loss.is_finite() && report.norm.is_finite();
        if !finite && !report.skipped {
            let place = self.trainer.first_not_finite(batches, self.context.peers)?;
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
            self.evaluator.measure(&mut self.trainer, step, self.config, self.context.peers.rank() == 0)?;
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
        if self.context.peers.rank() == 0 {
            let path = self.checkpoints.save(&self.trainer, self.config, &self.progress)?;
            self.watch.event(&Event::Save { step: self.progress.step, path })?;
        }
        self.context.peers.meet()
    }

    /// Write the finished model.
    fn finish(&mut self) -> Result<PathBuf> {
        let place = self.config.out.join("model");
        if self.context.peers.rank() == 0 {
            // An older model stays until the new one is written.
            let new = AtomicFolder::create(&place).map_err(file(&place))?;
            write_model(&self.trainer, self.config, &self.trainer.parameters()?, new.path())?;
            new.replace().map_err(file(&place))?;
            self.watch.event(&Event::Save { step: self.progress.step, path: place.clone() })?;
        }
        self.context.peers.meet()?;
        Ok(place)
    }
}

impl Progress {
    fn first(seed: u64) -> Self {
        Self {
            step: 0,
            updates: 0,
            loss_scale: (0.0, 0),
            position: None,
            seed,
            held_out_loss: None,
            recent: Vec::new(),
            base: None,
            written: None,
        }
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

    fn stop(&self) -> Option<Stop> {
        self.other.stop()
    }

    fn wants_timeline(&self, step: u64) -> bool {
        self.log.is_some() && self.other.wants_timeline(step)
    }

    fn timeline(&mut self, events: &[OpTiming]) -> Result<()> {
        self.other.timeline(events)
    }
}

/// Rows as batches take them.
pub fn borrowed(rows: &[Vec<Arc<Encoded>>]) -> Vec<Vec<&Encoded>> {
    rows.iter().map(|r| r.iter().map(|s| &**s).collect()).collect()
}
