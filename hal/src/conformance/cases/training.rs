//! L3: a short training run follows the reference's losses; decoding token by token equals one prefill.

use percept_graph::reference::{ExactTensor, evaluate_exact};
use percept_graph::{
    Activation, AttentionSpec, Composite, DType, Graph, GraphError, HostTensor, Op, Role, Tensor, TensorType,
    Trace, grad,
};

use super::memory::{hold, wrong};
use crate::buffer::Arg;
use crate::conformance::case::{Fault, Level::L3, Subject, read};
use crate::conformance::table::Table;
use crate::conformance::values::{Fill, Random};

fn f32s(dims: impl Into<Vec<usize>>) -> TensorType {
    TensorType::new(DType::F32, dims)
}

const CLASSES: usize = 11;
const WIDTH: usize = 16;
const ROWS: usize = 24;

/// Shapes of the parameters: an embedding, a norm, two projections.
fn parameters() -> [Vec<usize>; 4] {
    [vec![CLASSES, WIDTH], vec![WIDTH], vec![2 * WIDTH, WIDTH], vec![CLASSES, 2 * WIDTH]]
}

/// (parameters, moments, ids, labels, step) -> loss, and parameters and moments in place: one step of AdamW
/// on a bigram model.
fn training_step() -> Result<Graph, GraphError> {
    let t = Trace::new("train");
    let state = |name: String, dims: &Vec<usize>| t.input(name, Role::State, f32s(dims.clone()));
    let dims = parameters();
    let p: Vec<Tensor> = dims.iter().enumerate().map(|(i, d)| state(format!("p{i}"), d)).collect();
    let m: Vec<Tensor> = dims.iter().enumerate().map(|(i, d)| state(format!("m{i}"), d)).collect();
    let v: Vec<Tensor> = dims.iter().enumerate().map(|(i, d)| state(format!("v{i}"), d)).collect();
    let ids = t.data("ids", DType::I32, [ROWS]);
    let labels = t.data("labels", DType::I32, [ROWS]);
    let step = t.input("step", Role::Scalar, f32s([]));
    let hidden =
        p[0].embedding(&ids, DType::F32).rms_norm(&p[1], 1e-5).linear(&p[2], None, Some(Activation::Silu));
    let loss = hidden.linear(&p[3], None, None).cross_entropy(&labels, -100, 0.0).mean([0]);
    let gradients = grad(&loss, &p.iter().collect::<Vec<_>>());
    t.output("loss", &loss);
    let lr = t.full(DType::F32, [], 0.02);
    let c = Composite::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.01 };
    for (i, g) in gradients.iter().enumerate() {
        let updated = t.ops(Op::Composite(c.clone()), &[&p[i], g, &m[i], &v[i], &lr, &step]);
        for (y, (name, x)) in updated.iter().zip([("p", &p[i]), ("m", &m[i]), ("v", &v[i])]) {
            t.output_in_place(format!("{name}{i}"), y, x);
        }
    }
    t.finish()
}

/// Initial parameters and moments in the order of the inputs.
fn initial() -> Vec<HostTensor> {
    let mut r = Random::named("training");
    let dims = parameters();
    let p = dims.iter().enumerate().map(|(i, d)| {
        let fill = if i == 1 { Fill::All(1.0) } else { Fill::Scaled(0.3) };
        r.tensor(&f32s(d.clone()), fill)
    });
    let mut all: Vec<HostTensor> = p.collect();
    for _ in 0..2 {
        all.extend(dims.iter().map(|d| Random::named("zero").tensor(&f32s(d.clone()), Fill::All(0.0))));
    }
    all
}

/// Ids, labels and the step's number.
fn batch(step: usize) -> Vec<HostTensor> {
    let mut r = Random::named(&format!("batch {step}"));
    let ty = TensorType::new(DType::I32, [ROWS]);
    let ids = r.tensor(&ty, Fill::Between(0, CLASSES as i64));
    let next: Vec<f64> = ids.values().iter().map(|id| (id * 3.0 + 1.0) % CLASSES as f64).collect();
    let labels = HostTensor::from_f64(ty, &next).unwrap_or_else(|_| ids.clone());
    let step = r.tensor(&f32s([]), Fill::All(step as f64));
    vec![ids, labels, step]
}

/// Outputs in the order of the state inputs: outputs come as p0 m0 v0 p1 ..., inputs as p0 p1 .. m0 .. v0 ...
fn in_input_order<T>(outputs: Vec<T>) -> Vec<T> {
    let n = parameters().len();
    let mut indexed: Vec<(usize, T)> =
        outputs.into_iter().enumerate().map(|(i, x)| (i % 3 * n + i / 3, x)).collect();
    indexed.sort_by_key(|(i, _)| *i);
    indexed.into_iter().map(|(_, x)| x).collect()
}

const STEPS: usize = 20;

fn loss_curve(s: &Subject) -> Result<(), Fault> {
    let graph = training_step()?;
    let exe = s.device.compile(&graph, &s.options())?;
    let start = initial();
    let mut state =
        start.iter().map(|t| s.device.upload(t.ty(), t.bytes())).collect::<Result<Vec<_>, _>>()?;
    let mut exact: Vec<ExactTensor> = start.iter().map(ExactTensor::from).collect();
    let (mut first, mut last) = (0.0, 0.0);
    for step in 1..=STEPS {
        let data = batch(step);
        let mut args: Vec<Arg> = state.into_iter().map(Arg::Donate).collect();
        for t in &data {
            args.push(Arg::Borrow(s.device.upload(t.ty(), t.bytes())?));
        }
        let mut outputs = exe.run(args)?;
        let loss = read(s, &outputs.remove(0))?[0];
        state = in_input_order(outputs);
        exact.extend(data.iter().map(ExactTensor::from));
        let mut wanted = evaluate_exact(&graph, &exact, 1 << 24).map_err(|e| Fault::Wrong(e.to_string()))?;
        let want = wanted.remove(0).values[0];
        exact = in_input_order(wanted);
        // Adam divides by the root of small second moments, which magnifies rounding step by step.
        hold((loss - want).abs() <= 2e-4 * want.abs() * step as f64 + 1e-5, || {
            format!("the loss of step {step} is {loss}, the reference's {want}")
        })?;
        if step == 1 {
            first = loss;
        }
        last = loss;
    }
    hold(last < 0.8 * first, || format!("{STEPS} steps brought the loss from {first} to {last} only"))
}

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD: usize = 16;
const ROOM: usize = 24;

/// (cache k, cache v, x[1,t,w], pos[1], len[1], weights) -> hidden, caches in place: an attention block on a
/// KV cache.
fn block(t_new: usize, dtype: DType) -> Result<Graph, GraphError> {
    let t = Trace::new("block");
    let width = HEADS * HEAD;
    let cache = |name: &str| t.input(name, Role::State, TensorType::new(dtype, [1, KV_HEADS, ROOM, HEAD]));
    let (ck, cv) = (cache("k"), cache("v"));
    let x = t.data("x", dtype, [1, t_new, width]);
    let integer = |name: &str| t.input(name, Role::Scalar, TensorType::new(DType::I32, [1]));
    let (pos, len) = (integer("pos"), integer("len"));
    let weight = |name: &str, n: usize| t.parameter(name, dtype, [n, width]);
    let (wq, wk) = (weight("q", width), weight("wk", KV_HEADS * HEAD));
    let (wv, wo) = (weight("wv", KV_HEADS * HEAD), weight("o", width));
    let norm = t.parameter("norm", dtype, [width]);
    let h = x.rms_norm(&norm, 1e-5);
    let heads = |y: Tensor, n: usize| y.reshape([1, t_new, n, HEAD]).transpose([0, 2, 1, 3]);
    let positions = t.iota(DType::I32, [1, t_new], 1) + pos.reshape([1, 1]).broadcast([1, t_new], [0, 1]);
    let frequencies: Vec<f64> = (0..HEAD / 2).map(|i| 10000f64.powf(-2.0 * i as f64 / HEAD as f64)).collect();
    let [cos, sin] = positions.rope_angles(&frequencies);
    let q = heads(h.linear(&wq, None, None), HEADS).rope(&cos, &sin, false);
    let k = heads(h.linear(&wk, None, None), KV_HEADS).rope(&cos, &sin, false);
    let v = heads(h.linear(&wv, None, None), KV_HEADS);
    let (k, v) = (ck.kv_append(&k, &pos, None), cv.kv_append(&v, &pos, None));
    let spec = AttentionSpec { offset: true, kv_len: true, ..AttentionSpec::causal(0.25) };
    let y = q.attention(&k, &v, &[&pos, &len], spec);
    let y = y.transpose([0, 2, 1, 3]).reshape([1, t_new, width]).linear(&wo, None, None);
    t.output("y", &(&x + &y));
    t.output_in_place("k", &k, &ck);
    t.output_in_place("v", &v, &cv);
    t.finish()
}

/// Hidden states of the rows of `x`, fed in chunks of these lengths.
fn decoded(s: &Subject, dtype: DType, chunks: &[usize], invariant: bool) -> Result<Vec<f64>, Fault> {
    let width = HEADS * HEAD;
    let total: usize = chunks.iter().sum();
    let mut r = Random::named("decode");
    let x = r.tensor(&TensorType::new(dtype, [1, total, width]), Fill::Normal);
    let weights: Vec<HostTensor> = [
        vec![width, width],
        vec![KV_HEADS * HEAD, width],
        vec![KV_HEADS * HEAD, width],
        vec![width, width],
        vec![width],
    ]
    .into_iter()
    .map(|d| r.tensor(&TensorType::new(dtype, d), Fill::Scaled(0.2)))
    .collect();
    let upload = |t: &HostTensor| s.device.upload(t.ty(), t.bytes());
    let weights = weights.iter().map(upload).collect::<Result<Vec<_>, _>>()?;
    let cache = TensorType::new(dtype, [1, KV_HEADS, ROOM, HEAD]);
    let (mut k, mut v) = (s.device.zeros(&cache)?, s.device.zeros(&cache)?);
    let mut options = s.options();
    options.batch_invariant = invariant;
    let (mut out, mut at) = (Vec::new(), 0);
    let element = dtype.block_bytes() * width;
    for &n in chunks {
        let exe = s.device.compile(&block(n, dtype)?, &options)?;
        let part = s
            .device
            .upload(&TensorType::new(dtype, [1, n, width]), &x.bytes()[at * element..(at + n) * element])?;
        let integer =
            |v: usize| HostTensor::from_i32([1], &[v as i32]).map_err(|e| Fault::Wrong(e.to_string()));
        let (pos, len) = (upload(&integer(at)?)?, upload(&integer(at + n)?)?);
        let mut args =
            vec![Arg::Donate(k), Arg::Donate(v), Arg::Borrow(part), Arg::Borrow(pos), Arg::Borrow(len)];
        args.extend(weights.iter().cloned().map(Arg::Borrow));
        let Ok([y, new_k, new_v]) = <[_; 3]>::try_from(exe.run(args)?) else {
            return wrong("the block has three outputs");
        };
        out.extend(read(s, &y)?);
        (k, v) = (new_k, new_v);
        at += n;
    }
    Ok(out)
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    t.promise(L3, "training.adamw", "loss-curve", loss_curve);
    for d in super::FLOATS {
        t.promise(L3, "decode.equals_prefill", format!("{d}/near"), move |s| {
            let whole = decoded(s, d, &[13], false)?;
            let steps = decoded(s, d, &[1; 13], false)?;
            let scale = (whole.iter().map(|v| v * v).sum::<f64>() / whole.len() as f64).sqrt();
            let allowed = scale * if d == DType::F32 { 1e-5 } else { 0.05 };
            for (i, (a, b)) in whole.iter().zip(&steps).enumerate() {
                hold((a - b).abs() <= allowed, || format!("element {i}: prefill gives {a}, decoding {b}"))?;
            }
            Ok(())
        });
        for (name, chunks) in [("one-by-one", &[1usize; 13] as &[usize]), ("chunks", &[5, 1, 4, 3])] {
            t.promise(L3, "decode.equals_prefill", format!("{d}/{name}/bit-for-bit"), move |s| {
                let whole = decoded(s, d, &[13], true)?;
                let parts = decoded(s, d, chunks, true)?;
                match whole.iter().zip(&parts).position(|(a, b)| a.to_bits() != b.to_bits()) {
                    Some(i) => {
                        wrong(format!("element {i}: prefill gives {:e}, chunks {:e}", whole[i], parts[i]))
                    }
                    None => Ok(()),
                }
            });
        }
    }
}
