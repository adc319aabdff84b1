//! Embeddings of texts from a decoder, or from an encoder made for them.

use std::sync::Arc;

use percept_graph::{HostTensor, Trace};
use percept_hal::{CompileOptions, CompileReport, Device, OpTiming};
use percept_modalities::text::Tokenizer;
use percept_model::text::tokenizer;
use percept_model::{CausalModel, Features, Packed, Parameters, PassRows, PassShape, Pooling, TextEncoder};

use super::{first_output, rows, unit};
use crate::error::{Error, Result};
use crate::ids::check_ids;
use crate::runner::Runner;

/// A model on a device, for the embeddings of texts.
pub struct TextEmbedder {
    model: Reader,
    tokenizer: Tokenizer,
    runner: Runner<String>,
}

/// What reads texts.
enum Reader {
    /// With what a folder of sentence-transformers says beside it.
    Decoder(Box<dyn CausalModel>, Packed),
    Encoder(Box<TextEncoder>),
}

/// A length that many texts share a program of: rounded up by a ninth at most, since rows that only fill up take as long as
/// others.
fn shared_length(longest: usize) -> usize {
    longest.next_multiple_of((longest.next_power_of_two() / 16).clamp(2, 16))
}

impl TextEmbedder {
    /// Bring a model to a device.
    ///
    /// # Errors
    /// When the checkpoint has no tokenizer, or the files of sentence-transformers beside it ask for what is not run.
    pub fn new(
        model: Box<dyn CausalModel>,
        device: Arc<dyn Device>,
        options: CompileOptions,
    ) -> Result<Self> {
        let tokenizer = tokenizer(model.weights().checkpoint())?;
        let packed = Packed::read(model.weights())?;
        let model = Reader::Decoder(model, packed);
        Ok(Self { model, tokenizer, runner: Runner::new(device, options, false) })
    }

    /// The same for an encoder.
    pub fn of_encoder(model: Box<TextEncoder>, device: Arc<dyn Device>, options: CompileOptions) -> Self {
        let tokenizer = model.tokenizer.clone();
        Self { model: Reader::Encoder(model), tokenizer, runner: Runner::new(device, options, false) }
    }

    /// What texts are cut into tokens with.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Which rows stand for a text where nobody says otherwise: those that the model's files name, and the last one of a
    /// decoder without such files.
    pub fn pooling(&self) -> Pooling {
        match &self.model {
            Reader::Decoder(_, packed) => packed.pooling.unwrap_or(Pooling::Last),
            Reader::Encoder(model) => model.pooling,
        }
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.runner.reports()
    }

    /// From now on time operations, which is slower; [`TextEmbedder::take_timeline`] gives what was timed.
    pub fn record_timeline(&mut self) {
        self.runner.record_timeline();
    }

    /// The operations timed since then.
    pub fn take_timeline(&mut self) -> Vec<OpTiming> {
        self.runner.take_timeline()
    }

    /// The embedding of a text: rows of the last block, normalized in a decoder, pooled, scaled to length one.
    ///
    /// # Errors
    /// When the text is empty or longer than a decoder's context, or the device fails.
    pub fn text(&mut self, text: &str, pooling: Pooling) -> Result<Vec<f32>> {
        let mut all = self.texts(std::slice::from_ref(&text), pooling)?;
        Ok(all.pop().unwrap_or_default())
    }

    /// The embeddings of texts, each as [`TextEmbedder::text`] gives it alone.
    ///
    /// # Errors
    /// As there.
    pub fn texts(&mut self, texts: &[impl AsRef<str>], pooling: Pooling) -> Result<Vec<Vec<f32>>> {
        let Self { model, tokenizer, runner } = self;
        match model {
            Reader::Decoder(model, packed) => {
                let mut one = |text: &str| {
                    let ids = tokens(tokenizer, packed, text)?;
                    decoded(&**model, tokenizer, runner, ids, pooling)
                };
                texts.iter().map(|text| one(text.as_ref())).collect()
            }
            Reader::Encoder(model) => {
                let ids =
                    texts.iter().map(|text| model.tokens(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
                // Texts of about one length share a run, so that few rows of it are padding.
                let mut order: Vec<usize> = (0..ids.len()).collect();
                order.sort_by_key(|&i| ids[i].len());
                let mut all = vec![Vec::new(); ids.len()];
                for some in order.chunks(super::Embedder::BATCH * 4) {
                    let batch: Vec<&[i32]> = some.iter().map(|&i| &ids[i][..]).collect();
                    let pooled = encoded(model, runner, &batch, pooling)?;
                    some.iter().zip(pooled).for_each(|(&i, vector)| all[i] = vector);
                }
                Ok(all)
            }
        }
    }
}

/// A text's tokens behind its instruction, cut where the files of sentence-transformers say how long it may be.
fn tokens(tokenizer: &Tokenizer, packed: &Packed, text: &str) -> Result<Vec<i32>> {
    let text = format!("{}{text}", packed.instruction);
    let mut ids = tokenizer.encode(&text, true)?;
    if let Some(length) = packed.length.filter(|length| ids.len() > *length) {
        ids = tokenizer.encode_to_length(&text, length)?.ids;
    }
    Ok(ids.into_iter().map(|id| id as i32).collect())
}

/// The embedding of a text's tokens by a decoder.
fn decoded(
    model: &dyn CausalModel,
    tokenizer: &Tokenizer,
    runner: &mut Runner<String>,
    ids: Vec<i32>,
    pooling: Pooling,
) -> Result<Vec<f32>> {
    let decoder = model.decoder();
    let (n, context) = (ids.len(), decoder.context);
    if n == 0 {
        return Err(Error::Setting("an empty text has no embedding".into()));
    }
    if n > context {
        return Err(Error::TooLong { what: "the text", tokens: n, context });
    }
    check_ids(ids.iter().copied(), decoder.vocab, tokenizer)?;
    // The length is not rounded up: decoders with bidirectional attention would attend to the padding.
    let shape = PassShape { rows: [1, n], ..PassShape::default() };
    let t = Trace::new(format!("embed.{n}"));
    let p = Parameters::new(&t, model.weights());
    let inputs = shape.declare(decoder, &t);
    let x = decoder.rows(&p, &shape, &inputs, &decoder.context(&shape, &inputs), Features::default());
    t.output("hidden", &x);
    drop(p);

    let positions: Vec<f32> = (0..n).map(|at| at as f32).collect();
    let mut given = PassRows { ids, ..PassRows::default() };
    given.add_angles(decoder, &[&positions], n);
    let given = shape.fill(decoder, &given)?;
    let flat = first_output(runner, model.weights(), t.finish()?, &given)?;
    Ok(pooled(&flat, decoder.hidden, pooling))
}

/// The embeddings of texts by an encoder, in one run.
fn encoded(
    model: &TextEncoder,
    runner: &mut Runner<String>,
    texts: &[&[i32]],
    pooling: Pooling,
) -> Result<Vec<Vec<f32>>> {
    let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
    let n = shared_length(longest).min(model.positions - model.first_position);
    let (mut ids, mut segments) = (Vec::new(), Vec::new());
    for text in texts {
        if text.is_empty() {
            return Err(Error::Setting("an empty text has no embedding".into()));
        }
        check_ids(text.iter().copied(), model.vocab, &model.tokenizer)?;
        let row = |i: usize| text.get(i).copied();
        ids.extend((0..n).map(|i| row(i).unwrap_or(0)));
        segments.extend((0..n).map(|i| i32::from(row(i).is_none())));
    }
    let dims = [texts.len(), n];
    let arguments = [
        ("input_ids".to_string(), HostTensor::from_i32(dims, &ids)?),
        ("segments".to_string(), HostTensor::from_i32(dims, &segments)?),
    ];
    let flat = first_output(runner, &model.weights, model.graph(texts.len(), n)?, &arguments)?;
    let width = model.hidden;
    let of = |(flat, text): (&[f32], &&[i32])| pooled(&flat[..text.len() * width], width, pooling);
    Ok(flat.chunks_exact(n * width).zip(texts).map(of).collect())
}

/// Rows of a text as one of length one.
fn pooled(flat: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    let rows = rows(flat, width);
    let mut pooled = match pooling {
        Pooling::First => rows.first().cloned().unwrap_or_default(),
        Pooling::Last => rows.last().cloned().unwrap_or_default(),
        Pooling::Mean => {
            (0..width).map(|i| rows.iter().map(|r| r[i]).sum::<f32>() / rows.len() as f32).collect()
        }
    };
    unit(&mut pooled);
    pooled
}
