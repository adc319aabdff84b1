//! Result types of operations, and the rules their operands must meet.

use crate::composite::AttentionSpec;
use crate::dtype::DType;
use crate::graph::check_blocks;
use crate::op::{Binary, DotSpec, Op, ReduceKind};
use crate::tensor_type::TensorType;

type Infer<T> = Result<T, String>;

/// The types of an operation's results, or what is wrong with its operands.
pub fn infer(op: &Op, x: &[TensorType]) -> Infer<Vec<TensorType>> {
    if let Op::Composite(c) = op {
        return crate::infer_composite::infer_composite(c, x);
    }
    let one = |t: TensorType| Ok(vec![t]);
    match op {
        Op::Constant(l) => {
            count(x, 0)?;
            dense(&l.ty)?;
            one(l.ty.clone())
        }
        Op::Iota { ty, axis } => {
            count(x, 0)?;
            need(ty.dtype.is_float() || ty.dtype.is_int(), || format!("iota of {}", ty.dtype))?;
            axis_of(ty, *axis)?;
            one(ty.clone())
        }
        Op::Cast { to } => {
            count(x, 1)?;
            dense(&x[0])?;
            need(!to.is_quantized(), || format!("a cast to {to}; quantize weights on the host"))?;
            one(x[0].with_dtype(*to))
        }
        Op::Bitcast { to } => {
            count(x, 1)?;
            let wide = |d: DType| d.block_len() == 1 && d.block_bytes() == 4;
            need(wide(x[0].dtype) && wide(*to), || "bitcast is between f32, i32 and u32".into())?;
            one(x[0].with_dtype(*to))
        }
        Op::Reshape { dims } => {
            count(x, 1)?;
            dense(&x[0])?;
            let t = TensorType::new(x[0].dtype, dims.clone());
            need(t.numel() == x[0].numel(), || {
                format!("{} elements cannot become {dims:?}, which has {}", x[0].numel(), t.numel())
            })?;
            one(t)
        }
        Op::Transpose { perm } => {
            count(x, 1)?;
            dense(&x[0])?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            need(sorted.iter().copied().eq(0..x[0].rank()), || {
                format!("{perm:?} is not a permutation of {} dimensions", x[0].rank())
            })?;
            one(TensorType::new(x[0].dtype, perm.iter().map(|&p| x[0].dims[p]).collect::<Vec<_>>()))
        }
        Op::Broadcast { dims, axes } => {
            count(x, 1)?;
            dense(&x[0])?;
            need(axes.len() == x[0].rank(), || {
                format!("{} axes for {} dimensions", axes.len(), x[0].rank())
            })?;
            need(axes.windows(2).all(|w| w[0] < w[1]) && axes.iter().all(|&a| a < dims.len()), || {
                format!("axes {axes:?} must increase and be below {}", dims.len())
            })?;
            for (i, &a) in axes.iter().enumerate() {
                let (from, to) = (x[0].dims[i], dims[a]);
                need(from == to || from == 1, || {
                    format!("dimension {i} of extent {from} cannot become {to}")
                })?;
            }
            one(TensorType::new(x[0].dtype, dims.clone()))
        }
        Op::Slice { start, limit, stride } => {
            count(x, 1)?;
            dense(&x[0])?;
            let r = x[0].rank();
            ranks(r, &[start, limit, stride])?;
            let mut dims = Vec::with_capacity(r);
            for i in 0..r {
                let (s, l, t, d) = (start[i], limit[i], stride[i], x[0].dims[i]);
                need(t > 0 && s <= l && l <= d, || {
                    format!("{s}..{l} by {t} in dimension {i} of extent {d}")
                })?;
                dims.push((l - s).div_ceil(t));
            }
            one(TensorType::new(x[0].dtype, dims))
        }
        Op::Pad { low, high, interior } => {
            count(x, 2)?;
            dense(&x[0])?;
            same_dtype(x)?;
            scalar(&x[1], "the padding value")?;
            let r = x[0].rank();
            ranks(r, &[low, high, interior])?;
            let extent = |i: usize| {
                let d = x[0].dims[i];
                let inner = d.saturating_sub(1).saturating_mul(interior[i]);
                d.saturating_add(inner).saturating_add(low[i]).saturating_add(high[i])
            };
            one(TensorType::new(x[0].dtype, (0..r).map(extent).collect::<Vec<_>>()))
        }
        Op::Concat { axis } => {
            need(!x.is_empty(), || "concat needs an operand".into())?;
            same_dtype(x)?;
            dense(&x[0])?;
            axis_of(&x[0], *axis)?;
            let mut t = x[0].clone();
            for other in &x[1..] {
                let fits = other.rank() == t.rank()
                    && (0..t.rank()).all(|i| i == *axis || other.dims[i] == t.dims[i]);
                need(fits, || format!("{other} does not fit {} outside dimension {axis}", x[0]))?;
                t.dims[*axis] = t.dims[*axis].saturating_add(other.dims[*axis]);
            }
            one(t)
        }
        Op::DynamicSlice { sizes } => {
            need(!x.is_empty(), || "dynamic slice needs an operand".into())?;
            dense(&x[0])?;
            starts(&x[0], &x[1..])?;
            ranks(x[0].rank(), &[sizes])?;
            need(sizes.iter().zip(&x[0].dims).all(|(s, d)| s <= d), || {
                format!("a block of {sizes:?} is larger than {}", x[0])
            })?;
            one(TensorType::new(x[0].dtype, sizes.clone()))
        }
        Op::DynamicUpdateSlice => {
            need(x.len() >= 2, || "dynamic update slice needs an operand and an update".into())?;
            dense(&x[0])?;
            same_dtype(&x[..2])?;
            starts(&x[0], &x[2..])?;
            need(
                x[1].rank() == x[0].rank() && x[1].dims.iter().zip(&x[0].dims).all(|(u, d)| u <= d),
                || format!("an update of {} does not fit {}", x[1], x[0]),
            )?;
            one(x[0].clone())
        }
        Op::Unary(k) => {
            count(x, 1)?;
            let (d, definition) = (x[0].dtype, k.definition());
            need(definition.dtypes.contains(&d), || format!("{k:?} is not defined on {d}"))?;
            one(if definition.to_bool { x[0].with_dtype(DType::Bool) } else { x[0].clone() })
        }
        Op::Binary(k) => {
            count(x, 2)?;
            same_type(x)?;
            let d = x[0].dtype;
            let ok = match k {
                Binary::Pow => d.is_float(),
                Binary::And | Binary::Or | Binary::Xor => d == DType::Bool || d.is_int(),
                Binary::Shl | Binary::Shr => d.is_int(),
                _ => d.is_float() || d.is_int(),
            };
            need(ok, || format!("{k:?} is not defined on {d}"))?;
            one(x[0].clone())
        }
        Op::Compare(_) => {
            count(x, 2)?;
            dense(&x[0])?;
            same_type(x)?;
            one(x[0].with_dtype(DType::Bool))
        }
        Op::Select => {
            count(x, 3)?;
            dense(&x[1])?;
            same_type(&x[1..])?;
            need(x[0] == x[1].with_dtype(DType::Bool), || {
                format!("the predicate must be {}", x[1].with_dtype(DType::Bool))
            })?;
            one(x[1].clone())
        }
        Op::Clamp => {
            count(x, 3)?;
            same_type(x)?;
            need(x[0].dtype.is_float() || x[0].dtype.is_int(), || format!("clamp of {}", x[0].dtype))?;
            one(x[0].clone())
        }
        Op::Reduce { kind, axes, accum } => {
            count(x, 1)?;
            let d = x[0].dtype;
            let logical = matches!(kind, ReduceKind::And | ReduceKind::Or);
            need(if logical { d == DType::Bool } else { d.is_float() || d.is_int() }, || {
                format!("{kind:?} is not defined on {d}")
            })?;
            let fits = *accum == d || d.is_float() && *accum == DType::F32;
            need(fits, || format!("{d} cannot be accumulated in {accum}"))?;
            need(axes.windows(2).all(|w| w[0] < w[1]), || format!("axes {axes:?} must increase"))?;
            axes.iter().try_for_each(|&a| axis_of(&x[0], a))?;
            let kept = (0..x[0].rank()).filter(|i| !axes.contains(i)).map(|i| x[0].dims[i]);
            one(TensorType::new(d, kept.collect::<Vec<_>>()))
        }
        Op::ArgReduce { axis, .. } => {
            count(x, 1)?;
            need(x[0].dtype.is_float() || x[0].dtype.is_int(), || format!("arg-reduce of {}", x[0].dtype))?;
            axis_of(&x[0], *axis)?;
            need(x[0].dims[*axis] > 0, || format!("dimension {axis} is empty"))?;
            let mut t = x[0].with_dtype(DType::I32);
            t.dims.remove(*axis);
            one(t)
        }
        Op::Dot(spec) => {
            count(x, 2)?;
            one(dot(spec, &x[0], &x[1])?)
        }
        Op::Gather { axis } => {
            count(x, 2)?;
            one(gathered(&x[0], &x[1], *axis)?)
        }
        Op::Scatter { axis, .. } => {
            count(x, 3)?;
            need(x[0].dtype.is_float() || x[0].dtype.is_int(), || format!("scatter into {}", x[0].dtype))?;
            axis_of(&x[0], *axis)?;
            index(&x[1])?;
            let expect = slices(&x[0], &x[1], *axis);
            need(x[2] == expect, || format!("the updates must be {expect}"))?;
            one(x[0].clone())
        }
        Op::Sort { axis, limit, .. } => {
            count(x, 1)?;
            need(x[0].dtype.is_float() || x[0].dtype.is_int(), || format!("sort of {}", x[0].dtype))?;
            axis_of(&x[0], *axis)?;
            let mut t = x[0].clone();
            need(*limit <= t.dims[*axis], || format!("{limit} of {} elements", t.dims[*axis]))?;
            t.dims[*axis] = *limit;
            Ok(vec![t.clone(), t.with_dtype(DType::I32)])
        }
        Op::Dequantize { to } => {
            count(x, 1)?;
            need(x[0].dtype.is_quantized(), || format!("{} is not quantized", x[0].dtype))?;
            need(to.is_float(), || format!("{to} is not a float"))?;
            check_blocks(&x[0])?;
            one(x[0].with_dtype(*to))
        }
        Op::Barrier => Ok(x.to_vec()),
        Op::Fused(body) => {
            let inputs: Vec<_> = body.inputs().iter().map(|i| body.ty(i.value).clone()).collect();
            need(inputs == x, || "the operands are not those of the region's body".into())?;
            let outputs: Vec<_> = body.outputs().iter().map(|o| body.ty(o.value).clone()).collect();
            need(!outputs.is_empty() && outputs.iter().all(|o| o.dims == outputs[0].dims), || {
                "the results of a fused region must share one shape".into()
            })?;
            Ok(outputs)
        }
        Op::Composite(_) => Err("composites are inferred elsewhere".into()),
    }
}

pub(crate) fn need(ok: bool, why: impl FnOnce() -> String) -> Infer<()> {
    if ok { Ok(()) } else { Err(why()) }
}

pub(crate) fn count(x: &[TensorType], n: usize) -> Infer<()> {
    need(x.len() == n, || format!("takes {n} operands, was given {}", x.len()))
}

pub(crate) fn dense(t: &TensorType) -> Infer<()> {
    need(!t.dtype.is_quantized(), || format!("{t} is quantized; dequantize it first"))
}

pub(crate) fn same_dtype(x: &[TensorType]) -> Infer<()> {
    need(x.windows(2).all(|w| w[0].dtype == w[1].dtype), || "the operands must have one dtype".into())
}

pub(crate) fn same_type(x: &[TensorType]) -> Infer<()> {
    need(x.windows(2).all(|w| w[0] == w[1]), || "the operands must have one type".into())
}

pub(crate) fn float(t: &TensorType) -> Infer<()> {
    need(t.dtype.is_float(), || format!("{t} must be a float tensor"))
}

pub(crate) fn axis_of(t: &TensorType, axis: usize) -> Infer<()> {
    need(axis < t.rank(), || format!("axis {axis} of {t}"))
}

pub(crate) fn exact(t: &TensorType, dtype: DType, dims: &[usize], what: &str) -> Infer<()> {
    need(t.dtype == dtype && t.dims == dims, || {
        format!("{what} must be {}, not {t}", TensorType::new(dtype, dims.to_vec()))
    })
}

fn scalar(t: &TensorType, what: &str) -> Infer<()> {
    need(t.rank() == 0, || format!("{what} must be a scalar, not {t}"))
}

fn index(t: &TensorType) -> Infer<()> {
    need(t.dtype == DType::I32, || format!("indices must be i32, not {t}"))
}

fn ranks(r: usize, lists: &[&Vec<usize>]) -> Infer<()> {
    need(lists.iter().all(|l| l.len() == r), || format!("each list must have {r} entries, one per dimension"))
}

fn starts(t: &TensorType, s: &[TensorType]) -> Infer<()> {
    need(s.len() == t.rank() && s.iter().all(|s| s.dtype == DType::I32 && s.rank() == 0), || {
        format!("needs {} i32 scalars as starts", t.rank())
    })
}

fn slices(x: &TensorType, indices: &TensorType, axis: usize) -> TensorType {
    let dims = [&x.dims[..axis], &indices.dims, &x.dims[axis + 1..]].concat();
    TensorType::new(x.dtype, dims)
}

fn gathered(x: &TensorType, indices: &TensorType, axis: usize) -> Infer<TensorType> {
    dense(x)?;
    axis_of(x, axis)?;
    index(indices)?;
    need(x.dims[axis] > 0 || indices.numel() == 0, || format!("dimension {axis} is empty"))?;
    Ok(slices(x, indices, axis))
}

fn dot(s: &DotSpec, l: &TensorType, r: &TensorType) -> Infer<TensorType> {
    dense(l)?;
    dense(r)?;
    let numeric = |d: DType| d.is_float() || d == DType::I32;
    need(l.dtype == r.dtype && numeric(l.dtype), || "the operands must have one float or i32 dtype".into())?;
    let types = if l.dtype == DType::I32 {
        s.accum == DType::I32 && s.out == DType::I32
    } else {
        s.accum == DType::F32 && s.out.is_float()
    };
    need(types, || format!("{} cannot be accumulated in {} and stored as {}", l.dtype, s.accum, s.out))?;
    let distinct = |t: &TensorType, a: &[usize], b: &[usize]| {
        let mut all: Vec<usize> = a.iter().chain(b).copied().collect();
        all.sort_unstable();
        all.windows(2).all(|w| w[0] != w[1]) && all.iter().all(|&d| d < t.rank())
    };
    need(distinct(l, &s.lhs_batch, &s.lhs_contract) && distinct(r, &s.rhs_batch, &s.rhs_contract), || {
        "dimension numbers must be distinct and in range".into()
    })?;
    let paired = |a: &[usize], b: &[usize]| {
        a.len() == b.len() && a.iter().zip(b).all(|(&i, &j)| l.dims[i] == r.dims[j])
    };
    need(paired(&s.lhs_batch, &s.rhs_batch), || "batch dimensions must be equal in pairs".into())?;
    need(paired(&s.lhs_contract, &s.rhs_contract), || "contracted dimensions must be equal in pairs".into())?;
    let free = |t: &TensorType, a: &[usize], b: &[usize]| -> Vec<usize> {
        (0..t.rank()).filter(|d| !a.contains(d) && !b.contains(d)).map(|d| t.dims[d]).collect()
    };
    let mut dims: Vec<usize> = s.lhs_batch.iter().map(|&d| l.dims[d]).collect();
    dims.extend(free(l, &s.lhs_batch, &s.lhs_contract));
    dims.extend(free(r, &s.rhs_batch, &s.rhs_contract));
    Ok(TensorType::new(s.out, dims))
}

/// Checks attention's operands; returns (b, h, t, e).
pub(crate) fn attention(spec: &AttentionSpec, x: &[TensorType]) -> Infer<[usize; 4]> {
    count(x, 3 + spec.optional_operands())?;
    float(&x[0])?;
    same_dtype(&x[..3])?;
    need(x[..3].iter().all(|t| t.rank() == 4), || "q, k and v have four dimensions".into())?;
    let [b, h, t, d] = [x[0].dims[0], x[0].dims[1], x[0].dims[2], x[0].dims[3]];
    let [kb, hk, ks, e] = [x[1].dims[0], x[1].dims[1], x[1].dims[2], x[2].dims[3]];
    need(x[1].dims[3] == d, || format!("q has {d} features a head and k {}", x[1].dims[3]))?;
    need(x[2].dims[..3] == x[1].dims[..3], || "k and v must agree but in their last dimension".into())?;
    need(hk > 0 && h % hk == 0, || format!("{hk} key heads do not divide {h} query heads"))?;
    need(spec.paged || kb == b, || format!("a batch of {b} queries and {kb} keys"))?;
    let mut rest = x[3..].iter();
    let mut next = |dims: &[usize], what: &str| match rest.next() {
        Some(t) => exact(t, DType::I32, dims, what),
        None => Err(format!("{what} is missing")),
    };
    let s = match (spec.paged, x.last()) {
        (true, Some(table)) => ks.saturating_mul(table.dims.get(1).copied().unwrap_or(0)),
        _ => ks,
    };
    if spec.segments {
        next(&[b, t], "q_segments")?;
        next(&[b, s], "k_segments")?;
    }
    if spec.blocks {
        next(&[b, t], "q_blocks")?;
        next(&[b, s], "k_blocks")?;
    }
    if spec.offset {
        next(&[b], "offset")?;
    }
    if spec.kv_len {
        next(&[b], "kv_len")?;
    }
    if spec.paged {
        let pages = x.last().and_then(|t| t.dims.get(1).copied()).unwrap_or(0);
        next(&[b, pages], "page_table")?;
    }
    Ok([b, h, t, e])
}
