//! Speech recognition row by row of sound: connectionist temporal classification (Graves et al. 2006), and transducers,
//! which also look at the tokens before (Graves 2012), and say how many rows to go on (Xu et al. 2023).

use percept_graph::{Activation, DType, Graph, Tensor, Trace};
use percept_modalities::audio::NormalizedMel;
use percept_modalities::text::Tokenizer;

use crate::audio::Conformer;
use crate::causal::EncoderRun;
use crate::error::{Error, Result};
use crate::parameters::{Parameters, product};
use crate::vision::encoder_run;
use crate::weights::Weights;

/// A model that names tokens, or none, for every row of its encoder.
pub struct FrameModel {
    /// The encoder.
    pub encoder: Conformer,
    /// What names tokens.
    pub head: FrameHead,
    /// Tokens, and the one that is none.
    pub vocab: usize,
    /// The token that is none.
    pub blank: usize,
    /// The parameters.
    pub weights: Weights,
    /// What makes features of audio.
    pub features: NormalizedMel,
    /// The tokenizer of transcripts.
    pub tokenizer: Tokenizer,
}

/// What names the tokens of rows.
pub enum FrameHead {
    /// One layer, a token for every row.
    Ctc,
    /// A network that reads the tokens so far, and one that joins it with a row.
    Transducer(Transducer),
}

/// The two networks of a transducer.
pub struct Transducer {
    /// Width of both.
    pub width: usize,
    /// Long short-term memories of the first one (Hochreiter and Schmidhuber 1997).
    pub layers: usize,
    /// The function before the last layer.
    pub activation: Activation,
    /// Rows to go on, of which the second one chooses; there are none where a row ends with the token that is none.
    pub durations: Vec<usize>,
    /// Tokens of one row, at most.
    pub most: usize,
}

impl FrameModel {
    /// The run for features f32[1,frames,bands] of which the first `heard` frames are no padding. The output is `logits`
    /// f32[rows,vocab], or of a transducer `rows` f32[rows,width].
    ///
    /// # Errors
    /// When the features do not fit the model, or the checkpoint's tensors not the configuration.
    pub fn run(&self, features: &[f32], heard: usize) -> Result<EncoderRun> {
        let bands = self.encoder.bands;
        let frames = features.len() / bands;
        if features.is_empty() || !features.len().is_multiple_of(bands) || heard > frames {
            let why = format!("{} features are no {heard} frames and more of {bands} bands", features.len());
            return Err(Error::Inputs(why));
        }
        let arguments = self.encoder.arguments(features, heard)?;
        let named = arguments.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        encoder_run("frames", &self.weights, named, |p, x| {
            let rows = self.encoder.trace(p, x);
            let rows = rows.reshape([rows.dim(1), self.encoder.hidden]);
            match &self.head {
                FrameHead::Ctc => {
                    vec![("logits".into(), p.linear(&rows, "ctc_head", self.vocab, true, None))]
                }
                FrameHead::Transducer(t) => {
                    vec![("rows".into(), p.linear(&rows, "encoder_projector", t.width, true, None))]
                }
            }
        })
    }

    /// Rows of so many frames.
    pub fn rows(&self, frames: usize) -> usize {
        self.encoder.rows(frames)
    }

    /// Seconds from one row to the next.
    pub fn step(&self) -> f64 {
        (self.features.hop() * self.encoder.factor()) as f64 / f64::from(self.features.rate())
    }
}

impl Transducer {
    /// The first network on one more token. Inputs are `id` i32[1,1] and, for each memory, `h.{layer}` and `c.{layer}`
    /// f32[1,width]; outputs are these anew and `read` f32[1,width].
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn read(&self, model: &FrameModel) -> Result<Graph> {
        let (t, d) = (Trace::new("read"), self.width);
        let p = Parameters::new(&t, &model.weights);
        let id = t.data("id", DType::I32, [1, 1]);
        let mut x = p.embedding(&id, "decoder.embedding.weight", [model.vocab, d]).reshape([1, d]);
        for layer in 0..self.layers {
            let [h, c] = ["h", "c"].map(|name| t.data(format!("{name}.{layer}"), DType::F32, [1, d]));
            let gates = |x: &Tensor, from: &str| {
                let w = p.matrix(&format!("decoder.lstm.weight_{from}_l{layer}"), [4 * d, d]);
                product(x, &w, Some(&p.get(&format!("decoder.lstm.bias_{from}_l{layer}"), [4 * d])), None)
            };
            let all = gates(&x, "ih") + gates(&h, "hh");
            let gate = |i: usize| all.narrow(1, i * d, (i + 1) * d);
            let c = gate(1).logistic() * c + gate(0).logistic() * gate(2).tanh();
            x = gate(3).logistic() * c.tanh();
            t.output(format!("h.{layer}"), &x);
            t.output(format!("c.{layer}"), &c);
        }
        t.output("read", &p.linear(&x, "decoder.decoder_projector", d, true, None));
        Ok(t.finish()?)
    }

    /// The second network on some rows of sound, `rows` f32[count,width] and `read` f32[1,width]; the output `logits` is
    /// f32[count,vocab and durations].
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn join(&self, model: &FrameModel, count: usize) -> Result<Graph> {
        let t = Trace::new("join");
        let p = Parameters::new(&t, &model.weights);
        let rows = t.data("rows", DType::F32, [count, self.width]);
        let x = (rows + t.data("read", DType::F32, [1, self.width])).activate(self.activation);
        t.output("logits", &p.linear(&x, "joint.head", model.vocab + self.durations.len(), true, None));
        Ok(t.finish()?)
    }
}
