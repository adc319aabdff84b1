//! Mixed precision: products, attention and the activations between them in f16 or bf16, everything else in
//! f32.
//!
//! Parameters stay f32 (they are the optimizer's masters) and are cast where a product reads them. Norms,
//! softmax, losses, reductions, sums of residuals and optimizers stay f32; products accumulate in f32 as they
//! always do, and keep f32 results where an f32 operation reads them. Data movement follows its operand.

use std::collections::HashMap;

use crate::composite::Composite;
use crate::dtype::DType;
use crate::error::{GraphError, Result};
use crate::graph::{Graph, Node, ValueId};
use crate::op::Op;
use crate::passes::rewrite::Rewrite;

/// Compute products in `half`, which is f16 or bf16. Scaling the loss against f16's range is the trainer's.
///
/// # Errors
/// When `half` is another dtype.
pub fn mixed_precision(graph: &Graph, half: DType) -> Result<Graph> {
    if !matches!(half, DType::F16 | DType::BF16) {
        return Err(GraphError {
            path: String::new(),
            op: "mixed precision".into(),
            operands: Vec::new(),
            why: format!("products are computed in f16 or bf16, not {half}"),
        });
    }
    let mut pass = Precision {
        old: graph,
        half,
        rewrite: Rewrite::new(graph)?,
        wide: HashMap::new(),
        narrow: HashMap::new(),
        read_wide: wide_reads(graph),
    };
    for input in graph.inputs() {
        pass.wide.insert(input.value, pass.rewrite.get(input.value));
    }
    for node in graph.nodes() {
        pass.node(node)?;
    }
    for o in graph.outputs() {
        let v = pass.wide(o.value)?;
        pass.rewrite.replace(o.value, v);
    }
    pass.rewrite.finish()
}

/// Operands of an operation that is computed in half precision, as a test of their index; `None` for the
/// others.
fn halved(op: &Op, operands: usize) -> Option<Box<dyn Fn(usize) -> bool>> {
    match op {
        Op::Dot(_) => Some(Box::new(|_| true)),
        Op::Composite(c) => match c {
            Composite::Linear { .. }
            | Composite::RaggedDot { .. }
            | Composite::Conv1d { .. }
            | Composite::Activate(_)
            | Composite::GatedActivate(_) => Some(Box::new(|_| true)),
            Composite::QuantizedDot { .. } | Composite::Rope { .. } => Some(Box::new(|i| i == 0)),
            Composite::Attention(_) => Some(Box::new(|i| i < 3)),
            // q, k, v, out and dout, but not the logarithms of the sums.
            Composite::AttentionGrad(_) => {
                Some(Box::new(move |i| i < 3 || i == operands - 3 || i == operands - 1))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Data movement, which is the same in every dtype.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Broadcast { .. }
            | Op::Slice { .. }
            | Op::DynamicSlice { .. }
            | Op::Barrier
    )
}

/// Values that an f32 operation or an output reads, through data movement or directly.
fn wide_reads(graph: &Graph) -> Vec<bool> {
    let mut wide = vec![false; graph.values().len()];
    graph.outputs().iter().for_each(|o| wide[o.value.index()] = true);
    for node in graph.nodes().iter().rev() {
        let half = halved(&node.op, node.inputs.len());
        for (i, v) in node.inputs.iter().enumerate() {
            wide[v.index()] |= match &half {
                Some(half) => !half(i),
                None if moves(&node.op) => wide[node.outputs[i.min(node.outputs.len() - 1)].index()],
                None => true,
            };
        }
    }
    wide
}

struct Precision<'g> {
    old: &'g Graph,
    half: DType,
    rewrite: Rewrite<'g>,
    /// Counterparts of old values in their own dtype.
    wide: HashMap<ValueId, ValueId>,
    /// Counterparts of f32 values in half precision.
    narrow: HashMap<ValueId, ValueId>,
    read_wide: Vec<bool>,
}

impl Precision<'_> {
    fn is_f32(&self, v: ValueId) -> bool {
        self.old.ty(v).dtype == DType::F32
    }

    fn path(&self, v: ValueId) -> std::sync::Arc<str> {
        self.old.producer(v).map_or_else(|| "".into(), |n| n.path.clone())
    }

    fn wide(&mut self, v: ValueId) -> Result<ValueId> {
        if let Some(&wide) = self.wide.get(&v) {
            return Ok(wide);
        }
        let wide = self.rewrite.add(Op::Cast { to: DType::F32 }, &[self.narrow[&v]], &self.path(v))?[0];
        self.wide.insert(v, wide);
        Ok(wide)
    }

    fn narrow(&mut self, v: ValueId) -> Result<ValueId> {
        if let Some(&narrow) = self.narrow.get(&v) {
            return Ok(narrow);
        }
        let narrow = self.rewrite.add(Op::Cast { to: self.half }, &[self.wide[&v]], &self.path(v))?[0];
        self.narrow.insert(v, narrow);
        Ok(narrow)
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        let half = halved(&node.op, node.inputs.len());
        let any_f32 = node.inputs.iter().any(|&v| self.is_f32(v));
        let mut op = node.op.clone();
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (i, &v) in node.inputs.iter().enumerate() {
            let narrow = match &half {
                Some(half) => half(i),
                None => moves(&node.op) && !self.wide.contains_key(&v),
            };
            inputs.push(if narrow && self.is_f32(v) { self.narrow(v)? } else { self.wide(v)? });
        }
        if let (Op::Dot(spec), true) = (&mut op, any_f32) {
            spec.out = if self.read_wide[node.outputs[0].index()] { DType::F32 } else { self.half };
        }
        let results = self.rewrite.add(op, &inputs, &node.path)?;
        for (&old, new) in node.outputs.iter().zip(results) {
            let changed = self.rewrite.graph().ty(new).dtype != self.old.ty(old).dtype;
            if changed {
                self.narrow.insert(old, new)
            } else {
                self.wide.insert(old, new)
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::assert_rewrites;
    use crate::reference::{ExactTensor, evaluate_exact};
    use crate::{Activation, Trace, grad};

    #[test]
    fn products_are_half_and_masters_norms_and_outputs_are_not() {
        assert_rewrites(
            |g| mixed_precision(g, DType::BF16),
            r#"graph "g"
            %0:f32[2,4] = input "x" data
            %1:f32[4] = input "norm" parameter
            %2:f32[4,4] = input "up" parameter
            %3:f32[2,4] = composite(rms_norm(eps:1e-6,unit_offset:false)) %0, %1  ; norm
            %4:f32[2,4] = composite(linear(bias:false,act:None)) %3, %2  ; up
            %5:f32[4,2] = transpose(perm:[1,0]) %4  ; flip
            %6:f32[2,2] = dot((lhs_batch:[],rhs_batch:[],lhs_contract:[1],rhs_contract:[0],accum:f32,out:f32)) %4, %5
            %7:f32[2,2] = dot((lhs_batch:[],rhs_batch:[],lhs_contract:[1],rhs_contract:[0],accum:f32,out:f32)) %6, %6
            %8:f32[2,4] = binary(add) %0, %4
            output "y" %8
            output "z" %7"#,
            r#"graph "g"
            %0:f32[2,4] = input "x" data
            %1:f32[4] = input "norm" parameter
            %2:f32[4,4] = input "up" parameter
            %3:f32[2,4] = composite(rms_norm(eps:1e-6,unit_offset:false)) %0, %1  ; norm
            %4:bf16[2,4] = cast(to:bf16) %3  ; norm
            %5:bf16[4,4] = cast(to:bf16) %2
            %6:bf16[2,4] = composite(linear(bias:false,act:None)) %4, %5  ; up
            %7:bf16[4,2] = transpose(perm:[1,0]) %6  ; flip
            %8:bf16[2,2] = dot((lhs_batch:[],rhs_batch:[],lhs_contract:[1],rhs_contract:[0],accum:f32,out:bf16)) %6, %7
            %9:f32[2,2] = dot((lhs_batch:[],rhs_batch:[],lhs_contract:[1],rhs_contract:[0],accum:f32,out:f32)) %8, %8
            %10:f32[2,4] = cast(to:f32) %6  ; up
            %11:f32[2,4] = binary(add) %0, %10
            output "y" %11
            output "z" %9"#,
        );
    }

    #[test]
    fn other_dtypes_are_refused() {
        let e = mixed_precision(&Graph::new("g"), DType::F32).unwrap_err();
        assert!(e.to_string().contains("f16 or bf16"), "{e}");
    }

    #[test]
    fn losses_and_gradients_are_near_those_of_f32() {
        let t = Trace::new("mlp");
        let x = t.data("x", DType::F32, [4, 8]);
        let labels = t.data("labels", DType::I32, [4]);
        let up = t.parameter("up", DType::F32, [16, 8]);
        let norm = t.parameter("norm", DType::F32, [16]);
        let down = t.parameter("down", DType::F32, [5, 16]);
        let h = x.linear(&up, None, Some(Activation::Silu)).rms_norm(&norm, 1e-6);
        let loss = h.linear(&down, None, None).cross_entropy(&labels, -1, 0.0).mean([0]);
        t.output("loss", &loss);
        for (name, g) in ["up", "norm", "down"].iter().zip(grad(&loss, &[&up, &norm, &down])) {
            t.output(*name, &g);
        }
        let g = t.finish().unwrap();
        let inputs: Vec<ExactTensor> = g
            .inputs()
            .iter()
            .map(|i| {
                let ty = g.ty(i.value).clone();
                let value = |e: usize| match ty.dtype {
                    DType::I32 => (e % 5) as f64,
                    _ => ((e * 7 + i.name.len()) % 11) as f64 / 11.0 - 0.4,
                };
                ExactTensor { values: (0..ty.numel()).map(value).collect(), ty }
            })
            .collect();
        let run = |g: &Graph| evaluate_exact(g, &inputs, 1 << 20).unwrap();
        let half = mixed_precision(&g, DType::BF16).unwrap();
        for ((exact, rough), o) in run(&g).iter().zip(run(&half)).zip(g.outputs()) {
            assert_eq!(exact.ty, rough.ty);
            let size = exact.values.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
            let error =
                exact.values.iter().zip(&rough.values).fold(0.0, |a: f64, (x, y)| a.max((x - y).abs()));
            assert!(error > 0.0 && error < 0.02 * size, "{}: {error} of {size}", o.name);
        }
    }
}
