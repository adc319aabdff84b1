//! Folding: operations on constants are computed, and operations that change nothing go.
//!
//! Only identities that hold for every value are used: x + 0 is not x when x is -0, but x + -0 is. Constants
//! are computed in f64 by the reference and rounded to f32 and then to their dtype, as a device computes
//! them.

use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Role, ValueId};
use crate::op::{Binary, Op};
use crate::passes::rewrite::Rewrite;
use crate::reference::{ExactTensor, evaluate_exact};
use crate::tensor_type::{Literal, LiteralData, TensorType, round_to};
use crate::unary::Unary;

/// Constants that are not the same everywhere are computed up to this many elements.
const MAX_ELEMENTS: usize = 1024;

/// Compute constants and drop identities. Nothing is looked up through a barrier.
pub fn fold(graph: &Graph) -> Result<Graph> {
    let mut r = Rewrite::new(graph)?;
    for node in graph.nodes() {
        let ty = graph.ty(node.outputs[0]);
        let Some(mut form) = simpler(r.graph(), &node.op, &r.operands(node), ty) else {
            r.copy(node)?;
            continue;
        };
        let value = loop {
            match form {
                Form::Value(v) => break v,
                Form::Op(op, inputs) => match simpler(r.graph(), &op, &inputs, ty) {
                    Some(next) => form = next,
                    None => break r.add(op, &inputs, &node.path)?[0],
                },
            }
        };
        r.replace(node.outputs[0], value);
    }
    r.finish()
}

/// What an operation with one result can be replaced by.
enum Form {
    /// A value that exists.
    Value(ValueId),
    /// Another operation, which may be simpler still.
    Op(Op, Vec<ValueId>),
}

fn simpler(g: &Graph, op: &Op, x: &[ValueId], ty: &TensorType) -> Option<Form> {
    if matches!(op, Op::Barrier | Op::Constant(_) | Op::Iota { .. } | Op::Composite(_) | Op::Fused(_)) {
        return None;
    }
    if let Some(literal) = constant(g, op, x, ty) {
        return Some(Form::Op(Op::Constant(literal), Vec::new()));
    }
    match op {
        Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast { .. } | Op::Bitcast { .. } => {
            elementwise(g, op, x, ty)
        }
        _ => movement(g, op, x, ty),
    }
}

fn literal(g: &Graph, v: ValueId) -> Option<&Literal> {
    match &g.producer(v)?.op {
        Op::Constant(literal) => Some(literal),
        _ => None,
    }
}

fn splat(g: &Graph, v: ValueId) -> Option<f64> {
    literal(g, v)?.as_splat()
}

/// The operation that makes a value, if it is of the kind requested, and its first operand.
fn made_by<'g, T>(g: &'g Graph, v: ValueId, kind: impl Fn(&'g Op) -> Option<T>) -> Option<(T, ValueId)> {
    let node = g.producer(v)?;
    Some((kind(&node.op)?, *node.inputs.first()?))
}

/// The result of an operation on constants alone.
fn constant(g: &Graph, op: &Op, x: &[ValueId], ty: &TensorType) -> Option<Literal> {
    let operands: Vec<&Literal> = x.iter().map(|&v| literal(g, v)).collect::<Option<_>>()?;
    let splats: Option<Vec<f64>> = operands.iter().map(|l| l.as_splat()).collect();
    let small = ty.numel() <= MAX_ELEMENTS && operands.iter().all(|l| l.ty.numel() <= MAX_ELEMENTS);
    match (op, splats) {
        (Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. }, Some(s)) => {
            Some(Literal { ty: ty.clone(), data: LiteralData::Splat(s[0]) })
        }
        // Repeated inside the regions that read it, it need not be stored.
        (Op::Broadcast { .. }, None) => None,
        (op, Some(s)) if op.is_elementwise() => {
            let scalars: Vec<ExactTensor> = operands
                .iter()
                .zip(s)
                .map(|(l, v)| ExactTensor { ty: TensorType::new(l.ty.dtype, []), values: vec![v] })
                .collect();
            let value = *compute(op, &scalars)?.first()?;
            let stored = stored(op, ty.dtype, value)?;
            Some(Literal { ty: ty.clone(), data: LiteralData::Splat(stored) })
        }
        _ if small => {
            let tensors: Vec<ExactTensor> =
                operands.iter().map(|l| ExactTensor { ty: l.ty.clone(), values: l.values() }).collect();
            let values = compute(op, &tensors)?;
            let stored: Option<Vec<f64>> = values.iter().map(|&v| stored(op, ty.dtype, v)).collect();
            Literal::dense(ty.clone(), &stored?)
        }
        _ => None,
    }
}

/// The first result of an operation.
fn compute(op: &Op, operands: &[ExactTensor]) -> Option<Vec<f64>> {
    let mut g = Graph::new("constant");
    let mut inputs = Vec::new();
    for (i, t) in operands.iter().enumerate() {
        inputs.push(g.add_input(i.to_string(), Role::Data, t.ty.clone()).ok()?);
    }
    let results = g.add(op.clone(), &inputs, &"".into()).ok()?;
    if results.len() != 1 {
        return None;
    }
    g.add_output("0", results[0], None).ok()?;
    let limit = 4 * MAX_ELEMENTS;
    evaluate_exact(&g, operands, limit).ok()?.pop().map(|t| t.values)
}

/// A computed value as a device stores it; `None` where the bits of a NaN matter.
fn stored(op: &Op, dtype: DType, v: f64) -> Option<f64> {
    if matches!(op, Op::Bitcast { .. }) && v.is_nan() {
        return None;
    }
    Some(if dtype.is_float() { round_to(dtype, round_to(DType::F32, v)) } else { v })
}

fn elementwise(g: &Graph, op: &Op, x: &[ValueId], ty: &TensorType) -> Option<Form> {
    let value = |v: ValueId| Some(Form::Value(v));
    match op {
        Op::Unary(kind) => {
            let (inner, base) = made_by(g, x[0], |op| match op {
                Op::Unary(kind) => Some(*kind),
                _ => None,
            })?;
            match (kind, inner) {
                (Unary::Neg, Unary::Neg) | (Unary::Not, Unary::Not) => value(base),
                (Unary::Abs, Unary::Abs) => value(x[0]),
                (Unary::Abs, Unary::Neg) => Some(Form::Op(op.clone(), vec![base])),
                _ => None,
            }
        }
        Op::Binary(kind) => {
            if let Some(c) = splat(g, x[1]) {
                if right_identity(*kind, ty.dtype, c) {
                    return value(x[0]);
                }
                if absorbs(*kind, ty.dtype, c) {
                    return value(x[1]);
                }
            }
            let c = splat(g, x[0])?;
            let commutes = matches!(kind, Binary::Add | Binary::Mul | Binary::And | Binary::Or | Binary::Xor);
            if commutes && right_identity(*kind, ty.dtype, c) {
                return value(x[1]);
            }
            if commutes && absorbs(*kind, ty.dtype, c) { value(x[0]) } else { None }
        }
        Op::Select if x[1] == x[2] => value(x[1]),
        Op::Select => splat(g, x[0]).and_then(|p| value(if p != 0.0 { x[1] } else { x[2] })),
        Op::Cast { to } if g.ty(x[0]).dtype == *to => value(x[0]),
        Op::Bitcast { to } if g.ty(x[0]).dtype == *to => value(x[0]),
        Op::Cast { .. } => {
            let (_, base) = made_by(g, x[0], |op| matches!(op, Op::Cast { .. }).then_some(()))?;
            widens(g.ty(base).dtype, g.ty(x[0]).dtype).then(|| Form::Op(op.clone(), vec![base]))
        }
        Op::Bitcast { .. } => {
            let (_, base) = made_by(g, x[0], |op| matches!(op, Op::Bitcast { .. }).then_some(()))?;
            Some(Form::Op(op.clone(), vec![base]))
        }
        _ => None,
    }
}

/// `x kind c` is x, whatever x is.
fn right_identity(kind: Binary, dtype: DType, c: f64) -> bool {
    let negative_zero = c == 0.0 && c.is_sign_negative();
    match (kind, dtype.is_float()) {
        (Binary::Mul | Binary::Div, _) => c == 1.0,
        (Binary::Pow, true) => c == 1.0,
        (Binary::Add, true) => negative_zero,
        (Binary::Sub, true) => c == 0.0 && !negative_zero,
        (Binary::Add | Binary::Sub | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr, false) => c == 0.0,
        (Binary::And, false) => match dtype {
            DType::Bool => c != 0.0,
            DType::I32 => c == -1.0,
            _ => c == u32::MAX as f64,
        },
        _ => false,
    }
}

/// `x kind c` is c, whatever x is; never so for floats, where x may be NaN.
fn absorbs(kind: Binary, dtype: DType, c: f64) -> bool {
    match kind {
        Binary::Mul => dtype.is_int() && c == 0.0,
        Binary::And => c == 0.0,
        Binary::Or => dtype == DType::Bool && c != 0.0,
        _ => false,
    }
}

/// Every value of the one dtype is a value of the other, so that a cast through it is a direct cast.
fn widens(from: DType, to: DType) -> bool {
    match from {
        DType::F16 | DType::BF16 => to == DType::F32,
        DType::U8 => to.is_float() || to.is_int(),
        DType::Bool => true,
        _ => false,
    }
}

fn movement(g: &Graph, op: &Op, x: &[ValueId], ty: &TensorType) -> Option<Form> {
    let from = g.ty(*x.first()?);
    let same = from == ty;
    let value = |v: ValueId| Some(Form::Value(v));
    let reshape = || Some(Form::Op(Op::Reshape { dims: ty.dims.clone() }, vec![x[0]]));
    match op {
        Op::Reshape { .. } if same => value(x[0]),
        Op::Reshape { .. } => {
            let (_, base) = made_by(g, x[0], |op| matches!(op, Op::Reshape { .. }).then_some(()))?;
            Some(Form::Op(op.clone(), vec![base]))
        }
        Op::Transpose { perm } if perm.is_sorted() => value(x[0]),
        // Moving dimensions of extent 1 moves nothing in memory.
        Op::Transpose { perm } if perm.iter().filter(|&&p| from.dims[p] != 1).is_sorted() => reshape(),
        Op::Transpose { perm } => {
            let (first, base) = made_by(g, x[0], |op| match op {
                Op::Transpose { perm } => Some(perm),
                _ => None,
            })?;
            let perm = perm.iter().map(|&p| first[p]).collect();
            Some(Form::Op(Op::Transpose { perm }, vec![base]))
        }
        Op::Broadcast { .. } if same => value(x[0]),
        Op::Broadcast { .. } if from.numel() == ty.numel() => reshape(),
        Op::Broadcast { dims, axes } => {
            let (first, base) = made_by(g, x[0], |op| match op {
                Op::Broadcast { axes, .. } => Some(axes),
                _ => None,
            })?;
            let axes = first.iter().map(|&a| axes[a]).collect();
            Some(Form::Op(Op::Broadcast { dims: dims.clone(), axes }, vec![base]))
        }
        Op::Slice { stride, .. } if same && stride.iter().all(|&s| s == 1) => value(x[0]),
        Op::Slice { start, stride, .. } => {
            let ((start1, stride1), base) = made_by(g, x[0], |op| match op {
                Op::Slice { start, stride, .. } => Some((start, stride)),
                _ => None,
            })?;
            let each = 0..start.len();
            let start: Vec<usize> = each.clone().map(|i| start1[i] + start[i] * stride1[i]).collect();
            let stride: Vec<usize> = each.clone().map(|i| stride1[i].saturating_mul(stride[i])).collect();
            let end = |i: usize| match ty.dims[i] {
                0 => start[i],
                n => start[i] + (n - 1) * stride[i] + 1,
            };
            let limit: Vec<usize> = each.map(end).collect();
            // An empty slice may begin past the last element; it stays as it was written.
            let fits = limit.iter().zip(&g.ty(base).dims).all(|(l, d)| l <= d);
            fits.then(|| Form::Op(Op::Slice { start, limit, stride }, vec![base]))
        }
        Op::Concat { .. } if x.len() == 1 => value(x[0]),
        Op::Pad { .. } | Op::DynamicSlice { .. } if same => value(x[0]),
        Op::DynamicUpdateSlice if g.ty(x[1]) == ty => value(x[1]),
        Op::Reduce { axes, .. } if axes.is_empty() => value(x[0]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{assert_rewrites, assert_same_values, graph};

    #[test]
    fn constants_are_computed() {
        assert_rewrites(
            |g| crate::passes::eliminate_dead_code(&fold(g)?),
            r#"graph "g"
            %0:f32[] = constant((ty:"f32[]",splat:Some(0.1)))
            %1:f32[2,3] = broadcast(dims:[2,3],axes:[]) %0
            %2:f32[2,3] = binary(add) %1, %1
            %3:i32[3] = constant((ty:"i32[3]",data:Some([1,2,3])))
            %4:i32[3] = binary(mul) %3, %3
            %5:bf16[2,3] = cast(to:bf16) %2
            output "a" %2
            output "b" %4
            output "c" %5"#,
            r#"graph "g"
            %0:f32[2,3] = constant((ty:"f32[2,3]",splat:Some(0.20000000298023224)))
            %1:i32[3] = constant((ty:"i32[3]",data:Some([1.0,4.0,9.0])))
            %2:bf16[2,3] = constant((ty:"bf16[2,3]",splat:Some(0.2001953125)))
            output "a" %0
            output "b" %1
            output "c" %2"#,
        );
    }

    #[test]
    fn only_exact_identities_go() {
        assert_rewrites(
            |g| crate::passes::eliminate_dead_code(&fold(g)?),
            r#"graph "g"
            %0:f32[2] = input "x" data
            %1:i32[2] = input "i" data
            %2:f32[2] = constant((ty:"f32[2]",splat:Some(0.0)))
            %3:f32[2] = constant((ty:"f32[2]",splat:Some(-0.0)))
            %4:f32[2] = constant((ty:"f32[2]",splat:Some(1.0)))
            %5:i32[2] = constant((ty:"i32[2]",splat:Some(0.0)))
            %6:f32[2] = binary(add) %0, %2
            %7:f32[2] = binary(add) %3, %6
            %8:f32[2] = binary(mul) %7, %4
            %9:f32[2] = binary(mul) %8, %2
            %10:f32[2] = binary(sub) %9, %2
            %11:f32[2] = binary(sub) %10, %3
            %12:i32[2] = binary(add) %5, %1
            %13:i32[2] = binary(mul) %12, %5
            output "floats" %11
            output "sum" %12
            output "product" %13"#,
            r#"graph "g"
            %0:f32[2] = input "x" data
            %1:i32[2] = input "i" data
            %2:f32[2] = constant((ty:"f32[2]",splat:Some(0.0)))
            %3:f32[2] = constant((ty:"f32[2]",splat:Some(-0.0)))
            %4:i32[2] = constant((ty:"i32[2]",splat:Some(0.0)))
            %5:f32[2] = binary(add) %0, %2
            %6:f32[2] = binary(mul) %5, %2
            %7:f32[2] = binary(sub) %6, %3
            output "floats" %7
            output "sum" %1
            output "product" %4"#,
        );
    }

    #[test]
    fn movements_that_meet_become_one() {
        assert_rewrites(
            |g| crate::passes::eliminate_dead_code(&fold(g)?),
            r#"graph "g"
            %0:f32[2,1,6] = input "x" data
            %1:f32[1,2,6] = transpose(perm:[1,0,2]) %0
            %2:f32[12] = reshape(dims:[12]) %1
            %3:f32[12] = slice(start:[0],limit:[12],stride:[1]) %2
            %4:f32[5] = slice(start:[1],limit:[10],stride:[2]) %3
            %5:f32[2] = slice(start:[1],limit:[5],stride:[2]) %4
            %6:f32[6,2,1] = transpose(perm:[2,0,1]) %0
            %7:f32[6,1,2] = transpose(perm:[0,2,1]) %6
            %8:f32[2,4] = broadcast(dims:[2,4],axes:[0]) %5
            %9:f32[3,2,4] = broadcast(dims:[3,2,4],axes:[1,2]) %8
            output "a" %7
            output "b" %9"#,
            r#"graph "g"
            %0:f32[2,1,6] = input "x" data
            %1:f32[12] = reshape(dims:[12]) %0
            %2:f32[2] = slice(start:[3],limit:[8],stride:[4]) %1
            %3:f32[6,2,1] = transpose(perm:[2,0,1]) %0
            %4:f32[6,1,2] = reshape(dims:[6,1,2]) %3
            %5:f32[3,2,4] = broadcast(dims:[3,2,4],axes:[1]) %2
            output "a" %4
            output "b" %5"#,
        );
    }

    #[test]
    fn widening_casts_are_looked_through_and_rounding_ones_stay() {
        assert_rewrites(
            |g| crate::passes::eliminate_dead_code(&fold(g)?),
            r#"graph "g"
            %0:bf16[2] = input "x" data
            %1:f32[2] = input "y" data
            %2:f32[2] = cast(to:f32) %0
            %3:bf16[2] = cast(to:bf16) %2
            %4:f16[2] = cast(to:f16) %2
            %5:bf16[2] = cast(to:bf16) %1
            %6:f32[2] = cast(to:f32) %5
            output "a" %3
            output "b" %4
            output "c" %6"#,
            r#"graph "g"
            %0:bf16[2] = input "x" data
            %1:f32[2] = input "y" data
            %2:f16[2] = cast(to:f16) %0
            %3:bf16[2] = cast(to:bf16) %1
            %4:f32[2] = cast(to:f32) %3
            output "a" %0
            output "b" %2
            output "c" %4"#,
        );
    }

    #[test]
    fn barriers_are_not_looked_through() {
        let text = r#"graph "g"
            %0:f32[2] = constant((ty:"f32[2]",splat:Some(1.0)))
            %1:f32[2] = barrier %0
            %2:f32[2] = binary(mul) %1, %1
            output "y" %2"#;
        assert_rewrites(fold, text, text);
    }

    #[test]
    fn the_bits_of_a_nan_survive() {
        let text = r#"graph "g"
            %0:i32[1] = constant((ty:"i32[1]",splat:Some(2141192193.0)))
            %1:f32[1] = bitcast(to:f32) %0
            output "y" %1"#;
        assert_rewrites(fold, text, text);
        let g = graph(text);
        assert_same_values(&g, &fold(&g).unwrap(), 0);
    }
}
