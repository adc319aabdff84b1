//! Products of matrices.

use percept_graph::{DotSpec, Node, TensorType};

use super::builder::{Builder, Elem, Place};
use super::weight::{self, Part};
use super::{MICROSOFT, Values};
use crate::proto::AttributeProto;

/// A general product as one MatMul of [batch, free, contracted] and [batch, contracted, free].
pub fn dot(b: &mut Builder, values: &mut Values<'_>, node: &Node, spec: &DotSpec) -> Place {
    let out = values.graph.ty(node.outputs[0]).clone();
    let types = values.graph.types(&node.inputs);
    let (l, r) = (&types[0], &types[1]);
    if l.numel() == 0 || r.numel() == 0 {
        return super::reduce::filled(b, &out, 0.0);
    }
    let elem = Elem::of(l.dtype);
    let wide = elem.working();
    let x = values.whole(b, node.inputs[0]);
    let y = values.whole(b, node.inputs[1]);
    let (x, y) = (b.cast(&x, elem, wide), b.cast(&y, elem, wide));
    let free = |t: &TensorType, batch: &[usize], contract: &[usize]| -> Vec<usize> {
        (0..t.rank()).filter(|d| !batch.contains(d) && !contract.contains(d)).collect()
    };
    let extent = |t: &TensorType, axes: &[usize]| axes.iter().map(|&d| t.dims[d]).product::<usize>();
    let (lf, rf) =
        (free(l, &spec.lhs_batch, &spec.lhs_contract), free(r, &spec.rhs_batch, &spec.rhs_contract));
    let x = b.transpose(&x, &[&spec.lhs_batch[..], &lf, &spec.lhs_contract].concat());
    let y = b.transpose(&y, &[&spec.rhs_batch[..], &spec.rhs_contract, &rf].concat());
    let batch = extent(l, &spec.lhs_batch);
    let (rows, columns, k) = (extent(l, &lf), extent(r, &rf), extent(l, &spec.lhs_contract));
    // A single matrix on the right serves any number of rows; batches have a dimension of their own.
    let lead: &[usize] = if spec.lhs_batch.is_empty() { &[] } else { &[batch] };
    let arranged = |b: &mut Builder, name: &str, is: &[usize], wanted: Vec<usize>| {
        if is == wanted { name.to_string() } else { b.reshape(name, &wanted) }
    };
    let permuted = |t: &TensorType, axes: &[&[usize]]| -> Vec<usize> {
        axes.concat().iter().map(|&d| t.dims[d]).collect()
    };
    let is = permuted(l, &[&spec.lhs_batch, &lf, &spec.lhs_contract]);
    let x = arranged(b, &x, &is, [lead, &[rows, k]].concat());
    let is = permuted(r, &[&spec.rhs_batch, &spec.rhs_contract, &rf]);
    let y = arranged(b, &y, &is, [lead, &[k, columns]].concat());
    let z = b.op("MatMul", &[&x, &y]);
    let z = arranged(b, &z, &[lead, &[rows, columns]].concat(), out.dims.clone());
    Place::Whole(b.cast(&z, wide, Elem::of(out.dtype)))
}

/// x[..,k] w[n,k]^T for a dense weight, as f32. Where the product itself cannot transpose, the transpose of a constant
/// is made when the model is loaded, beside the weight.
pub fn linear(b: &mut Builder, x: &str, w: &str) -> String {
    if b.style.is_microsoft() {
        let attributes = vec![AttributeProto::int("transB", 1)];
        return b.ops(MICROSOFT, "FusedMatMul", &[x, w], attributes, 1).swap_remove(0);
    }
    let w = b.transpose(w, &[1, 0]);
    b.op("MatMul", &[x, &w])
}

/// The product with a quantized weight, in f32.
pub fn quantized_dot(b: &mut Builder, values: &mut Values<'_>, node: &Node, transposed: bool) -> Place {
    let ty = values.graph.ty(node.inputs[1]).clone();
    let dtype = values.graph.ty(node.inputs[0]).dtype;
    let Some((input, scheme)) = weight::quantized(values, node, 1) else { return Place::Missing };
    let elem = Elem::of(dtype);
    let x = values.whole(b, node.inputs[0]);
    let x = b.cast(&x, elem, Elem::F32);
    if transposed || !b.style.is_microsoft() {
        let w = b.weight(input, Part::Floats, &ty);
        let y = if transposed { b.op("MatMul", &[&x, &w]) } else { linear(b, &x, &w) };
        return Place::Whole(b.cast(&y, Elem::F32, elem));
    }
    let (n, k) = (ty.dims[0], ty.dims[1]);
    let int = |name: &str, v: usize| AttributeProto::int(name, v as i64);
    let product = |b: &mut Builder, operands: &[&str]| {
        let attributes = vec![
            int("K", k),
            int("N", n),
            int("bits", 4),
            int("block_size", scheme.group),
            // What is multiplied stays f32.
            int("accuracy_level", 1),
        ];
        b.ops(MICROSOFT, "MatMulNBits", operands, attributes, 1).swap_remove(0)
    };
    let (low, scales) = (b.weight(input, Part::Low, &ty), b.weight(input, Part::Scales, &ty));
    let mut y = if scheme.bits == 4 {
        product(b, &[&x, &low, &scales])
    } else {
        // The operator has fast kernels for 4 bits alone. A code counted from 128 is 16 times its high half
        // counted from 8, and its low half counted from 0.
        let (high, wide) = (b.weight(input, Part::High, &ty), b.weight(input, Part::HighScales, &ty));
        let zeros = n * (k / scheme.group).div_ceil(2);
        let zeros = b.constant(Elem::U8, &[n, zeros / n], vec![0; zeros]);
        let (high, low) = (product(b, &[&x, &high, &wide]), product(b, &[&x, &low, &scales, &zeros]));
        b.op("Add", &[&high, &low])
    };
    if scheme.offsets {
        // The offset of a group times the sum of what meets the group.
        let mut dims = values.graph.ty(node.inputs[0]).dims.clone();
        dims.pop();
        dims.extend([k / scheme.group, scheme.group]);
        let groups = b.reshape(&x, &dims);
        let sums = b.fold("ReduceSum", &groups, &[dims.len() - 1], false);
        let offsets = b.weight(input, Part::CentredOffsets, &ty);
        let more = b.op("MatMul", &[&sums, &offsets]);
        y = b.op("Add", &[&y, &more]);
    }
    Place::Whole(b.cast(&y, Elem::F32, elem))
}
