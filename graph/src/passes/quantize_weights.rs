//! Quantized weights: parameters become block-quantized inputs, and what multiplies or looks up in them takes
//! them as they are. Values change by the quantization alone: the weight is dequantized exactly.

use std::collections::HashMap;
use std::sync::Arc;

use crate::composite::Composite;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Node, Role, ValueId};
use crate::op::{Binary, Op};
use crate::passes::rewrite::Rewrite;
use crate::tensor_type::TensorType;

/// Give float parameters the dtype that `to` answers for their name and type; `None` leaves one as it is.
///
/// A linear layer on a quantized weight becomes a quantized dot with its bias and activation after it, an
/// embedding looks up in the quantized table, and any other use reads the dequantized weight.
///
/// # Errors
/// When the weight's rows are not a whole number of blocks, or an output replaces the parameter.
pub fn quantize_weights(graph: &Graph, to: &dyn Fn(&str, &TensorType) -> Option<DType>) -> Result<Graph> {
    let rewrite = Rewrite::with_types(graph, |input, ty| match to(&input.name, ty) {
        Some(dtype) if input.role == Role::Parameter && ty.dtype.is_float() => ty.with_dtype(dtype),
        _ => ty.clone(),
    })?;
    let mut pass = Substitution { old: graph, rewrite, dense: HashMap::new() };
    for node in graph.nodes() {
        pass.node(node)?;
    }
    for o in graph.outputs() {
        if o.alias.is_none() {
            let dense = pass.dense(o.value, &"".into())?;
            pass.rewrite.replace(o.value, dense);
        }
    }
    pass.rewrite.finish()
}

struct Substitution<'g> {
    old: &'g Graph,
    rewrite: Rewrite<'g>,
    /// Dequantized weights by their old values.
    dense: HashMap<ValueId, ValueId>,
}

impl Substitution<'_> {
    fn quantized(&self, v: ValueId) -> bool {
        self.rewrite.graph().ty(self.rewrite.get(v)) != self.old.ty(v)
    }

    /// The counterpart of a value in its old dtype.
    fn dense(&mut self, v: ValueId, path: &Arc<str>) -> Result<ValueId> {
        if !self.quantized(v) {
            return Ok(self.rewrite.get(v));
        }
        if let Some(&dense) = self.dense.get(&v) {
            return Ok(dense);
        }
        let op = Op::Dequantize { to: self.old.ty(v).dtype };
        let dense = self.rewrite.add(op, &[self.rewrite.get(v)], path)?[0];
        self.dense.insert(v, dense);
        Ok(dense)
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        match &node.op {
            Op::Composite(Composite::Linear { act, .. }) if self.quantized(node.inputs[1]) => {
                let x = self.dense(node.inputs[0], &node.path)?;
                let w = self.rewrite.get(node.inputs[1]);
                let dot = Op::Composite(Composite::QuantizedDot { transposed: false });
                let mut y = self.rewrite.add(dot, &[x, w], &node.path)?[0];
                if let Some(&bias) = node.inputs.get(2) {
                    let bias = self.dense(bias, &node.path)?;
                    let dims = self.rewrite.graph().ty(y).dims.clone();
                    let axes = vec![dims.len() - 1];
                    let bias = self.rewrite.add(Op::Broadcast { dims, axes }, &[bias], &node.path)?[0];
                    y = self.rewrite.add(Op::Binary(Binary::Add), &[y, bias], &node.path)?[0];
                }
                if let Some(act) = act {
                    let act = Op::Composite(Composite::Activate(*act));
                    y = self.rewrite.add(act, &[y], &node.path)?[0];
                }
                self.rewrite.replace(node.outputs[0], y);
                Ok(())
            }
            Op::Composite(Composite::Embedding { .. }) if self.quantized(node.inputs[0]) => {
                self.rewrite.copy(node)
            }
            op => {
                let operands: Result<Vec<ValueId>> =
                    node.inputs.iter().map(|&v| self.dense(v, &node.path)).collect();
                let results = self.rewrite.add(op.clone(), &operands?, &node.path)?;
                node.outputs.iter().zip(results).for_each(|(&old, new)| self.rewrite.replace(old, new));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{assert_rewrites, graph};

    const BEFORE: &str = r#"graph "g"
        %0:f32[5,32] = input "embed.weight" parameter
        %1:f32[64,32] = input "up.weight" parameter
        %2:f32[64] = input "up.bias" parameter
        %3:f32[32] = input "norm.weight" parameter
        %4:i32[3] = input "ids" data
        %5:f32[3,32] = composite(embedding(out:f32)) %0, %4
        %6:f32[3,64] = composite(linear(bias:true,act:Some(silu))) %5, %1, %2  ; up
        %7:f32[64,32] = unary(abs) %1
        output "y" %6
        output "size" %7"#;

    fn matrices(name: &str, ty: &TensorType) -> Option<DType> {
        (name.ends_with(".weight") && ty.rank() == 2).then_some(DType::Q4_1)
    }

    #[test]
    fn linear_layers_and_tables_take_quantized_weights() {
        assert_rewrites(
            |g| quantize_weights(g, &matrices),
            BEFORE,
            r#"graph "g"
            %0:q4_1[5,32] = input "embed.weight" parameter
            %1:q4_1[64,32] = input "up.weight" parameter
            %2:f32[64] = input "up.bias" parameter
            %3:f32[32] = input "norm.weight" parameter
            %4:i32[3] = input "ids" data
            %5:f32[3,32] = composite(embedding(out:f32)) %0, %4
            %6:f32[3,64] = composite(quantized_dot(transposed:false)) %5, %1  ; up
            %7:f32[3,64] = broadcast(dims:[3,64],axes:[1]) %2  ; up
            %8:f32[3,64] = binary(add) %6, %7  ; up
            %9:f32[3,64] = composite(activate(silu)) %8  ; up
            %10:f32[64,32] = dequantize(to:f32) %1
            %11:f32[64,32] = unary(abs) %10
            output "y" %9
            output "size" %11"#,
        );
    }

    #[test]
    fn rows_that_are_no_whole_blocks_are_refused_by_name() {
        let g = graph(BEFORE);
        let e = quantize_weights(&g, &|name, _| (name == "up.weight").then_some(DType::Q4K)).unwrap_err();
        assert!(e.to_string().contains("up.weight") && e.to_string().contains("256"), "{e}");
    }
}
