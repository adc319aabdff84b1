//! Models as others read them: [check_models.py](check_models.py) has onnx.checker look at each, runs it with the
//! onnxruntime of Python and compares with the f64 reference. What it found is in models.json, with a hash of every
//! model; these tests hold what is written today to those hashes.
//!
//! After a change of the emitter: `PERCEPT_WRITE_MODELS=DIR cargo test -p percept-onnx --test it models`, then
//! `python3 hal/onnx/tests/it/check_models.py DIR hal/onnx/tests/it/models.json`.

use std::path::{Path, PathBuf};

use percept_graph::reference::evaluate;
use percept_graph::{
    Activation, AttentionSpec, Binary, Compare, DType, Graph, HostTensor, Interpolation, Literal, Op,
    PoolKind, ReduceKind, Role, ScatterKind, Tensor, TensorType, Trace, Unary, quantize,
};
use percept_onnx::{Family, Style, export};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A graph with values for its inputs.
struct Case {
    name: String,
    graph: Graph,
    inputs: Vec<HostTensor>,
}

/// Records a case: inputs come with values that are the same everywhere.
struct Build {
    trace: Trace,
    inputs: Vec<HostTensor>,
}

impl Build {
    fn input(&mut self, role: Role, ty: TensorType, values: &[f64]) -> Tensor {
        let name = format!("x{}", self.inputs.len());
        let tensor = if ty.dtype.is_quantized() {
            let floats: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            HostTensor::new(ty.clone(), quantize(ty.dtype, &floats).unwrap()).unwrap()
        } else {
            HostTensor::from_f64(ty.clone(), values).unwrap()
        };
        self.inputs.push(tensor);
        self.trace.input(name, role, ty)
    }

    /// Floats around 0, or whole numbers from 0 to 5.
    fn data(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        self.of(Role::Data, dtype, dims)
    }

    fn weight(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        self.of(Role::Parameter, dtype, dims)
    }

    fn of(&mut self, role: Role, dtype: DType, dims: &[usize]) -> Tensor {
        let ty = TensorType::new(dtype, dims);
        let seed = self.inputs.len() as u64 + 1;
        let value = |i: usize| {
            // The golden ratio's fraction spreads whole numbers evenly.
            let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_mul(2 * seed + 1);
            let unit = (bits >> 40) as f64 / (1u64 << 24) as f64;
            match dtype {
                DType::Bool => (unit > 0.5) as u8 as f64,
                _ if dtype.is_float() || dtype.is_quantized() => 4.0 * unit - 2.0,
                _ => (unit * 6.0).floor(),
            }
        };
        let values: Vec<f64> = (0..ty.numel()).map(value).collect();
        self.input(role, ty, &values)
    }

    fn integers(&mut self, dims: &[usize], values: &[i32]) -> Tensor {
        let values: Vec<f64> = values.iter().map(|&v| v as f64).collect();
        self.input(Role::Data, TensorType::new(DType::I32, dims), &values)
    }
}

fn cases() -> Vec<Case> {
    use DType::{BF16, Bool, F16, F32, I32, Q4_0, Q4_1, Q4K, Q6K, Q8_0, U32};
    let mut all = Vec::new();
    let mut add = |name: &str, record: &dyn Fn(&mut Build) -> Vec<Tensor>| {
        let mut b = Build { trace: Trace::new(name), inputs: Vec::new() };
        for (i, y) in record(&mut b).iter().enumerate() {
            b.trace.output(format!("y{i}"), y);
        }
        let graph = b.trace.finish().unwrap_or_else(|e| panic!("{name}: {e}"));
        all.push(Case { name: name.into(), graph, inputs: b.inputs });
    };
    add("functions", &|b| {
        let x = b.data(F32, &[5, 7]);
        let angles = Unary::ALL.into_iter().filter(|k| *k != Unary::Not);
        angles.map(|k| x.unary(k)).collect()
    });
    add("special-values", &|b| {
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 3e9, -3e9, 0.5];
        let x = b.input(Role::Data, TensorType::new(F32, [8]), &values);
        let y = b.data(F32, &[8]);
        let casts = [I32, U32, DType::U8, Bool].map(|to| x.cast(to));
        let more = [x.sign(), x.is_finite(), x.maximum(&y), x.max([0]), x.argmax(0), x.argmin(0)];
        casts.into_iter().chain(more).chain(x.sort(0, true, 8)).chain(x.sort(0, false, 5)).collect()
    });
    for d in [F32, F16, BF16] {
        add(&format!("arithmetic-{d}"), &|b| {
            let (x, y) = (b.data(d, &[3, 5]), b.data(d, &[3, 5]));
            use Binary::{Add, Div, Max, Min, Mul, Sub};
            [Add, Sub, Mul, Div, Max, Min].map(|k| x.binary(k, &y)).into()
        });
    }
    add("integers", &|b| {
        let x = b.integers(&[6], &[i32::MIN, -7, 7, 5, i32::MAX, 0]);
        let y = b.integers(&[6], &[-1, 2, -2, 0, 1, 33]);
        use Binary::{Add, Div, Max, Min, Mul, Rem, Shl, Shr, Sub};
        let signed = [Add, Sub, Mul, Div, Rem, Max, Min, Shl, Shr].map(|k| x.binary(k, &y));
        let (u, v) = (x.cast(U32), y.cast(U32));
        let unsigned = [Add, Mul, Div, Rem, Shr].map(|k| u.binary(k, &v));
        let compared = Compare::ALL.map(|k| b.trace.op(Op::Compare(k), &[&u, &v]));
        signed.into_iter().chain(unsigned).chain(compared).collect()
    });
    add("movement", &|b| {
        let x = b.data(F32, &[3, 4, 5]);
        let (p, q) = (b.integers(&[], &[9]), b.integers(&[], &[-3]));
        let part = b.data(F32, &[2, 4, 5]);
        vec![
            x.transpose([2, 0, 1]),
            x.reshape([12, 5]).broadcast([2, 12, 5], [1, 2]),
            x.slice([0, 1, 0], [3, 4, 5], [2, 1, 3]),
            x.pad(1.5, [1, 0, 2], [0, 1, 0], [1, 0, 2]),
            Tensor::concat(&[&x, &part], 0).unwrap(),
            x.dynamic_slice(&[&p, &q, &p], [2, 2, 5]),
            x.dynamic_update_slice(&part, &[&p, &q, &q]),
        ]
    });
    add("reductions", &|b| {
        let (x, n) = (b.data(F32, &[3, 4, 5]), b.data(I32, &[3, 4]));
        let p = b.data(Bool, &[3, 4]);
        use ReduceKind::{And, Max, Min, Or, Prod, Sum};
        let floats = [Sum, Prod, Max, Min].map(|k| x.reduce(k, [0, 2]));
        let integers = [Sum, Prod, Max, Min].map(|k| n.reduce(k, [1]));
        let unsigned = [Sum, Max].map(|k| n.cast(U32).reduce(k, [0]));
        let logic = [And, Or].map(|k| p.reduce(k, [1]));
        floats
            .into_iter()
            .chain(integers)
            .chain(unsigned)
            .chain(logic)
            .chain([x.cumsum(1), n.cumsum(0)])
            .collect()
    });
    add("indexing", &|b| {
        let x = b.data(F32, &[4, 5]);
        let at = b.integers(&[3], &[1, 7, -2]);
        let dropped = b.integers(&[4], &[2, -1, 2, 4]);
        let updates = b.data(F32, &[4, 5]);
        vec![
            x.gather(&at, 0),
            x.gather(&at, 1),
            x.scatter(ScatterKind::Set, &dropped, &updates, 0),
            x.scatter(ScatterKind::Add, &dropped, &updates, 0),
        ]
    });
    add("products", &|b| {
        let (x, y) = (b.data(F32, &[2, 3, 4]), b.data(F32, &[4, 2, 5]));
        let (n, m) = (b.data(I32, &[3, 4]), b.data(I32, &[4, 2]));
        vec![x.dot(&y, (&[0], &[1]), (&[2], &[0])), x.dot(&y, (&[], &[]), (&[0, 2], &[1, 0])), n.matmul(&m)]
    });
    add("network", &|b| {
        let x = b.data(F32, &[2, 6, 8]);
        let (w, bias, scale) = (b.weight(F32, &[12, 8]), b.weight(F32, &[12]), b.weight(F32, &[8]));
        let mut all = vec![
            x.softmax(),
            x.log_softmax(),
            x.rms_norm(&scale, 1e-5),
            x.rms_norm_unit_offset(&scale, 1e-6),
            x.layer_norm(&scale, &scale, 1e-5),
            x.linear(&w, Some(&bias), Some(Activation::GeluTanh)),
        ];
        all.extend(Activation::ALL.map(|a| x.activate(a)));
        all.push(x.gated(Activation::Silu, &x));
        all
    });
    add("pictures", &|b| {
        let (x, w) = (b.data(F32, &[2, 3, 9]), b.weight(F32, &[4, 3, 3]));
        let image = b.data(F32, &[1, 2, 4, 6]);
        vec![
            x.conv1d(&w, None, 2, 1),
            image.pool(PoolKind::Avg, [2, 3], [2, 3]),
            image.pool(PoolKind::Max, [2, 2], [1, 2]),
            image.patchify([2, 2]),
            image.upsample([8, 9], Interpolation::Bilinear { align_corners: false }),
        ]
    });
    for (name, interleaved, angles) in [("halves", false, 4), ("pairs", true, 4), ("partial", false, 2)] {
        add(&format!("rotary-{name}"), &|b| {
            let x = b.data(F32, &[2, 3, 4, 8]);
            let (cos, sin) = (b.data(F32, &[2, 4, angles]), b.data(F32, &[2, 4, angles]));
            vec![x.rope(&cos, &sin, interleaved)]
        });
    }
    add("attention", &|b| {
        let (q, k, v) = (b.data(F32, &[2, 4, 3, 8]), b.data(F32, &[2, 2, 6, 8]), b.data(F32, &[2, 2, 6, 8]));
        let (offset, len) = (b.integers(&[2], &[2, 0]), b.integers(&[2], &[5, 0]));
        let mut spec = AttentionSpec::causal(0.35);
        let causal = q.attention(&k, &v, &[], spec.clone());
        (spec.offset, spec.kv_len, spec.window, spec.soft_cap) = (true, true, Some(4), Some(20.0));
        let cached = q.attention(&k, &v, &[&offset, &len], spec);
        vec![causal, cached, q.attention(&k, &v, &[], AttentionSpec::full(0.35))]
    });
    add("cache", &|b| {
        let (cache, new) = (b.data(F32, &[2, 2, 6, 4]), b.data(F32, &[2, 2, 3, 4]));
        let [inside, edge, outside] = [[1, 3], [-1, 5], [6, -3]].map(|p| b.integers(&[2], &p));
        let table = b.integers(&[2, 2], &[1, 0, 2, 3]);
        let pool = b.data(F32, &[4, 2, 3, 4]);
        vec![
            cache.kv_append(&new, &inside, None),
            cache.kv_append(&new, &edge, None),
            cache.kv_append(&new, &outside, None),
            pool.kv_append(&new, &inside, Some(&table)),
        ]
    });
    for d in [Q8_0, Q4_0, Q4_1, Q4K, Q6K] {
        add(&format!("quantized-{d}"), &|b| {
            let x = b.data(F32, &[3, 256]);
            let w = b.weight(d, &[16, 256]);
            let ids = b.integers(&[3], &[5, 0, 15]);
            vec![x.linear(&w, None, None), w.embedding(&ids, F32), w.dequantize(F32)]
        });
    }
    add("constants", &|b| {
        let x = b.data(F32, &[2, 3]);
        let dense = Literal::dense(TensorType::new(F32, [2, 3]), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let counted = b.trace.iota(F32, [2, 3], 1);
        vec![&x + &b.trace.constant(dense), &x * &counted, x.clone(), counted, x.barrier()]
    });
    all
}

const STYLES: [(Family, i64); 4] =
    [(Family::Plain, 17), (Family::Plain, 26), (Family::Fused, 23), (Family::Microsoft, 26)];

/// The model of a case, or why there is none.
fn model(case: &Case, style: Style, folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join(format!("{}.{}{}.onnx", case.name, style.family, style.opset));
    let weight = |i: usize| Some(case.inputs[i].bytes());
    export(&case.graph, style, &weight, &path).map_err(|e| e.to_string())?;
    Ok(path)
}

/// A tensor for Python: its dtype, shape and values; 16 bits of bf16 as they are.
fn values(t: &HostTensor) -> Value {
    let numbers: Vec<Value> =
        t.values().into_iter().map(|v| if v.is_finite() { json!(v) } else { json!(v.to_string()) }).collect();
    json!({ "dtype": t.ty().dtype.name(), "dims": t.ty().dims, "values": numbers })
}

#[test]
fn models_are_those_that_others_have_checked() {
    let written = std::env::var_os("PERCEPT_WRITE_MODELS").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let folder = written.as_deref().unwrap_or(temporary.path());
    let checked: Value = serde_json::from_str(include_str!("models.json")).unwrap();
    let mut index = Vec::new();
    let mut stale = Vec::new();
    for case in cases() {
        let outputs = evaluate(&case.graph, &case.inputs).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        for (family, opset) in STYLES {
            let style = Style::new(family, Some(opset)).unwrap();
            let id = format!("{}.{family}{opset}", case.name);
            let (hash, refused) = match model(&case, style, folder) {
                Ok(path) => {
                    let digest = Sha256::digest(std::fs::read(path).unwrap());
                    (digest.iter().map(|b| format!("{b:02x}")).collect::<String>(), Value::Null)
                }
                Err(why) => (String::new(), json!(why)),
            };
            let known = &checked["models"][&id];
            if known["sha256"] != json!(hash) || known["refused"] != refused {
                stale.push(id.clone());
            }
            let given = |(input, t): (&percept_graph::Input, &HostTensor)| {
                let constant = input.role == Role::Parameter;
                (!constant).then(|| json!({ "name": input.name, "tensor": values(t) }))
            };
            let inputs: Vec<Value> = case.graph.inputs().iter().zip(&case.inputs).filter_map(given).collect();
            let outputs: Vec<Value> = outputs.iter().map(values).collect();
            index.push(
                json!({ "id": id, "sha256": hash, "refused": refused, "inputs": inputs, "outputs": outputs }),
            );
        }
    }
    if written.is_some() {
        std::fs::write(folder.join("index.json"), json!(index).to_string()).unwrap();
        return;
    }
    assert!(
        stale.is_empty(),
        "written differently than what was checked; see the head of models.rs: {stale:?}"
    );
    let failed = checked["models"].as_object().unwrap().iter().filter(|(_, m)| !m["fault"].is_null());
    assert_eq!(failed.map(|(id, _)| id.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
}
