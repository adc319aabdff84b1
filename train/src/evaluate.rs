//! Measuring on held-out data.

use percept_data::Sample;
use percept_infer::{BATCH, GenerateOptions, Request, Session, SessionOptions};
use percept_model::CausalModel;

use crate::batch::Batch;
use crate::checkpoints::write_model;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Result, file};
use crate::feed::{HeldOutRows, Rows, held_out};
use crate::run::borrowed;
use crate::trainer::Trainer;
use crate::watch::{Evaluation, Event, Said, Watch};

/// Tokens of a shown answer at most.
const SHOWN_TOKENS: usize = 48;

/// Held-out corpora, ready to be measured on.
pub struct Evaluator {
    corpora: Vec<HeldOut>,
}

struct HeldOut {
    name: String,
    steps: Vec<Rows>,
    shown: Vec<Sample>,
}

impl Evaluator {
    /// Read the held-out corpora of a run. `watch` is told of samples that cannot be measured on, at this step.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn new(model: &dyn CausalModel, config: &Config, step: u64, watch: &mut dyn Watch) -> Result<Self> {
        let read = |source: &SourceConfig| {
            let HeldOutRows { steps, samples, left_out } =
                held_out(model, source, &config.data, config.evaluate.limit)?;
            if let Some(text) = left_out {
                watch.event(&Event::Note { step, text })?;
            }
            let every = samples.len().div_ceil(config.evaluate.show.max(1)).max(1);
            let shown = samples.into_iter().step_by(every).take(config.evaluate.show).collect();
            Ok(HeldOut { name: source.title(), steps, shown })
        };
        Ok(Self { corpora: config.data.held_out.iter().map(read).collect::<Result<_>>()? })
    }

    /// Measure every corpus, and with `asks` let the model answer some of its samples.
    ///
    /// # Errors
    /// When the device fails.
    pub fn measure(
        &self,
        trainer: &mut Trainer,
        step: u64,
        config: &Config,
        asks: bool,
    ) -> Result<Vec<Evaluation>> {
        let mut found = Vec::new();
        for corpus in &self.corpora {
            let (mut loss, mut right): (f64, Vec<Vec<bool>>) = (0.0, Vec::new());
            for rows in &corpus.steps {
                let model = trainer.shared_model();
                let batch = Batch::new(&*model, &borrowed(rows), config.data.length)?;
                let measured = trainer.measure(&batch)?;
                loss += measured.loss;
                right.extend(measured.right);
            }
            let tokens: usize = right.iter().map(Vec::len).sum();
            let good = right.iter().flatten().filter(|r| **r).count();
            let whole = right.iter().filter(|r| r.iter().all(|r| *r)).count();
            found.push(Evaluation {
                step,
                corpus: corpus.name.clone(),
                samples: right.len(),
                loss: loss / tokens.max(1) as f64,
                token_accuracy: good as f64 / tokens.max(1) as f64,
                accuracy: whole as f64 / right.len().max(1) as f64,
                said: Vec::new(),
            });
        }
        if asks && self.corpora.iter().any(|c| !c.shown.is_empty()) {
            self.ask(trainer, config, &mut found)?;
        }
        Ok(found)
    }

    /// What the model says to some samples, through the same session and files that a user's question goes through.
    fn ask(&self, trainer: &Trainer, config: &Config, found: &mut [Evaluation]) -> Result<()> {
        let folder = config.out.join("asked.tmp");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(file(&folder))?;
        }
        write_model(trainer, config, &trainer.parameters()?, &folder)?;
        let said = self.ask_at(trainer, &folder, found);
        std::fs::remove_dir_all(&folder).map_err(file(&folder))?;
        said
    }

    fn ask_at(&self, trainer: &Trainer, folder: &std::path::Path, found: &mut [Evaluation]) -> Result<()> {
        let model = trainer.finished(folder)?;
        let options =
            SessionOptions { host: trainer.host(), batch_invariant: true, ..SessionOptions::default() };
        let mut session = Session::new(trainer.shared_device(), model, options)?;
        let model = session.shared_model();
        let options = GenerateOptions { max_tokens: Some(SHOWN_TOKENS), ..GenerateOptions::default() };
        // Where an answer goes: its corpus, and what it should be.
        let mut places = Vec::new();
        let mut requests = Vec::new();
        for (corpus, held_out) in self.corpora.iter().enumerate() {
            for sample in &held_out.shown {
                let Some((messages, expected)) = sample.question() else { continue };
                let processor = model.processor();
                let inputs = processor.chat(&messages, &sample.decode(processor)?)?;
                places.push((corpus, sample.key.clone(), expected));
                requests.push(Ok(Request::new(inputs, options.clone())));
            }
        }
        let mut answers = vec![String::new(); places.len()];
        session.generate_all(requests, BATCH, |i, generation| {
            answers[i] = generation.text;
            Ok::<_, Error>(())
        })?;
        for ((corpus, key, expected), answer) in places.into_iter().zip(answers) {
            if let Some(evaluation) = found.get_mut(corpus) {
                evaluation.said.push(Said { key, expected, answer });
            }
        }
        Ok(())
    }
}
