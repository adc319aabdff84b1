//! Embeddings of texts by a decoder.

use std::sync::Arc;

use percept_graph::{DType, Trace};
use percept_hal::{CompileOptions, CompileReport, Device};
use percept_modalities::text::Tokenizer;
use percept_model::text::tokenizer;
use percept_model::{CausalModel, Context, Parameters};

use super::{Programs, floats, ints, rows};
use crate::error::{Error, Result};
use crate::ids::check_ids;

/// Which rows of a decoder stand for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The last one, which has seen all others.
    Last,
    /// The mean of all.
    Mean,
}

/// A decoder on a device, for the embeddings of texts.
pub struct TextPlacer {
    model: Box<dyn CausalModel>,
    tokenizer: Tokenizer,
    programs: Programs,
}

impl TextPlacer {
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
        Ok(Self { model, tokenizer, programs: Programs::new(device, options) })
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.programs.reports()
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
        // The length is not rounded up: rows that only fill up would be seen by decoders that see both ways.
        let t = Trace::new(format!("embed.{n}"));
        let p = Parameters::new(&t, self.model.weights());
        let input = t.data("ids", DType::I32, [1, n]);
        let angles = decoder.ropes.iter().enumerate().map(|(i, rope)| {
            ["cos", "sin"].map(|f| t.data(format!("rope.{i}.{f}"), DType::F32, [1, n, rope.pairs()]))
        });
        let cx = Context { angles: angles.collect(), ..Context::default() };
        let x = decoder.hidden(&p, &decoder.embed(&p, &input), &cx, &[]);
        t.output("hidden", &x);

        let positions: Vec<i32> = (0..n as i32).collect();
        let mut arguments = vec![("ids".to_string(), ints(&ids))];
        for (i, rope) in decoder.ropes.iter().enumerate() {
            let [cos, sin] = rope.angles(&[&positions], n);
            arguments
                .extend([(format!("rope.{i}.cos"), floats(&cos)), (format!("rope.{i}.sin"), floats(&sin))]);
        }
        let arguments: Vec<(&str, Vec<u8>)> = arguments.iter().map(|(n, b)| (&n[..], b.clone())).collect();
        let width = decoder.hidden;
        let flat = self.programs.run(self.model.weights(), t.finish()?, &arguments)?;
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
