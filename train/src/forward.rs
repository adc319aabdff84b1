//! The loss of a batch as a graph.

use std::cell::RefCell;

use percept_graph::{DType, Graph, Role, Tensor, TensorType, Trace};
use percept_model::{CausalModel, DROPOUT_KEY, DROPOUT_SHARE, Decoder, EncoderRun, Features, Parameters};

use crate::batch::Shape;
use crate::config::{Config, OptimizerConfig};
use crate::encode::IGNORE;
use crate::error::Result;
use crate::router::{self, BALANCE, LIVE, LOADS, usual_weight};
use crate::steps::scaled;

/// What is computed beside the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Purpose {
    /// The loss alone, to be differentiated.
    Train {
        /// Share of the target spread over all tokens.
        smoothing: f32,
        /// Weight of the loss that balances experts' loads, of a model that has some.
        balance: Option<f32>,
        /// The loss is multiplied by the input `scale` before it is differentiated.
        scaled: bool,
    },
    /// The loss, and which tokens were the most likely ones.
    Evaluate,
}

impl Purpose {
    /// To train as a run says.
    pub fn training(config: &Config) -> Self {
        let OptimizerConfig { smoothing, balance, .. } = config.optimizer;
        Purpose::Train { smoothing, balance, scaled: scaled(config) }
    }
}

/// The graph of a batch's loss.
///
/// Inputs are the arrays of [`crate::batch::Batch`] and `count` f32[], the answer tokens of the whole step
/// over all processes; with dropout also [`DROPOUT_KEY`] and [`DROPOUT_SHARE`]. The output `loss` f32[] is
/// the sum of the cross-entropies over `count`. To train there is also `objective`, which is `loss` times
/// `scale` where that is asked for; to evaluate there are `losses` f32[out] and `right` i32[out], 1 where the
/// label is the most likely token. To train a model with mixtures there are the input [`LIVE`] and the outputs
/// [`BALANCE`], times the batch's share of the answers, and [`LOADS`]; `objective` has the first in it, weighted.
///
/// # Errors
/// When the model's tensors do not fit its configuration.
pub fn forward(
    model: &dyn CausalModel,
    shape: &Shape,
    runs: &[EncoderRun],
    purpose: Purpose,
) -> Result<Graph> {
    let t = Trace::new("train");
    let p = Parameters::new(&t, model.weights());
    let decoder = segmented(model.decoder(), shape.packed);
    let pass = shape.pass();
    let inputs = pass.declare(&decoder, &t);
    let sets = if runs.is_empty() { Vec::new() } else { encode(&t, &p, runs, decoder.deepstack) };
    let features = Features::computed(&decoder, &pass, &inputs, &sets);
    let routings = RefCell::default();
    let mut cx = decoder.context(&pass, &inputs);
    let weight = usual_weight(&decoder).filter(|_| matches!(purpose, Purpose::Train { .. }));
    cx.routings = weight.map(|_| &routings);
    let x = decoder.rows(&p, &pass, &inputs, &cx, features);
    let labels = t.data("labels", DType::I32, [shape.out]);
    let scalar = |name: &str| t.input(name, Role::Scalar, TensorType::new(DType::F32, []));
    let count = scalar("count");
    let _head = t.scope("head");
    let logits = decoder.logits(&p, &x);
    let _loss = t.scope("loss");
    let smoothing = if let Purpose::Train { smoothing, .. } = purpose { smoothing } else { 0.0 };
    let losses = logits.cross_entropy(&labels, IGNORE, smoothing);
    let loss = losses.sum([0]) / &count;
    t.output("loss", &loss);
    match purpose {
        Purpose::Train { scaled, balance: own, .. } => {
            let mut whole = loss.clone();
            if let Some(weight) = weight {
                let live = t.data(LIVE, DType::F32, [shape.rows * shape.length]);
                if let Some([balance, loads]) = router::balance(&routings.borrow(), &live) {
                    let answers = labels.ne(&labels.like(f64::from(IGNORE))).cast(DType::F32).sum([0]);
                    let balance = balance * answers / &count;
                    t.output(BALANCE, &balance);
                    t.output(LOADS, &loads);
                    let weight = own.unwrap_or(weight);
                    if weight != 0.0 {
                        whole = whole + balance * f64::from(weight);
                    }
                }
            }
            let objective = if scaled { whole * scalar("scale") } else { whole * 1.0 };
            t.output("objective", &objective);
        }
        Purpose::Evaluate => {
            t.output("losses", &losses);
            t.output("right", &logits.argmax(1).eq(&labels).cast(DType::I32));
        }
    }
    drop((_loss, _head));
    drop(p);
    Ok(t.finish()?)
}

/// The decoder with attention inside segments where several samples share a row.
fn segmented(decoder: &Decoder, packed: bool) -> Decoder {
    let mut decoder = decoder.clone();
    if packed {
        decoder.stack.blocks.iter_mut().for_each(|b| b.attention.segments = Some(0));
    }
    decoder
}

/// The features f32[n,hidden] of all runs, then each set of extra ones. Parameters are shared with the
/// decoder by name.
fn encode(t: &Trace, p: &Parameters, runs: &[EncoderRun], deepstack: usize) -> Vec<Tensor> {
    let mut sets: Vec<Vec<Tensor>> = vec![Vec::new(); 1 + deepstack];
    for (r, run) in runs.iter().enumerate() {
        let g = &run.graph;
        let input = |i: &percept_graph::Input| match i.role {
            Role::Parameter => p.shared(&i.name, g.ty(i.value)),
            // Dropout is the batch's, in encoders too.
            _ if [DROPOUT_KEY, DROPOUT_SHARE].contains(&&i.name[..]) => {
                p.batch_input(&i.name, g.ty(i.value).clone())
            }
            role => t.input(format!("media.{r}.{}", i.name), role, g.ty(i.value).clone()),
        };
        let inputs: Vec<Tensor> = g.inputs().iter().map(input).collect();
        let outputs = t.inline(g, &inputs.iter().collect::<Vec<_>>());
        for (output, value) in g.outputs().iter().zip(outputs) {
            let set = output.name.strip_prefix("deepstack.").and_then(|k| k.parse::<usize>().ok());
            if let Some(set) = sets.get_mut(set.map_or(0, |k| k + 1)) {
                set.push(value);
            }
        }
    }
    sets.iter().filter_map(|set| Tensor::concat(&set.iter().collect::<Vec<_>>(), 0)).collect()
}
