//! Where a device first leaves the reference, on the question on which both are furthest apart.
//!
//! The reference answers the question while the operands of all it runs are kept. Then each operation is run on both devices, on the
//! reference's operands, so that the first that differs is the one at fault and not one that was given what another spoilt.

use std::ops::ControlFlow;
use std::sync::Arc;

use percept_hal::{Device, walk};
use percept_infer::{GenerateOptions, Session};
use serde::Serialize;

use crate::error::Result;
use crate::run::{Agreement, Kept};

/// Tokens of the answer that are looked at: the first comes from the run of the prompt, the second from a step of its own.
const TOKENS: usize = 2;

/// What was found of a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The number of the question.
    pub doc_id: usize,
    /// How far both are apart on it, in nats; `None` where the device's are no numbers.
    pub kl: Option<f64>,
    /// Runs that were looked at: encoders, the prompt, steps.
    pub runs: usize,
    /// Operations of them up to the one that differs.
    pub operations: usize,
    /// The first operation that differs by more than rounding.
    pub first: Option<Difference>,
}

/// An operation that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The graph that was run.
    pub run: String,
    /// The operation's index in it.
    pub index: usize,
    /// The operation.
    pub op: String,
    /// Where it is in the model, such as `model.layers.3.self_attn`.
    pub module: String,
    /// Its normalized mean square error; `None` where the device's results are no numbers.
    pub error: Option<f64>,
    /// What rounding may make of it.
    pub allowed: f64,
    /// The operation as a text graph with its operands, which `percept device diff ID --model FILE` runs again.
    #[serde(skip)]
    pub graph: String,
}

/// Look at the question on which a device strays most: `held` says which, of those that were kept. `host` is the reference's device. `None`
/// where no answer was kept.
///
/// # Errors
/// When one of the devices fails.
pub fn explain(
    session: &Session,
    reference: &mut Session,
    host: &Arc<dyn Device>,
    kept: &[Kept],
    held: &Agreement,
) -> Result<Option<Explanation>> {
    let Some(worst) = &held.worst else { return Ok(None) };
    let Some(Kept { inputs, .. }) = kept.iter().find(|kept| kept.doc_id == worst.doc_id) else {
        return Ok(None);
    };
    reference.record_runs();
    let options =
        GenerateOptions { max_tokens: Some(TOKENS), ignore_ends: true, ..GenerateOptions::default() };
    reference.generate(inputs, &options, &mut |_| {})?;
    let runs = reference.take_recorded_runs();
    let model = reference.shared_model();
    let mut found = Explanation { doc_id: worst.doc_id, kl: worst.kl, runs: 0, operations: 0, first: None };
    for run in runs {
        let graph = &run.graph;
        let mut inputs = Vec::new();
        for (input, bytes) in graph.inputs().iter().zip(run.inputs) {
            inputs.push(match bytes {
                Some(bytes) => bytes,
                None => {
                    let weight = model.weights().fetch(&input.name, graph.ty(input.value));
                    weight.map_err(percept_infer::Error::from)?.bytes().to_vec()
                }
            });
        }
        found.runs += 1;
        walk::<percept_infer::Error>(graph, &inputs, session.device(), host, None, |visit| {
            found.operations += 1;
            if visit.agrees() {
                return Ok(ControlFlow::Continue(()));
            }
            found.first = Some(Difference {
                run: graph.name().to_owned(),
                index: visit.index,
                op: visit.node.op.name(),
                module: visit.node.path.to_string(),
                error: Some(visit.error).filter(|error| error.is_finite()),
                allowed: visit.allowed,
                graph: visit.standalone()?.to_string(),
            });
            Ok(ControlFlow::Break(()))
        })?;
        if found.first.is_some() {
            break;
        }
    }
    Ok(Some(found))
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number =
            |value: Option<f64>| value.map_or("no number".to_owned(), |value| format!("{value:.2e}"));
        write!(f, "question {}, divergence {}: ", self.doc_id, number(self.kl))?;
        match &self.first {
            None => write!(
                f,
                "none of {} operations in {} runs differs by more than rounding",
                self.operations, self.runs
            ),
            Some(first) => {
                let place = if first.module.is_empty() { "the graph" } else { &first.module };
                write!(
                    f,
                    "{} in {place} is the first that differs, operation {} of {}: error {}, allowed {:.0e}",
                    first.op,
                    first.index,
                    first.run,
                    number(first.error),
                    first.allowed
                )
            }
        }
    }
}
