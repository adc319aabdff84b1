//! L2: projections, norms, activations, losses, embeddings, random bits and the optimizer.

use percept_graph::{Activation, Composite, DType, HostTensor, Op, Role, Tensor, TensorType};

use super::{FLOATS, QUANTIZED};
use crate::conformance::case::Level::L2;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Record a composite with any number of results, each held to one class.
pub fn record(b: &mut Build, c: Composite, x: &[&Tensor], class: Class) {
    for y in b.trace.ops(Op::Composite(c), x) {
        b.output(&y, class);
    }
}

/// Shapes of row-wise operations: the last dimension is the row.
const ROWS: [(&str, &[usize]); 7] = [
    ("prime", &[7, 13]),
    ("one", &[3, 1]),
    ("vector", &[67]),
    ("past-tile", &[2, 1025]),
    ("batched", &[2, 3, 64]),
    ("many", &[261, 5]),
    ("no-rows", &[0, 8]),
];

const ODD: [(&str, Fill); 3] =
    [("special", Fill::Special), ("large", Fill::Scaled(50.0)), ("infinite", Fill::All(f64::NEG_INFINITY))];

fn row_wise(t: &mut Table) {
    for d in FLOATS {
        for (op, c) in [("softmax", Composite::Softmax), ("log_softmax", Composite::LogSoftmax)] {
            let shapes = ROWS.iter().map(|&(n, dims)| (format!("{n}/normal"), dims, Fill::Normal));
            let odd = ODD.iter().map(|&(n, fill)| (format!("rows/{n}"), &[5usize, 67] as &[usize], fill));
            for (name, dims, fill) in shapes.chain(odd) {
                let terms = dims[dims.len() - 1];
                let c = c.clone();
                let recipe = move |b: &mut Build| {
                    let x = b.data(d, dims, fill);
                    record(b, c.clone(), &[&x], Class::Composite { terms });
                };
                if fill == Fill::Normal && dims[0] > 0 && d != DType::F16 {
                    t.differentiable(L2, op, format!("{d}/{name}"), terms, recipe);
                } else {
                    t.values(L2, op, format!("{d}/{name}"), recipe);
                }
            }
        }
        norms(t, d);
    }
}

fn norms(t: &mut Table, d: DType) {
    for (name, dims) in ROWS {
        let k = dims[dims.len() - 1];
        let class = Class::Composite { terms: k };
        for unit_offset in [false, true] {
            let forward = move |b: &mut Build| {
                let (x, w) = (b.data(d, dims, Fill::Normal), b.weight(d, &[k], Fill::Normal));
                record(b, Composite::RmsNorm { eps: 1e-5, unit_offset }, &[&x, &w], class);
            };
            let variant = format!("{d}/{name}{}", if unit_offset { "/unit-offset" } else { "" });
            if dims[0] > 0 && k > 1 && d == DType::F32 {
                t.differentiable(L2, "rms_norm", &variant, k, forward);
            } else {
                t.values(L2, "rms_norm", &variant, forward);
            }
            // The gradient of a norm of a single feature is all cancellation.
            if k > 1 {
                t.values(L2, "rms_norm_grad", &variant, move |b| {
                    let (x, w) = (b.data(d, dims, Fill::Normal), b.weight(d, &[k], Fill::Normal));
                    let dy = b.data(d, dims, Fill::Normal);
                    record(b, Composite::RmsNormGrad { eps: 1e-5, unit_offset }, &[&x, &w, &dy], class);
                });
            }
        }
        let forward = move |b: &mut Build| {
            let x = b.data(d, dims, Fill::Normal);
            let (w, bias) = (b.weight(d, &[k], Fill::Normal), b.weight(d, &[k], Fill::Normal));
            record(b, Composite::LayerNorm { eps: 1e-5 }, &[&x, &w, &bias], class);
        };
        // The norm of a single feature is its bias, and its gradient all cancellation.
        if dims[0] > 0 && k > 1 && d == DType::F32 {
            t.differentiable(L2, "layer_norm", format!("{d}/{name}"), k, forward);
        } else {
            t.values(L2, "layer_norm", format!("{d}/{name}"), forward);
        }
        if k > 1 {
            t.values(L2, "layer_norm_grad", format!("{d}/{name}"), move |b| {
                let (x, w) = (b.data(d, dims, Fill::Normal), b.weight(d, &[k], Fill::Normal));
                let dy = b.data(d, dims, Fill::Normal);
                record(b, Composite::LayerNormGrad { eps: 1e-5 }, &[&x, &w, &dy], class);
            });
        }
    }
}

fn linear(t: &mut Table) {
    let acts = [None, Some(Activation::GeluErf), Some(Activation::Silu), Some(Activation::Relu)];
    for d in FLOATS {
        for (name, dims, n) in [
            ("prime", &[7usize, 13] as &[usize], 5usize),
            ("vector", &[1, 67], 33),
            ("tokens", &[2, 5, 64], 96),
            ("past-tile", &[65, 33], 129),
            ("deep", &[2, 2050], 3),
            ("no-rows", &[0, 8], 4),
        ] {
            let k = dims[dims.len() - 1];
            for (i, act) in acts.into_iter().enumerate() {
                let bias = i > 0;
                if i > 1 && name != "prime" {
                    continue;
                }
                let recipe = move |b: &mut Build| {
                    let x = b.data(d, dims, Fill::Normal);
                    let w = b.weight(d, &[n, k], Fill::Scaled(0.3));
                    let bias = bias.then(|| b.weight(d, &[n], Fill::Normal));
                    let y = x.linear(&w, bias.as_ref(), act);
                    b.output(
                        &y,
                        if act.is_some() { Class::Composite { terms: k } } else { Class::Sum { terms: k } },
                    );
                };
                let variant = format!("{d}/{name}/{}", ["plain", "bias-gelu", "bias-silu", "bias-relu"][i]);
                if d == DType::F32 && dims[0] > 0 {
                    t.differentiable(L2, "linear", variant, k, recipe);
                } else {
                    t.values(L2, "linear", variant, recipe);
                }
            }
        }
    }
    for q in QUANTIZED {
        for d in FLOATS {
            for (name, rows, n, blocks) in [
                ("vector", 1usize, 7usize, 2usize),
                ("batch", 5, 33, 2),
                ("past-tile", 33, 65, 3),
                ("no-rows", 0, 4, 1),
            ] {
                let k = blocks * q.block_len();
                let forward = move |b: &mut Build| {
                    let (x, w) = (b.data(d, &[rows, k], Fill::Normal), b.weight(q, &[n, k], Fill::Normal));
                    record(
                        b,
                        Composite::QuantizedDot { transposed: false },
                        &[&x, &w],
                        Class::Sum { terms: k },
                    );
                };
                let variant = format!("{d}-{q}/{name}");
                if d == DType::F32 && rows > 0 {
                    t.differentiable(L2, "quantized_dot", &variant, k, forward);
                } else {
                    t.values(L2, "quantized_dot", &variant, forward);
                }
                // What is held in this type comes from formats that are never multiplied as integers.
                if q != DType::Q8X {
                    t.values(L2, "int8_dot", &variant, move |b| {
                        let (x, w) = (between_steps(b, d, [rows, k]), b.weight(q, &[n, k], Fill::Normal));
                        record(b, Composite::Int8Dot, &[&x, &w], Class::Sum { terms: k });
                    });
                }
                t.values(L2, "quantized_dot_transposed", &variant, move |b| {
                    let (g, w) = (b.data(d, &[rows, n], Fill::Normal), b.weight(q, &[n, k], Fill::Normal));
                    record(
                        b,
                        Composite::QuantizedDot { transposed: true },
                        &[&g, &w],
                        Class::Sum { terms: n },
                    );
                });
            }
        }
    }
}

/// Rows whose groups are rounded to int8 alike by whoever divides a little differently: no element is near
/// the middle between two whole numbers of its group's scale, though most are no whole number.
fn between_steps(b: &mut Build, d: DType, [rows, k]: [usize; 2]) -> Tensor {
    let group = percept_graph::INT8_GROUP;
    let thirds = b.data(DType::I32, &[rows, k / group, group - 1], Fill::Between(-381, 382));
    let greatest = b.data(DType::I32, &[rows, k / group, 1], Fill::All(381.0));
    let x = b.trace.op(Op::Concat { axis: 2 }, &[&thirds, &greatest]).cast(DType::F32) / 3.0;
    // bf16 keeps whole numbers only.
    let x = if d == DType::BF16 { x.floor() } else { x * 0.01 };
    x.reshape([rows, k]).cast(d)
}

fn activations(t: &mut Table) {
    for d in FLOATS {
        for a in Activation::ALL {
            for (name, dims, fill) in [
                ("prime/normal", &[7usize, 13] as &[usize], Fill::Normal),
                ("past-tile/normal", &[1025], Fill::Normal),
                ("one/normal", &[1], Fill::Normal),
                ("empty/normal", &[0, 3], Fill::Normal),
                ("past-tile/large", &[1025], Fill::Scaled(30.0)),
                ("past-tile/special", &[1025], Fill::Special),
            ] {
                let class = if fill == Fill::Normal {
                    Class::Composite { terms: 1 }
                } else {
                    Class::Composite { terms: 4 }
                };
                let one = move |b: &mut Build| {
                    let x = b.data(d, dims, fill);
                    b.output(&x.activate(a), class);
                };
                let gated = move |b: &mut Build| {
                    let (x, up) = (b.data(d, dims, fill), b.data(d, dims, Fill::Normal));
                    b.output(&x.gated(a, &up), class);
                };
                let variant = format!("{d}/{}/{name}", format!("{a:?}").to_lowercase());
                if name == "prime/normal" && d != DType::F16 {
                    t.differentiable(L2, "activate", &variant, 1, one);
                    t.differentiable(L2, "gated_activate", &variant, 1, gated);
                } else {
                    t.values(L2, "activate", &variant, one);
                    t.values(L2, "gated_activate", &variant, gated);
                }
            }
        }
    }
}

fn losses(t: &mut Table) {
    // The logits of ignored rows may be anything.
    t.values(L2, "cross_entropy_grad", "f32/ignored-nan", |b| {
        let [logits, lse, g] =
            [vec![3, 5], vec![3], vec![3]].map(|d| b.data(DType::F32, &d, Fill::All(f64::NAN)));
        let labels = b.integers(&[3], &[-100; 3]);
        let c = Composite::CrossEntropyGrad { ignore: -100, label_smoothing: 0.1 };
        record(b, c, &[&logits, &labels, &lse, &g], Class::Exact);
    });
    for d in FLOATS {
        for (name, n, v) in
            [("prime", 7usize, 13usize), ("one", 1, 1), ("past-tile", 3, 1025), ("none", 0, 5)]
        {
            for smoothing in [0.0f32, 0.1] {
                let class = Class::Composite { terms: v };
                let inputs = move |b: &mut Build| {
                    let logits = b.data(d, &[n, v], Fill::Scaled(3.0));
                    let mut labels: Vec<i64> = (0..n as i64).map(|i| i * 5 % v as i64).collect();
                    // One row is ignored.
                    if n > 1 {
                        labels[1] = -100;
                    }
                    (logits, b.integers(&[n], &labels))
                };
                let forward = move |b: &mut Build| {
                    let (logits, labels) = inputs(b);
                    let c = Composite::CrossEntropy { ignore: -100, label_smoothing: smoothing };
                    record(b, c, &[&logits, &labels], class);
                };
                let backward = move |b: &mut Build| {
                    let (logits, labels) = inputs(b);
                    let lse = b.data(DType::F32, &[n], Fill::All(4.0));
                    let g = b.data(DType::F32, &[n], Fill::Normal);
                    let c = Composite::CrossEntropyGrad { ignore: -100, label_smoothing: smoothing };
                    record(b, c, &[&logits, &labels, &lse, &g], class);
                };
                let variant = format!("{d}/{name}{}", if smoothing > 0.0 { "/smoothed" } else { "" });
                if n > 0 && v > 1 {
                    t.differentiable(L2, "cross_entropy", &variant, v, forward);
                } else {
                    t.values(L2, "cross_entropy", &variant, forward);
                }
                t.values(L2, "cross_entropy_grad", &variant, backward);
            }
        }
    }
}

fn embeddings(t: &mut Table) {
    for out in FLOATS {
        for table in QUANTIZED.into_iter().chain([out]) {
            for (name, ids) in [("tokens", &[2usize, 5] as &[usize]), ("one", &[]), ("none", &[0])] {
                let recipe = move |b: &mut Build| {
                    let d = if table.is_quantized() { table.block_len() } else { 13 };
                    let w = b.weight(table, &[11, d], Fill::Normal);
                    // Ids out of range are clamped.
                    let ids = b.data(DType::I32, ids, Fill::Between(-2, 14));
                    let class = if table.is_quantized() {
                        Class::Function { ulp: 1.0, floor: 0.5 }
                    } else {
                        Class::Exact
                    };
                    b.output(&w.embedding(&ids, out), class);
                };
                if table == DType::F32 {
                    t.differentiable(L2, "embedding", format!("{table}-{out}/{name}"), 16, recipe);
                } else {
                    t.values(L2, "embedding", format!("{table}-{out}/{name}"), recipe);
                }
            }
        }
    }
}

fn random_bits(t: &mut Table) {
    for (seed, values) in
        [("zero", [0.0, 0.0]), ("ones", [4294967295.0; 2]), ("mixed", [305419896.0, 2596069104.0])]
    {
        for stream in [0u32, 1, u32::MAX] {
            for (name, dims) in
                [("prime", &[7usize, 13] as &[usize]), ("past-tile", &[1025]), ("scalar", &[])]
            {
                let record = move |b: &mut Build, uniform: bool| {
                    let ty = TensorType::new(DType::U32, [2]);
                    let Ok(values) = HostTensor::from_f64(ty, &values) else { return };
                    let s = b.given(Role::Scalar, values);
                    let y =
                        if uniform { s.random_uniform(stream, dims) } else { s.random_bits(stream, dims) };
                    b.output(&y, Class::Exact);
                };
                let variant = format!("{seed}/{stream}/{name}");
                t.values(L2, "random_bits", &variant, move |b| record(b, false));
                t.values(L2, "random_uniform", &variant, move |b| record(b, true));
            }
        }
    }
}

fn adamw(t: &mut Table) {
    for (name, dims) in
        [("prime", &[7usize, 13] as &[usize]), ("past-tile", &[1025]), ("one", &[1]), ("empty", &[0, 3])]
    {
        for step in [1.0, 1000.0] {
            for in_place in [false, true] {
                let how = if in_place { "in-place" } else { "fresh" };
                t.values(L2, "adamw", format!("{name}/step{step}/{how}"), move |b| {
                    let ty = TensorType::new(DType::F32, dims);
                    let p = b.input(Role::State, ty.clone(), Fill::Normal);
                    let g = b.data(DType::F32, dims, Fill::Scaled(0.1));
                    let m = b.input(Role::State, ty.clone(), Fill::Scaled(0.1));
                    let v = b.input(Role::State, ty, Fill::Positive);
                    let lr = b.input(Role::Scalar, TensorType::new(DType::F32, []), Fill::All(1e-2));
                    let s = b.input(Role::Scalar, TensorType::new(DType::F32, []), Fill::All(step));
                    let c = Composite::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
                    let states = [&p, &m, &v];
                    for (y, x) in b.trace.ops(Op::Composite(c), &[&p, &g, &m, &v, &lr, &s]).iter().zip(states)
                    {
                        match in_place {
                            true => b.output_in_place(y, x, Class::Composite { terms: 1 }),
                            false => b.output(y, Class::Composite { terms: 1 }),
                        }
                    }
                });
            }
        }
    }
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    row_wise(t);
    linear(t);
    activations(t);
    losses(t);
    embeddings(t);
    random_bits(t);
    adamw(t);
}
