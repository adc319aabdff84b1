//! Result types of composites.

use crate::composite::Composite;
use crate::dtype::DType;
use crate::graph::check_blocks;
use crate::infer::{attention, axis_of, count, dense, exact, float, need, same_dtype, same_type};
use crate::tensor_type::TensorType;

type Infer<T> = Result<T, String>;

pub(crate) fn infer_composite(c: &Composite, x: &[TensorType]) -> Infer<Vec<TensorType>> {
    let one = |t: TensorType| Ok(vec![t]);
    match c {
        Composite::Linear { bias, .. } => {
            count(x, 2 + *bias as usize)?;
            float(&x[0])?;
            same_dtype(x)?;
            need(x[1].rank() == 2, || format!("the weight must be [n,k], not {}", x[1]))?;
            let (n, k) = (x[1].dims[0], x[1].dims[1]);
            need(last(&x[0])? == k, || format!("the weight takes {k} features, the operand has {}", x[0]))?;
            if *bias {
                exact(&x[2], x[0].dtype, &[n], "the bias")?;
            }
            one(with_last(&x[0], n))
        }
        Composite::QuantizedDot { .. } | Composite::Int8Dot => {
            let transposed = matches!(c, Composite::QuantizedDot { transposed: true });
            count(x, 2)?;
            float(&x[0])?;
            need(x[1].dtype.is_quantized() && x[1].rank() == 2, || {
                format!("the weight must be quantized [n,k], not {}", x[1])
            })?;
            check_blocks(&x[1])?;
            let (n, k) = (x[1].dims[0], x[1].dims[1]);
            let (from, to) = if transposed { (n, k) } else { (k, n) };
            need(last(&x[0])? == from, || {
                format!("the weight takes {from} features, the operand is {}", x[0])
            })?;
            one(with_last(&x[0], to))
        }
        Composite::RaggedDot { transposed } => {
            count(x, 3)?;
            float(&x[0])?;
            let &[g, n, k] = &x[1].dims[..] else {
                return Err(format!("the matrices must be [g,n,k], not {}", x[1]));
            };
            need(g > 0 && (x[1].dtype.is_quantized() || x[1].dtype == x[0].dtype), || {
                format!("the matrices must be one or more, quantized or {}, not {}", x[0].dtype, x[1])
            })?;
            check_blocks(&x[1])?;
            let (from, to) = if *transposed { (n, k) } else { (k, n) };
            need(x[0].rank() == 2 && x[0].dims[1] == from, || format!("rows [m,{from}], not {}", x[0]))?;
            one(TensorType::new(x[0].dtype, [x[0].dims[0], of_groups(&x[2], x[0].dims[0])?, to]))
        }
        Composite::RaggedOuter { groups } => {
            count(x, 3)?;
            float(&x[0])?;
            same_dtype(&x[..2])?;
            need(x[0].rank() == 2 && x[1].rank() == 3, || {
                format!("operands [m,k] and [m,c,n], not {} and {}", x[0], x[1])
            })?;
            let (m, n, k) = (x[0].dims[0], x[1].dims[2], x[0].dims[1]);
            let c = of_groups(&x[2], m)?;
            exact(&x[1], x[0].dtype, &[m, c, n], "the second operand")?;
            one(TensorType::new(x[0].dtype, [*groups, n, k]))
        }
        Composite::Softmax | Composite::LogSoftmax => {
            count(x, 1)?;
            float(&x[0])?;
            last(&x[0])?;
            one(x[0].clone())
        }
        Composite::CrossEntropy { .. } => {
            count(x, 2)?;
            let n = logits(x)?;
            let row = TensorType::new(DType::F32, [n]);
            Ok(vec![row.clone(), row])
        }
        Composite::CrossEntropyGrad { .. } => {
            count(x, 4)?;
            let n = logits(x)?;
            exact(&x[2], DType::F32, &[n], "lse")?;
            exact(&x[3], DType::F32, &[n], "the gradient of the loss")?;
            one(x[0].clone())
        }
        Composite::RmsNorm { .. } => {
            count(x, 2)?;
            normed(x, 1)?;
            one(x[0].clone())
        }
        Composite::LayerNorm { .. } => {
            count(x, 3)?;
            normed(x, 2)?;
            one(x[0].clone())
        }
        Composite::RmsNormGrad { .. } => {
            count(x, 3)?;
            normed(x, 1)?;
            same_type(&[x[0].clone(), x[2].clone()])?;
            Ok(vec![x[0].clone(), x[1].clone()])
        }
        Composite::LayerNormGrad { .. } => {
            count(x, 3)?;
            normed(x, 1)?;
            same_type(&[x[0].clone(), x[2].clone()])?;
            Ok(vec![x[0].clone(), x[1].clone(), x[1].clone()])
        }
        Composite::Rope { .. } => {
            count(x, 3)?;
            float(&x[0])?;
            need(x[0].rank() == 4, || format!("{} must be [b,h,t,d]", x[0]))?;
            let half = last(&x[1])?;
            need(half * 2 <= x[0].dims[3], || format!("{half} angles for {} features", x[0].dims[3]))?;
            let dims = [x[0].dims[0], x[0].dims[2], half];
            exact(&x[1], DType::F32, &dims, "cos")?;
            exact(&x[2], DType::F32, &dims, "sin")?;
            one(x[0].clone())
        }
        Composite::Attention(spec) => {
            let [b, h, t, e] = attention(spec, x)?;
            Ok(vec![TensorType::new(x[0].dtype, [b, h, t, e]), TensorType::new(DType::F32, [b, h, t])])
        }
        Composite::AttentionGrad(spec) => {
            need(!spec.paged, || "paged attention has no gradient".into())?;
            let n = 3 + spec.optional_operands();
            count(x, n + 3)?;
            let [b, h, t, e] = attention(spec, &x[..n])?;
            exact(&x[n], x[0].dtype, &[b, h, t, e], "out")?;
            exact(&x[n + 1], DType::F32, &[b, h, t], "lse")?;
            exact(&x[n + 2], x[0].dtype, &[b, h, t, e], "the gradient of out")?;
            Ok(x[..3].to_vec())
        }
        Composite::KvAppend { paged } => {
            count(x, 3 + *paged as usize)?;
            same_dtype(&x[..2])?;
            float(&x[0])?;
            need(x[0].rank() == 4 && x[1].rank() == 4, || "cache and new have four dimensions".into())?;
            let (cache, new) = (&x[0].dims, &x[1].dims);
            need(cache[1] == new[1] && cache[3] == new[3], || {
                "cache and new differ in heads or features".into()
            })?;
            need(*paged || cache[0] == new[0], || "cache and new differ in batch".into())?;
            exact(&x[2], DType::I32, &new[..1], "pos")?;
            if *paged {
                let pages = x[3].dims.get(1).copied().unwrap_or(0);
                exact(&x[3], DType::I32, &[new[0], pages], "page_table")?;
            }
            one(x[0].clone())
        }
        Composite::Activate(_) => {
            count(x, 1)?;
            float(&x[0])?;
            one(x[0].clone())
        }
        Composite::GatedActivate(_) => {
            count(x, 2)?;
            float(&x[0])?;
            same_type(x)?;
            one(x[0].clone())
        }
        Composite::Embedding { out } => {
            count(x, 2)?;
            need(x[0].rank() == 2 && x[0].dims[0] > 0, || format!("the table must be [v,d], not {}", x[0]))?;
            need(x[1].dtype == DType::I32, || format!("ids must be i32, not {}", x[1]))?;
            need(out.is_float() && (x[0].dtype.is_quantized() || x[0].dtype == *out), || {
                format!("a {} table does not give {out}", x[0].dtype)
            })?;
            check_blocks(&x[0])?;
            let mut dims = x[1].dims.clone();
            dims.push(x[0].dims[1]);
            one(TensorType::new(*out, dims))
        }
        Composite::Patchify { patch } => {
            count(x, 1)?;
            dense(&x[0])?;
            need(x[0].rank() == patch.len() + 2, || format!("patches {patch:?} of {}", x[0]))?;
            let space = &x[0].dims[2..];
            need(space.iter().zip(patch).all(|(s, &p)| p > 0 && s % p == 0), || {
                format!("{patch:?} does not divide {space:?}")
            })?;
            let count: usize = space.iter().zip(patch).map(|(s, p)| s / p).product();
            let features = x[0].dims[1] * patch.iter().product::<usize>();
            one(TensorType::new(x[0].dtype, [x[0].dims[0], count, features]))
        }
        Composite::Conv1d { stride, padding, dilation, bias } => {
            count(x, 2 + *bias as usize)?;
            float(&x[0])?;
            same_dtype(x)?;
            need(x[0].rank() == 3 && x[1].rank() == 3, || "x is [b,c,t] and w is [o,c,k]".into())?;
            let (t, o, k) = (x[0].dims[2], x[1].dims[0], x[1].dims[2]);
            need(x[0].dims[1] == x[1].dims[1], || "x and w differ in channels".into())?;
            need(*stride > 0 && *dilation > 0 && k > 0, || {
                "stride, dilation and window are at least 1".into()
            })?;
            let span = dilation.saturating_mul(k - 1).saturating_add(1);
            let padded = t.saturating_add(padding.saturating_mul(2));
            need(span <= padded, || format!("a window of {span} does not fit {padded} steps"))?;
            if *bias {
                exact(&x[2], x[0].dtype, &[o], "the bias")?;
            }
            one(TensorType::new(x[0].dtype, [x[0].dims[0], o, (padded - span) / stride + 1]))
        }
        Composite::GatedDelta { segments, state } => gated_delta(x, *segments, *state),
        Composite::ShortConv { segments, state } => short_conv(x, *segments, *state),
        Composite::CumSum { axis } => {
            count(x, 1)?;
            need(x[0].dtype.is_float() || x[0].dtype.is_int(), || {
                format!("cumulative sum of {}", x[0].dtype)
            })?;
            axis_of(&x[0], *axis)?;
            one(x[0].clone())
        }
        Composite::Pool { window, stride, .. } => {
            count(x, 1)?;
            float(&x[0])?;
            let n = window.len();
            need(x[0].rank() == n + 2 && stride.len() == n, || {
                format!("a window of {window:?} over {}", x[0])
            })?;
            let mut t = x[0].clone();
            for i in 0..n {
                let (d, w, s) = (t.dims[i + 2], window[i], stride[i]);
                need(w > 0 && s > 0 && w <= d, || format!("a window of {w} by {s} does not fit {d}"))?;
                t.dims[i + 2] = (d - w) / s + 1;
            }
            one(t)
        }
        Composite::RandomBits { dims, .. } => {
            count(x, 1)?;
            exact(&x[0], DType::U32, &[2], "the seed")?;
            let t = TensorType::new(DType::U32, dims.clone());
            need(t.numel() as u64 <= 1 << 32, || {
                format!("{} random words, at most 2^32 a stream", t.numel())
            })?;
            one(t)
        }
        Composite::Upsample { size, .. } => {
            count(x, 1)?;
            float(&x[0])?;
            need(x[0].rank() == 4 && x[0].numel() > 0, || {
                format!("{} must be [b,c,h,w] and not empty", x[0])
            })?;
            one(TensorType::new(x[0].dtype, [x[0].dims[0], x[0].dims[1], size[0], size[1]]))
        }
        Composite::AdamW { .. } => {
            count(x, 6)?;
            need(x[0].dtype == DType::F32, || format!("master weights are f32, not {}", x[0].dtype))?;
            same_type(&x[..4])?;
            exact(&x[4], DType::F32, &[], "the learning rate")?;
            exact(&x[5], DType::F32, &[], "the step")?;
            Ok(vec![x[0].clone(), x[0].clone(), x[0].clone()])
        }
    }
}

fn gated_delta(x: &[TensorType], segments: bool, state: bool) -> Infer<Vec<TensorType>> {
    count(x, 5 + usize::from(segments) + 4 * usize::from(state))?;
    float(&x[0])?;
    same_dtype(&x[..3])?;
    need(x[..3].iter().all(|x| x.rank() == 4), || "q, k and v must be [b,t,heads,features]".into())?;
    exact(&x[1], x[0].dtype, &x[0].dims, "k")?;
    let ([b, t, hk, dk], [_, _, h, dv]) = (extents(&x[0]), extents(&x[2]));
    need(x[2].dims[..2] == [b, t], || format!("v is {}, and q {}", x[2], x[0]))?;
    need(hk > 0 && h.is_multiple_of(hk), || format!("{hk} heads of q and k do not divide the {h} of v"))?;
    exact(&x[3], DType::F32, &[b, t, h], "g")?;
    exact(&x[4], DType::F32, &[b, t, h], "beta")?;
    let pool = carried(&x[5..], [b, t], segments, state)?;
    if let Some(pool) = &pool {
        let slots = pool.dims.first().copied().unwrap_or(0);
        exact(pool, DType::F32, &[slots, h, dk, dv], "the pool of states")?;
    }
    Ok([x[2].clone()].into_iter().chain(pool).collect())
}

fn short_conv(x: &[TensorType], segments: bool, state: bool) -> Infer<Vec<TensorType>> {
    count(x, 2 + usize::from(segments) + 4 * usize::from(state))?;
    float(&x[0])?;
    same_dtype(&x[..2])?;
    need(x[0].rank() == 3 && x[1].rank() == 2, || "x is [b,t,c] and w is [c,taps]".into())?;
    let (rows, c, taps) = ([x[0].dims[0], x[0].dims[1]], x[0].dims[2], x[1].dims[1]);
    need(x[1].dims[0] == c && taps > 0, || format!("the weight must be [{c},taps], not {}", x[1]))?;
    let pool = carried(&x[2..], rows, segments, state)?;
    if let Some(pool) = &pool {
        let slots = pool.dims.first().copied().unwrap_or(0);
        exact(pool, x[0].dtype, &[slots, taps - 1, c], "the pool of states")?;
    }
    Ok([x[0].clone()].into_iter().chain(pool).collect())
}

/// The optional operands of a recurrent operation; gives the pool's type.
fn carried(rest: &[TensorType], rows: [usize; 2], segments: bool, state: bool) -> Infer<Option<TensorType>> {
    need(!(segments && state), || "rows have segments or states, not both".into())?;
    if segments {
        exact(&rest[0], DType::I32, &rows, "segments")?;
    }
    if !state {
        return Ok(None);
    }
    need(rest[0].dims.first().is_some_and(|slots| *slots > 0), || format!("the pool {} is empty", rest[0]))?;
    for (operand, what) in rest[1..].iter().zip(["from", "to", "rows"]) {
        exact(operand, DType::I32, &rows[..1], what)?;
    }
    Ok(Some(rest[0].clone()))
}

/// The extents of a tensor of rank 4.
fn extents(t: &TensorType) -> [usize; 4] {
    std::array::from_fn(|i| t.dims[i])
}

fn last(t: &TensorType) -> Infer<usize> {
    t.dims.last().copied().ok_or_else(|| format!("{t} has no dimension"))
}

/// How many groups each of `rows` rows has, by their numbers.
fn of_groups(t: &TensorType, rows: usize) -> Infer<usize> {
    match t.dims[..] {
        [m, c] if m == rows && t.dtype == DType::I32 => Ok(c),
        _ => Err(format!("the groups' numbers must be i32[{rows},c], not {t}")),
    }
}

fn with_last(t: &TensorType, n: usize) -> TensorType {
    let mut t = t.clone();
    if let Some(d) = t.dims.last_mut() {
        *d = n;
    }
    t
}

fn logits(x: &[TensorType]) -> Infer<usize> {
    float(&x[0])?;
    need(x[0].rank() == 2 && x[0].dims[1] > 0, || format!("logits must be [n,v], not {}", x[0]))?;
    exact(&x[1], DType::I32, &x[0].dims[..1], "labels")?;
    Ok(x[0].dims[0])
}

/// The first `vectors` operands after x are weights over its last dimension.
fn normed(x: &[TensorType], vectors: usize) -> Infer<()> {
    float(&x[0])?;
    let d = last(&x[0])?;
    need(d > 0, || format!("{} has no features", x[0]))?;
    x[1..=vectors].iter().try_for_each(|w| exact(w, x[0].dtype, &[d], "a norm's weight"))
}
