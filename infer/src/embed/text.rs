//! Embeddings of texts from a decoder.

use std::sync::Arc;

use percept_graph::Trace;
use percept_hal::{CompileOptions, CompileReport, Device};
use percept_modalities::text::Tokenizer;
use percept_model::text::tokenizer;
use percept_model::{CausalModel, Features, Parameters, PassRows, PassShape};

use super::{first_output, rows};
use crate::error::{Error, Result};
use crate::ids::check_ids;
use crate::runner::Runner;

/// Which rows of a decoder stand for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The last one, which has seen all others.
    Last,
    /// The mean of all.
    Mean,
}

/// A decoder on a device, for the embeddings of texts.
pub struct TextEmbedder {
    model: Box<dyn CausalModel>,
    tokenizer: Tokenizer,
    runner: Runner<String>,
}

impl TextEmbedder {
    /// Bring a model to a device.
    ///
    /// # Errors
    /// When the checkpoint has no tokenizer.
    pub fn new(
        model: Box<dyn CausalModel>,
        device: Arc<dyn Device>,
        options: CompileOptions,
    ) -> Result<Self> {
        let tokenizer = tokenizer(model.weights().checkpoint())?;
        Ok(Self { model, tokenizer, runner: Runner::new(device, options, false) })
    }

    /// What texts are cut into tokens with.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.runner.reports()
    }

    /// The embedding of a text: normalized rows of the last block, pooled, scaled to length one.
    ///
    /// # Errors
    /// When the text is empty or longer than the model's context, or the device fails.
    pub fn text(&mut self, text: &str, pooling: Pooling) -> Result<Vec<f32>> {
        let decoder = self.model.decoder();
        let ids: Vec<i32> = self.tokenizer.encode(text, true)?.iter().map(|&id| id as i32).collect();
        let (n, context) = (ids.len(), decoder.context);
        if n == 0 {
            return Err(Error::Setting("an empty text has no embedding".into()));
        }
        if n > context {
            return Err(Error::TooLong { what: "the text", tokens: n, context });
        }
        check_ids(ids.iter().copied(), decoder.vocab, &self.tokenizer)?;
        // The length is not rounded up: decoders with bidirectional attention would attend to the padding.
        let shape = PassShape { rows: [1, n], ..PassShape::default() };
        let t = Trace::new(format!("embed.{n}"));
        let p = Parameters::new(&t, self.model.weights());
        let inputs = shape.declare(decoder, &t);
        let x = decoder.rows(&p, &shape, &inputs, &decoder.context(&shape, &inputs), Features::default());
        t.output("hidden", &x);
        drop(p);

        let positions: Vec<i32> = (0..n as i32).collect();
        let mut given = PassRows { ids, ..PassRows::default() };
        given.add_angles(decoder, &[&positions], n);
        let given = shape.fill(decoder, &given)?;
        let width = decoder.hidden;
        let flat = first_output(&mut self.runner, self.model.weights(), t.finish()?, &given)?;
        let rows = rows(&flat, width);
        let mut pooled = match pooling {
            Pooling::Last => rows.last().cloned().unwrap_or_default(),
            Pooling::Mean => (0..width).map(|i| rows.iter().map(|r| r[i]).sum::<f32>() / n as f32).collect(),
        };
        let length = pooled.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        pooled.iter_mut().for_each(|x| *x /= length);
        Ok(pooled)
    }
}
