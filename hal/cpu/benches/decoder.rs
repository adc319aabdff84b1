//! Steps of a language model of SmolLM2-135M's shape in Q4_1 over a KV cache, whole and operation by operation.
//!
//! `cargo bench -p percept-cpu --bench decoder [-- FILTER]`; `PERCEPT_THREADS` sets the team (default 2).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use percept_graph::{Activation, AttentionSpec, DType, Graph, Role, Tensor, TensorType, Trace};
use percept_hal::{Arg, Buffer, CompileOptions, Device};

const LAYERS: usize = 30;
const VOCABULARY: usize = 49152;
const HIDDEN: usize = 576;
const MLP: usize = 1536;
const HEADS: usize = 9;
const KEY_HEADS: usize = 3;
const HEAD: usize = 64;

/// `t` tokens over caches of `room` rows; the logits are the last token's.
fn decoder(t: usize, room: usize, weight: DType) -> Graph {
    let trace = Trace::new("decoder");
    let ids = trace.data("ids", DType::I32, [1, t]);
    let pos = trace.data("pos", DType::I32, [1]);
    let frequencies: Vec<f64> = (0..HEAD / 2).map(|i| 1e5f64.powf(-(i as f64) * 2.0 / HEAD as f64)).collect();
    let positions = trace.iota(DType::I32, [1, t], 1) + pos.broadcast([1, t], [0]);
    let [cos, sin] = positions.rope_angles(&frequencies);
    let live = &pos + t as f64;
    let table = trace.parameter("embed", weight, [VOCABULARY, HIDDEN]);
    let mut x = table.embedding(&ids, DType::F32);
    for layer in 0..LAYERS {
        let matrix =
            |name: &str, n: usize, k: usize| trace.parameter(format!("{layer}.{name}"), weight, [n, k]);
        let norm = |name: &str| trace.parameter(format!("{layer}.{name}"), DType::F32, [HIDDEN]);
        let split = |y: Tensor, heads: usize| y.reshape([1, t, heads, HEAD]).transpose([0, 2, 1, 3]);
        let h = x.rms_norm(&norm("norm1"), 1e-5);
        let q = split(h.linear(&matrix("q", HEADS * HEAD, HIDDEN), None, None), HEADS);
        let k = split(h.linear(&matrix("k", KEY_HEADS * HEAD, HIDDEN), None, None), KEY_HEADS);
        let v = split(h.linear(&matrix("v", KEY_HEADS * HEAD, HIDDEN), None, None), KEY_HEADS);
        let cache = |name: &str| {
            let ty = TensorType::new(DType::F32, [1, KEY_HEADS, room, HEAD]);
            trace.input(format!("{layer}.{name}"), Role::State, ty)
        };
        let (k_cache, v_cache) = (cache("k_cache"), cache("v_cache"));
        let keys = k_cache.kv_append(&k.rope(&cos, &sin, false), &pos, None);
        let values = v_cache.kv_append(&v, &pos, None);
        trace.output_in_place(format!("{layer}.k_cache"), &keys, &k_cache);
        trace.output_in_place(format!("{layer}.v_cache"), &values, &v_cache);
        let spec = AttentionSpec { offset: true, kv_len: true, ..AttentionSpec::causal(0.125) };
        let a = q.rope(&cos, &sin, false).attention(&keys, &values, &[&pos, &live], spec);
        let a = a.transpose([0, 2, 1, 3]).reshape([1, t, HEADS * HEAD]);
        x = &x + a.linear(&matrix("o", HIDDEN, HEADS * HEAD), None, None);
        let h = x.rms_norm(&norm("norm2"), 1e-5);
        let gate = h.linear(&matrix("gate", MLP, HIDDEN), None, None);
        let up = h.linear(&matrix("up", MLP, HIDDEN), None, None);
        x = &x + gate.gated(Activation::Silu, &up).linear(&matrix("down", HIDDEN, MLP), None, None);
    }
    let last = x.slice([0, t - 1, 0], [1, t, HIDDEN], [1, 1, 1]);
    let logits =
        last.rms_norm(&trace.parameter("norm", DType::F32, [HIDDEN]), 1e-5).linear(&table, None, None);
    trace.output("logits", &logits);
    trace.finish().unwrap()
}

/// Bytes whose scales and values are small in every dtype.
fn random(bytes: usize) -> Vec<u8> {
    let mut seed = bytes as u64 | 1;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 8) & 0x27ff_27ff_27ff_27ff).to_le_bytes()
    };
    let mut all: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| next()).collect();
    all.truncate(bytes);
    all
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let threads = std::env::var("PERCEPT_THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(2);
    let device = percept_cpu::open(threads).unwrap();
    let mut weights: BTreeMap<String, Buffer> = BTreeMap::new();
    for weight in [DType::Q4_1, DType::Q8_0] {
        weights.clear();
        for (t, depth) in [(1, 0), (1, 512), (1, 2000), (16, 0), (512, 0)] {
            let label = format!("{weight} t={t} depth={depth}");
            if !label.contains(&filter) {
                continue;
            }
            let graph = decoder(t, 2048, weight);
            let executable =
                device.compile(&graph, &CompileOptions { strict: true, ..Default::default() }).unwrap();
            let mut caches: Vec<Buffer> = Vec::new();
            let (mut times, mut traced): (Vec<Duration>, BTreeMap<String, (f64, usize)>) = Default::default();
            let started = Instant::now();
            while times.len() < 6 || (started.elapsed() < Duration::from_millis(1500) && times.len() < 200) {
                let mut kept = std::mem::take(&mut caches).into_iter();
                let args: Vec<Arg> = graph
                    .inputs()
                    .iter()
                    .map(|input| {
                        let ty = graph.ty(input.value);
                        let upload = |x: &[i32]| device.upload(ty, bytemuck::cast_slice(x)).unwrap();
                        match (input.name.as_str(), input.role) {
                            ("ids", _) => Arg::Borrow(upload(&vec![7; t])),
                            ("pos", _) => Arg::Borrow(upload(&[depth])),
                            (_, Role::State) => {
                                Arg::Donate(kept.next().unwrap_or_else(|| device.zeros(ty).unwrap()))
                            }
                            (name, _) => Arg::Borrow(
                                weights
                                    .entry(name.to_string())
                                    .or_insert_with(|| device.upload(ty, &random(ty.bytes())).unwrap())
                                    .clone(),
                            ),
                        }
                    })
                    .collect();
                let begin = Instant::now();
                let outputs = if times.len() % 2 == 0 {
                    let outputs = executable.run(args).unwrap();
                    times.push(begin.elapsed());
                    outputs
                } else {
                    let (outputs, events) = executable.run_timed(args).unwrap();
                    times.push(Duration::MAX);
                    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
                    for event in events {
                        let sum = sums.entry(event.name.to_string()).or_default();
                        *sum = (sum.0 + event.duration_us, sum.1 + 1);
                    }
                    for (name, sum) in sums {
                        let least = traced.entry(name).or_insert((f64::INFINITY, 0));
                        *least = (least.0.min(sum.0), sum.1);
                    }
                    outputs
                };
                caches = outputs[..outputs.len() - 1].to_vec();
            }
            let least = times.iter().min().unwrap().as_secs_f64();
            println!("{label:26} {:8.2} ms {:8.1} tokens/s", least * 1e3, t as f64 / least);
            for (name, (time, count)) in traced {
                println!("    {name:24} {count:5} x {:9.2} us", time / count as f64);
            }
        }
    }
}
