//! Integer products: what is multiplied by a quantized weight is rounded to int8 on the way.

use crate::composite::Composite;
use crate::error::Result;
use crate::graph::Graph;
use crate::op::Op;
use crate::passes::rewrite::Rewrite;

/// Make every quantized dot an integer one ([`Composite::Int8Dot`], which says how far results may move).
///
/// # Errors
/// Never on a valid graph.
pub fn int8_dots(graph: &Graph) -> Result<Graph> {
    let mut rewrite = Rewrite::new(graph)?;
    for node in graph.nodes() {
        match node.op {
            Op::Composite(Composite::QuantizedDot { transposed: false }) => {
                let inputs = [rewrite.get(node.inputs[0]), rewrite.get(node.inputs[1])];
                let y = rewrite.add(Op::Composite(Composite::Int8Dot), &inputs, &node.path)?[0];
                rewrite.replace(node.outputs[0], y);
            }
            _ => rewrite.copy(node)?,
        }
    }
    rewrite.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::assert_rewrites;

    #[test]
    fn products_with_quantized_weights_become_integer_ones() {
        assert_rewrites(
            int8_dots,
            r#"graph "g"
            %0:q4_1[64,32] = input "up.weight" parameter
            %1:f32[8,64] = input "down.weight" parameter
            %2:f32[3,32] = input "x" data
            %3:f32[3,64] = composite(quantized_dot(transposed:false)) %2, %0  ; up
            %4:f32[3,8] = composite(linear(bias:false,act:None)) %3, %1  ; down
            %5:f32[3,32] = composite(quantized_dot(transposed:true)) %3, %0
            output "y" %4
            output "dx" %5"#,
            r#"graph "g"
            %0:q4_1[64,32] = input "up.weight" parameter
            %1:f32[8,64] = input "down.weight" parameter
            %2:f32[3,32] = input "x" data
            %3:f32[3,64] = composite(int8_dot) %2, %0  ; up
            %4:f32[3,8] = composite(linear(bias:false,act:None)) %3, %1  ; down
            %5:f32[3,32] = composite(quantized_dot(transposed:true)) %3, %0
            output "y" %4
            output "dx" %5"#,
        );
    }
}
