//! Composites: those with a backward composite or a short rule; the rest through their decomposition.

use super::{BackwardStep, Gradients, wide};
use crate::composite::{Activation, AttentionSpec, Composite};
use crate::op::Op;
use crate::trace::Tensor;

pub fn composite(s: &BackwardStep, c: &Composite) -> Gradients {
    match c {
        Composite::Linear { bias, act } => linear(s, *bias, *act),
        Composite::QuantizedDot { transposed } => {
            let back = Op::Composite(Composite::QuantizedDot { transposed: !transposed });
            vec![s.when(0, || s.trace.op(back, &[&s.g(), &s.x[1]])), None]
        }
        Composite::Int8Dot => {
            let back = Op::Composite(Composite::QuantizedDot { transposed: true });
            vec![s.when(0, || s.trace.op(back, &[&s.g(), &s.x[1]])), None]
        }
        Composite::RaggedDot { transposed } => ragged(s, *transposed),
        Composite::Softmax => vec![s.when(0, || {
            let (y, g) = (wide(&s.y[0]), wide(&s.g()));
            let mean = over_rows(&(&g * &y).sum([last(&y)]), &y);
            (&y * (g - mean)).cast(s.x[0].dtype())
        })],
        Composite::LogSoftmax => vec![s.when(0, || {
            let (y, g) = (wide(&s.y[0]), wide(&s.g()));
            let total = over_rows(&g.sum([last(&y)]), &y);
            (&g - y.exp() * total).cast(s.x[0].dtype())
        })],
        Composite::CrossEntropy { ignore, label_smoothing } => cross_entropy(s, *ignore, *label_smoothing),
        Composite::RmsNorm { eps, unit_offset } => {
            backward_composite(s, Composite::RmsNormGrad { eps: *eps, unit_offset: *unit_offset }, 2)
        }
        Composite::LayerNorm { eps } => backward_composite(s, Composite::LayerNormGrad { eps: *eps }, 2),
        Composite::Attention(spec) => attention(s, spec),
        Composite::Rope { interleaved } => rope(s, *interleaved),
        Composite::CrossEntropyGrad { .. }
        | Composite::RmsNormGrad { .. }
        | Composite::LayerNormGrad { .. }
        | Composite::AttentionGrad(_)
        | Composite::RaggedOuter { .. }
        | Composite::KvAppend { .. }
        | Composite::Activate(_)
        | Composite::GatedActivate(_)
        | Composite::Embedding { .. }
        | Composite::Patchify { .. }
        | Composite::Conv1d { .. }
        | Composite::GatedDelta { .. }
        | Composite::ShortConv { .. }
        | Composite::CumSum { .. }
        | Composite::Pool { .. }
        | Composite::Upsample { .. }
        | Composite::AdamW { .. } => s.through_decomposition(),
        // Integers: no gradient comes here.
        Composite::RandomBits { .. } => vec![None],
    }
}

fn last(x: &Tensor) -> usize {
    x.rank().saturating_sub(1)
}

fn over_rows(stat: &Tensor, x: &Tensor) -> Tensor {
    stat.broadcast(x.dims(), (0..stat.rank()).collect::<Vec<_>>())
}

/// The first `operands` operands and the gradient of the first result, to the gradients of all operands in
/// order.
fn backward_composite(s: &BackwardStep, back: Composite, operands: usize) -> Gradients {
    let g = s.g();
    let inputs: Vec<&Tensor> = s.x[..operands].iter().chain([&g]).collect();
    s.trace
        .ops(Op::Composite(back), &inputs)
        .into_iter()
        .map(Some)
        .chain(std::iter::repeat(None))
        .take(s.x.len())
        .collect()
}

/// Two products; a fused activation is differentiated at the recomputed projection.
fn linear(s: &BackwardStep, bias: bool, act: Option<Activation>) -> Gradients {
    let (x, w) = (&s.x[0], &s.x[1]);
    let g = match act {
        None => s.g(),
        Some(a) => {
            let operands: Vec<&Tensor> = s.x.iter().collect();
            let plain = s.trace.op(Op::Composite(Composite::Linear { bias, act: None }), &operands);
            activation(s, plain, a)
        }
    };
    let lead: Vec<usize> = (0..last(x)).collect();
    let mut gradients = vec![
        s.when(0, || g.dot(w, (&[], &[]), (&[last(&g)], &[0]))),
        s.when(1, || g.dot(x, (&[], &[]), (&lead, &lead))),
    ];
    if bias {
        gradients.push(s.when(2, || g.sum(lead.clone())));
    }
    gradients
}

/// Back through the same matrices, summed over a row's groups; and the sums of outer products of each group's rows.
fn ragged(s: &BackwardStep, transposed: bool) -> Gradients {
    let (x, w, groups) = (&s.x[0], &s.x[1], &s.x[2]);
    let g = s.g();
    let of_rows = || {
        let [m, c, width] = [g.dim(0), g.dim(1), g.dim(2)];
        let (rows, own) = (g.reshape([m * c, width]), groups.reshape([m * c, 1]));
        let back = Op::Composite(Composite::RaggedDot { transposed: !transposed });
        s.trace.op(back, &[&rows, w, &own]).reshape([m, c, x.dim(1)]).sum([1])
    };
    let of_matrices = || {
        let sums = Op::Composite(Composite::RaggedOuter { groups: w.dim(0) });
        let sums = s.trace.op(sums, &[x, &g, groups]);
        if transposed { sums.transpose([0, 2, 1]) } else { sums }
    };
    let dense = !w.dtype().is_quantized();
    vec![s.when(0, of_rows), if dense { s.when(1, of_matrices) } else { None }, None]
}

/// The gradient before an activation, from the step's gradient after it.
fn activation(s: &BackwardStep, before: Tensor, a: Activation) -> Tensor {
    let inner = BackwardStep {
        trace: s.trace.clone(),
        op: Op::Composite(Composite::Activate(a)),
        y: s.y.clone(),
        dy: s.dy.clone(),
        needs: vec![true],
        x: vec![before],
    };
    inner.through_decomposition().into_iter().flatten().next().unwrap_or_else(|| s.trace.poison())
}

/// The loss through its backward composite; the log-sum-exp, when it is used, adds its share of the softmax.
fn cross_entropy(s: &BackwardStep, ignore: i32, label_smoothing: f32) -> Gradients {
    let (logits, labels, lse) = (&s.x[0], &s.x[1], &s.y[1]);
    let of_loss = s.dy[0].as_ref().map(|g| {
        let back = Op::Composite(Composite::CrossEntropyGrad { ignore, label_smoothing });
        s.trace.op(back, &[logits, labels, lse, g])
    });
    let of_lse = s.dy[1].as_ref().map(|g| {
        let x = wide(logits);
        let softmax = (&x - over_rows(lse, &x)).exp();
        (softmax * over_rows(g, &x)).cast(logits.dtype())
    });
    let both = of_loss.into_iter().chain(of_lse).reduce(|a, b| a + b);
    vec![both.filter(|_| s.needs[0]), None]
}

/// The backward composite knows neither pages nor a gradient of the log-sum-exp: those go through the
/// decomposition.
fn attention(s: &BackwardStep, spec: &AttentionSpec) -> Gradients {
    if spec.paged || s.dy[1].is_some() {
        return s.through_decomposition();
    }
    let g = s.g();
    let inputs: Vec<&Tensor> = s.x.iter().chain(&s.y).chain([&g]).collect();
    let mut gradients = vec![None; s.x.len()];
    let found = s.trace.ops(Op::Composite(Composite::AttentionGrad(spec.clone())), &inputs);
    gradients.iter_mut().zip(found).for_each(|(to, g)| *to = Some(g));
    gradients
}

/// Rotating back by the same angle; angles that are themselves differentiated go through the decomposition.
fn rope(s: &BackwardStep, interleaved: bool) -> Gradients {
    if s.needs[1] || s.needs[2] {
        return s.through_decomposition();
    }
    vec![Some(s.g().rope(&s.x[1], &s.x[2].neg(), interleaved)), None, None]
}
