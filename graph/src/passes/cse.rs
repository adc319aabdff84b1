//! Common subexpression elimination: nodes with equal operations on equal operands become one. Barriers are
//! never merged, so what was set apart on purpose (a recomputation) stays apart.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::op::{Binary, Op};
use crate::passes::rewrite::Rewrite;
use crate::tensor_type::{Literal, LiteralData, TensorType};

/// Merge equal nodes; the first of them stays, with its path.
pub fn eliminate_common_subexpressions(graph: &Graph) -> Result<Graph> {
    let mut r = Rewrite::new(graph)?;
    // Old nodes by hash: an operation is compared in full only with those of its bucket.
    let mut seen: HashMap<u64, Vec<(usize, Vec<ValueId>)>> = HashMap::new();
    for (n, node) in graph.nodes().iter().enumerate() {
        if matches!(node.op, Op::Barrier | Op::Fused(_)) {
            r.copy(node)?;
            continue;
        }
        let mut operands = r.operands(node);
        if commutes(&node.op) {
            operands.sort_unstable();
        }
        let bucket = seen.entry(key(&node.op, &operands, graph.ty(node.outputs[0]))).or_default();
        let twin = bucket
            .iter()
            .find(|(m, on)| *on == operands && same(&graph.nodes()[*m].op, &node.op))
            .map(|t| t.0);
        match twin {
            Some(m) => {
                for (&old, &first) in node.outputs.iter().zip(&graph.nodes()[m].outputs) {
                    let v = r.get(first);
                    r.replace(old, v);
                }
            }
            None => {
                bucket.push((n, operands));
                r.copy(node)?;
            }
        }
    }
    r.finish()
}

/// Operations whose result does not depend on the operands' order, to the bit; max and min of zeros of both
/// signs may.
fn commutes(op: &Op) -> bool {
    matches!(op, Op::Binary(Binary::Add | Binary::Mul | Binary::And | Binary::Or | Binary::Xor))
}

fn key(op: &Op, operands: &[ValueId], result: &TensorType) -> u64 {
    let mut h = DefaultHasher::new();
    std::mem::discriminant(op).hash(&mut h);
    match op {
        Op::Unary(k) => k.hash(&mut h),
        Op::Binary(k) => k.hash(&mut h),
        Op::Compare(k) => k.hash(&mut h),
        Op::Composite(c) => std::mem::discriminant(c).hash(&mut h),
        Op::Constant(Literal { data: LiteralData::Splat(v), .. }) => v.to_bits().hash(&mut h),
        Op::Constant(Literal { data: LiteralData::Dense(b), .. }) => b.hash(&mut h),
        _ => {}
    }
    operands.hash(&mut h);
    result.hash(&mut h);
    h.finish()
}

/// Equal operations. Constants are compared by their bits: 0 and -0 are two constants.
fn same(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (Op::Constant(a), Op::Constant(b)) => {
            a.ty == b.ty
                && match (&a.data, &b.data) {
                    (LiteralData::Splat(a), LiteralData::Splat(b)) => a.to_bits() == b.to_bits(),
                    (LiteralData::Dense(a), LiteralData::Dense(b)) => a == b,
                    _ => false,
                }
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::assert_rewrites;

    #[test]
    fn equal_nodes_become_one() {
        assert_rewrites(
            eliminate_common_subexpressions,
            r#"graph "g"
            %0:f32[2] = input "x" data
            %1:f32[2] = input "y" data
            %2:f32[2] = binary(add) %0, %1  ; a
            %3:f32[2] = binary(add) %1, %0  ; b
            %4:f32[2] = binary(sub) %0, %1
            %5:f32[2] = binary(sub) %1, %0
            %6:f32[2], %7:i32[2] = sort(axis:0,descending:false,limit:2) %2
            %8:f32[2], %9:i32[2] = sort(axis:0,descending:false,limit:2) %3
            %10:i32[2] = binary(add) %7, %9
            output "s" %4
            output "t" %5
            output "u" %8
            output "v" %10"#,
            r#"graph "g"
            %0:f32[2] = input "x" data
            %1:f32[2] = input "y" data
            %2:f32[2] = binary(add) %0, %1  ; a
            %3:f32[2] = binary(sub) %0, %1
            %4:f32[2] = binary(sub) %1, %0
            %5:f32[2], %6:i32[2] = sort(axis:0,descending:false,limit:2) %2
            %7:i32[2] = binary(add) %6, %6
            output "s" %3
            output "t" %4
            output "u" %5
            output "v" %7"#,
        );
    }

    #[test]
    fn barriers_keep_copies_apart() {
        let text = r#"graph "g"
            %0:f32[2] = input "x" data
            %1:f32[2] = unary(exp) %0
            %2:f32[2] = barrier %0
            %3:f32[2] = unary(exp) %2
            %4:f32[2] = barrier %0
            %5:f32[2] = unary(exp) %4
            output "a" %1
            output "b" %3
            output "c" %5"#;
        assert_rewrites(eliminate_common_subexpressions, text, text);
    }

    #[test]
    fn zeros_of_both_signs_are_two_constants() {
        let text = r#"graph "g"
            %0:f32[2] = constant((ty:"f32[2]",splat:Some(0.0)))
            %1:f32[2] = constant((ty:"f32[2]",splat:Some(-0.0)))
            output "a" %0
            output "b" %1"#;
        assert_rewrites(eliminate_common_subexpressions, text, text);
    }
}
