//! Ops that move elements: fills, strided copies, pad, concat and dynamic slices.

use percept_graph::{DType, Literal, OpDesc, TensorType};

use crate::caps::Caps;
use crate::elementwise::{Operand, Region, broadcast_operand};
use crate::geometry::{Views, count, strides};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::storage::{scalar, storage_bytes};

/// The same value in every element.
pub(crate) fn constant(literal: &Literal, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let value = literal
        .as_splat()
        .ok_or_else(|| Unsupported::new("a constant of many values is uploaded, not computed"))?;
    let ty = &literal.ty;
    region("fill", ty, Vec::new(), vec![(ty.dtype, value)], "p.c0".into()).program(caps)
}

/// 0, 1, 2 .. along one axis.
pub(crate) fn iota(ty: &TensorType, axis: usize, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let mut along = vec![0; ty.rank()];
    along[axis] = 1;
    let counter = Operand { slot: None, dtype: DType::U32, strides: along, offset: 0 };
    let value = match scalar(ty.dtype)? {
        "u32" => "a0".to_string(),
        other => format!("{other}(a0)"),
    };
    region("iota", ty, vec![counter], Vec::new(), value).program(caps)
}

/// The operand read through strides: reshape, transpose, broadcast, slice and barrier.
pub(crate) fn copy(operand: Operand, out: &TensorType, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    region("copy", out, vec![operand], Vec::new(), "a0".into()).program(caps)
}

fn region(
    name: &'static str,
    out: &TensorType,
    operands: Vec<Operand>,
    constants: Vec<(DType, f64)>,
    value: String,
) -> Region {
    let results = vec![(Slot::Output(0), out.dtype, value)];
    Region { name, dims: out.dims.clone(), operands, constants, statements: String::new(), results }
}

/// `n` elements of one buffer in another dtype, from one buffer to another.
pub(crate) fn cast(
    from: Slot,
    from_dtype: DType,
    to: Slot,
    to_dtype: DType,
    n: usize,
    caps: &Caps,
) -> Result<Option<crate::Launch>, Unsupported> {
    let source = Operand::dense(from, &TensorType::new(from_dtype, [n]));
    let mut copy = region("cast", &TensorType::new(to_dtype, [n]), vec![source], Vec::new(), "a0".into());
    copy.results[0].0 = to;
    copy.launch(caps)
}

/// The elements in order.
pub(crate) fn reshape(desc: &OpDesc<'_>, at: usize, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let out = &desc.outputs[at];
    copy(Operand::dense(Slot::Input(at), &TensorType::new(out.dtype, out.dims.clone())), out, caps)
}

/// Identity on every operand.
pub(crate) fn barrier(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let mut program = KernelProgram::default();
    for (i, ty) in desc.inputs.iter().enumerate() {
        let mut copy = region("copy", ty, vec![Operand::dense(Slot::Input(i), ty)], Vec::new(), "a0".into());
        copy.results[0].0 = Slot::Output(i);
        program.launches.extend(copy.launch(caps)?);
    }
    Ok(program)
}

/// (x[b,c,s1..sn]) -> [b, prod(si/pi), c prod(pi)]: patches in row-major order, channel first within a patch.
pub(crate) fn patchify(
    desc: &OpDesc<'_>,
    patch: &[usize],
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    count(&x.dims)?;
    let dense = strides(&x.dims);
    let space = || patch.iter().enumerate().map(|(i, &p)| (x.dims[i + 2], p, dense[i + 2]));
    let counts = space().map(|(extent, p, stride)| (extent / p, stride * p as i64));
    let within = space().map(|(_, p, stride)| (p, stride));
    let batch = std::iter::once((x.dims[0], dense[0]));
    let (dims, strides): (Vec<_>, Vec<_>) =
        batch.chain(counts).chain([(x.dims[1], dense[1])]).chain(within).unzip();
    let patches = Operand { slot: Some(Slot::Input(0)), dtype: x.dtype, strides, offset: 0 };
    copy(patches, &TensorType::new(y.dtype, dims), caps)
}

/// Result dimension i is operand dimension `perm[i]`.
pub(crate) fn transpose(
    desc: &OpDesc<'_>,
    perm: &[usize],
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let x = &desc.inputs[0];
    let dense = strides(&x.dims);
    let strides = perm.iter().map(|&d| dense[d]).collect();
    copy(Operand { slot: Some(Slot::Input(0)), dtype: x.dtype, strides, offset: 0 }, &desc.outputs[0], caps)
}

/// StableHLO's broadcast_in_dim.
pub(crate) fn broadcast(
    desc: &OpDesc<'_>,
    axes: &[usize],
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let out = &desc.outputs[0];
    copy(broadcast_operand(Slot::Input(0), &desc.inputs[0], axes, &out.dims), out, caps)
}

/// Every `stride`-th element from `start` on.
pub(crate) fn slice(
    desc: &OpDesc<'_>,
    start: &[usize],
    stride: &[usize],
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let x = &desc.inputs[0];
    count(&x.dims)?;
    let dense = strides(&x.dims);
    let offset = start.iter().zip(&dense).map(|(&s, &d)| s as i64 * d).sum();
    let strides = stride.iter().zip(&dense).map(|(&s, &d)| s as i64 * d).collect();
    copy(Operand { slot: Some(Slot::Input(0)), dtype: x.dtype, strides, offset }, &desc.outputs[0], caps)
}

/// Element (c0, c1, ..) is operand element ((c - low) / (interior + 1)) where that is whole and inside, else
/// the value.
pub(crate) fn pad(
    desc: &OpDesc<'_>,
    low: &[usize],
    interior: &[usize],
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let n = count(&y.dims)?;
    count(&x.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    let mut find = String::new();
    let dense = strides(&x.dims);
    let mut k = Kernel::new("pad", include_str!("pad.wgsl"));
    k.input("x", Slot::Input(0), x.dtype)?.input("fill", Slot::Input(1), x.dtype)?;
    for d in (0..y.rank()).rev() {
        k.param(&format!("out{d}"), y.dims[d]).param(&format!("in{d}"), x.dims[d]);
        k.param(&format!("low{d}"), low[d]).param(&format!("step{d}"), interior[d].saturating_add(1));
        k.param(&format!("stride{d}"), dense[d] as usize);
        find += &format!(
            "    {{\n        let c = rest % p.out{d} - p.low{d};\n        rest = rest / p.out{d};\n        \
             inside = inside && c < p.in{d} * p.step{d} && c % p.step{d} == 0u;\n        \
             at += (c / p.step{d}) * p.stride{d};\n    }}\n"
        );
    }
    k.tag(&format!("rank{}", y.rank()));
    k.set("FIND", &find).set("T", scalar(x.dtype)?);
    k.output("y", Slot::Output(0), y.dtype)?;
    Ok(KernelProgram { launches: vec![k.map(y.dtype, n, caps)?], ..KernelProgram::default() })
}

/// Operands joined along an axis. A launch joins as many as the adapter can bind; the rest follows pairwise.
pub(crate) fn concat(desc: &OpDesc<'_>, axis: usize, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let y = &desc.outputs[0];
    let mut program = KernelProgram::default();
    if count(&y.dims)? == 0 {
        return Ok(program);
    }
    let inner = count(&y.dims[axis + 1..])?;
    let outer = count(&y.dims[..axis])?;
    let mut parts: Vec<(Slot, usize)> = desc
        .inputs
        .iter()
        .enumerate()
        .filter(|(_, ty)| ty.dims[axis] > 0)
        .map(|(i, ty)| (Slot::Input(i), ty.dims[axis] * inner))
        .collect();
    let most = caps.max_bindings as usize - 1;
    while parts.len() > most {
        let group: Vec<_> = parts.drain(..most).collect();
        let width = group.iter().map(|p| p.1).sum();
        let to = program.scratch(storage_bytes(y.dtype, outer * width));
        program.launches.push(join(&group, to, y.dtype, outer, caps)?);
        parts.insert(0, (to, width));
    }
    program.launches.push(join(&parts, Slot::Output(0), y.dtype, outer, caps)?);
    Ok(program)
}

/// Rows of the result are the parts' rows one after another; each part is (buffer, row width).
fn join(
    parts: &[(Slot, usize)],
    to: Slot,
    dtype: DType,
    outer: usize,
    caps: &Caps,
) -> Result<crate::Launch, Unsupported> {
    let mut k = Kernel::new("concat", include_str!("concat.wgsl"));
    let mut find = String::new();
    for (i, &(slot, width)) in parts.iter().enumerate() {
        k.input(&format!("x{i}"), slot, dtype)?.param(&format!("width{i}"), width);
        if i + 1 < parts.len() {
            find += &format!(
                "    if column < p.width{i} {{ return load_x{i}(row * p.width{i} + column); }}\n    column -= p.width{i};\n"
            );
        } else {
            find += &format!("    return load_x{i}(row * p.width{i} + column);\n");
        }
    }
    let width: usize = parts.iter().map(|p| p.1).sum();
    k.param("width", width);
    k.set("FIND", &find).set("T", scalar(dtype)?);
    k.output("y", to, dtype)?;
    k.map(dtype, outer * width, caps)
}

/// A block of x at run-time starts, clamped so that it fits.
pub(crate) fn dynamic_slice(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let n = count(&y.dims)?;
    count(&x.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    let mut k = Kernel::new("dynamic_slice", include_str!("dynamic_slice.wgsl"));
    k.input("x", Slot::Input(0), x.dtype)?;
    k.tag(&format!("rank{}", x.rank()));
    let dense = strides(&x.dims);
    let start = starts(&mut k, x, &y.dims, 1)?;
    k.views(&["x_index"], &Views::new(&y.dims, &[dense]));
    k.set("START", &start).set("T", scalar(x.dtype)?);
    k.output("y", Slot::Output(0), y.dtype)?;
    Ok(KernelProgram { launches: vec![k.map(y.dtype, n, caps)?], ..KernelProgram::default() })
}

/// Statements adding each clamped start times its stride to `at`; binds the starts, which are operands from
/// `first` on.
fn starts(k: &mut Kernel, x: &TensorType, sizes: &[usize], first: usize) -> Result<String, Unsupported> {
    let mut text = String::new();
    for (d, &stride) in strides(&x.dims).iter().enumerate() {
        k.input(&format!("start{d}"), Slot::Input(first + d), DType::I32)?;
        k.param_i32(&format!("most{d}"), (x.dims[d] - sizes[d]) as i64);
        k.param(&format!("step{d}"), stride as usize);
        text += &format!("    at += u32(clamp(load_start{d}(0u), 0, p.most{d})) * p.step{d};\n");
    }
    Ok(text)
}

/// x with a block at run-time starts replaced, written into x's own memory.
pub(crate) fn dynamic_update_slice(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, update) = (&desc.inputs[0], &desc.inputs[1]);
    let mut program = KernelProgram { in_place: vec![(0, 0)], ..KernelProgram::default() };
    let n = count(&update.dims)?;
    count(&x.dims)?;
    if n == 0 {
        return Ok(program);
    }
    if crate::storage::per_word(x.dtype) == 1 {
        let mut k = Kernel::new("dynamic_update_slice", include_str!("dynamic_update_slice.wgsl"));
        k.input("update", Slot::Input(1), x.dtype)?;
        k.tag(&format!("rank{}", x.rank()));
        let start = starts(&mut k, x, &update.dims, 2)?;
        k.views(&["y_index"], &Views::new(&update.dims, &[strides(&x.dims)]));
        k.set("START", &start);
        k.output("y", Slot::Output(0), x.dtype)?;
        k.param("n", n);
        program.launches.push(k.launch(n.div_ceil(64), caps)?);
        return Ok(program);
    }
    // Two elements share a word, and a block's edge may run through one: each invocation owns a word of the
    // result.
    let mut k = Kernel::new("dynamic_update_slice_pairs", include_str!("dynamic_update_slice_pairs.wgsl"));
    k.input("update", Slot::Input(1), x.dtype)?;
    k.tag(&format!("rank{}", x.rank()));
    let mut find = String::new();
    let steps = strides(&update.dims);
    for d in (0..x.rank()).rev() {
        k.input(&format!("start{d}"), Slot::Input(2 + d), DType::I32)?;
        k.param_i32(&format!("most{d}"), (x.dims[d] - update.dims[d]) as i64);
        k.param(&format!("extent{d}"), x.dims[d]).param(&format!("size{d}"), update.dims[d]);
        k.param(&format!("step{d}"), steps[d] as usize);
        find += &format!(
            "    {{\n        let c = rest % p.extent{d} - u32(clamp(load_start{d}(0u), 0, p.most{d}));\n        \
             rest = rest / p.extent{d};\n        inside = inside && c < p.size{d};\n        at += c * p.step{d};\n    }}\n"
        );
    }
    k.set("FIND", &find);
    k.in_out("y", Slot::Output(0), x.dtype)?;
    program.launches.push(k.map(x.dtype, count(&x.dims)?, caps)?);
    Ok(program)
}
