//! What a model spends its time on: one decoder layer's training step, timed operation by operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use percept_graph::{Activation, AttentionSpec, DType, Graph, GraphError, Tensor, ValueId, grad};
use serde::{Deserialize, Serialize};

use super::case::{Fault, Outcome, Subject, arguments};
use super::problem::{Build, Problem};
use super::tolerance::Class;
use super::values::Fill;
use crate::report::Placement;

/// The time a model spends in an operation that is not native.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpTime {
    /// The operation.
    pub op: String,
    /// Where it runs.
    pub placement: Placement,
    /// Milliseconds of one run.
    pub ms: f64,
    /// Share of the run.
    pub share: f64,
}

const TOKENS: usize = 48;
const WIDTH: usize = 64;
const HEADS: usize = 4;

/// Embedding, norms, rotary attention, a gated projection, the loss, and the gradients of the weights.
pub(crate) fn decoder_layer(b: &mut Build) {
    let d = DType::F32;
    let table = b.weight(d, &[97, WIDTH], Fill::Scaled(0.5));
    let ids = b.data(DType::I32, &[TOKENS], Fill::Between(0, 97));
    let labels = b.data(DType::I32, &[TOKENS], Fill::Between(0, 97));
    let norms = [0; 2].map(|_| b.weight(d, &[WIDTH], Fill::Positive));
    let square = [0; 4].map(|_| b.weight(d, &[WIDTH, WIDTH], Fill::Scaled(0.1)));
    let wide = [0; 2].map(|_| b.weight(d, &[3 * WIDTH, WIDTH], Fill::Scaled(0.1)));
    let down = b.weight(d, &[WIDTH, 3 * WIDTH], Fill::Scaled(0.1));
    let head = WIDTH / HEADS;
    let positions = b.trace.iota(DType::I32, [1, TOKENS], 1);
    let frequencies: Vec<f64> = (0..head / 2).map(|i| 100f64.powf(-2.0 * i as f64 / head as f64)).collect();
    let [cos, sin] = positions.rope_angles(&frequencies);
    let x = table.embedding(&ids, d);
    let h = x.rms_norm(&norms[0], 1e-5);
    let heads =
        |w: &Tensor| h.linear(w, None, None).reshape([1, TOKENS, HEADS, head]).transpose([0, 2, 1, 3]);
    let (q, k) = (heads(&square[0]).rope(&cos, &sin, false), heads(&square[1]).rope(&cos, &sin, false));
    let y = q.attention(&k, &heads(&square[2]), &[], AttentionSpec::causal(1.0 / (head as f32).sqrt()));
    let x = x + y.transpose([0, 2, 1, 3]).reshape([TOKENS, WIDTH]).linear(&square[3], None, None);
    let h = x.rms_norm(&norms[1], 1e-5);
    let gate = h.linear(&wide[0], None, None);
    let x = x + gate.gated(Activation::Silu, &h.linear(&wide[1], None, None)).linear(&down, None, None);
    let loss = x.linear(&table, None, None).cross_entropy(&labels, -100, 0.0).mean([0]);
    b.output(&loss, Class::Composite { terms: 97 });
    let wrt: Vec<&Tensor> = [&table, &down].into_iter().chain(&norms).chain(&square).chain(&wide).collect();
    for g in grad(&loss, &wrt) {
        b.output(&g, Class::Gradient { terms: 97 });
    }
}

/// Time the operations of a problem, and note those that are not native.
pub(crate) fn measure(subject: &Subject, problem: Problem, outcome: &mut Outcome) -> Result<(), Fault> {
    let problem = Problem { graph: numbered(&problem.graph)?, ..problem };
    let executable = super::case::compile(subject, &problem, outcome)?;
    let args = arguments(subject, &problem)?;
    // The first run fills caches.
    executable.run(args.clone())?;
    let (outputs, events) = executable.run_timed(args)?;
    let got = outputs.iter().map(|b| super::case::read(subject, b)).collect::<Result<Vec<_>, _>>()?;
    super::case::judge(&problem, subject.device.info().computes_in, &got, outcome)?;
    let total: f64 = events.iter().map(|e| e.duration_us).sum();
    outcome.ms = total / 1e3;
    let placed: BTreeMap<&str, (&str, Placement)> =
        executable.report().placed.iter().map(|p| (&*p.path, (p.op.as_str(), p.placement))).collect();
    let mut times: BTreeMap<(&str, Placement), f64> = BTreeMap::new();
    for e in &events {
        if let Some(&key @ (_, placement)) = placed.get(&*e.path)
            && placement != Placement::Native
        {
            *times.entry(key).or_default() += e.duration_us;
        }
    }
    outcome.next = times
        .into_iter()
        .map(|((op, placement), us)| OpTime {
            op: op.into(),
            placement,
            ms: us / 1e3,
            share: us / total.max(1e-9),
        })
        .collect();
    Ok(())
}

/// The graph with each node's index as its path, so that a timed step names the node it belongs to.
fn numbered(graph: &Graph) -> Result<Graph, GraphError> {
    let mut copy = Graph::new(graph.name());
    let mut map = vec![ValueId(0); graph.values().len()];
    for i in graph.inputs() {
        map[i.value.index()] = copy.add_input(i.name.clone(), i.role, graph.ty(i.value).clone())?;
    }
    for (i, node) in graph.nodes().iter().enumerate() {
        let operands: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
        let results = copy.add(node.op.clone(), &operands, &Arc::from(format!("{i}:{}", node.op.name())))?;
        for (from, to) in node.outputs.iter().zip(results) {
            map[from.index()] = to;
        }
    }
    for o in graph.outputs() {
        copy.add_output(o.name.clone(), map[o.value.index()], o.alias)?;
    }
    Ok(copy)
}
