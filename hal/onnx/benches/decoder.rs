//! What a call costs, and a step of a language model of SmolLM2-135M's shape over a KV cache that is written in place.
//!
//! `PERCEPT_ONNXRUNTIME=/path/libonnxruntime.so cargo bench -p percept-onnx --bench decoder [-- OPTIONS]`, with the options
//! of an id, such as `threads=2`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use percept_graph::{Activation, AttentionSpec, DType, Graph, Role, Tensor, TensorType, Trace};
use percept_hal::{Arg, Backend, Buffer, CompileOptions, Device};
use percept_onnx::OnnxBackend;

const LAYERS: usize = 30;
const VOCABULARY: usize = 49152;
const HIDDEN: usize = 576;
const INNER: usize = 1536;
const HEADS: usize = 9;
const KEY_HEADS: usize = 3;
const FEATURES: usize = 64;
const ROOM: usize = 512;

/// One token over caches of `ROOM` rows.
fn step(dtype: DType) -> Graph {
    let trace = Trace::new("step");
    let (ids, pos) = (trace.data("ids", DType::I32, [1, 1]), trace.data("pos", DType::I32, [1]));
    let [cos, sin] = ["cos", "sin"].map(|name| trace.data(name, DType::F32, [1, 1, FEATURES / 2]));
    let table = trace.parameter("table", dtype, [VOCABULARY, HIDDEN]);
    let mut x = table.embedding(&ids, DType::F32);
    for layer in 0..LAYERS {
        let product = |x: &Tensor, name: &str, n: usize| {
            let k = x.dim(x.rank() - 1);
            x.linear(&trace.parameter(format!("{layer}.{name}"), dtype, [n, k]), None, None)
        };
        let norm = |x: &Tensor, name: &str| {
            x.rms_norm(&trace.parameter(format!("{layer}.{name}"), DType::F32, [HIDDEN]), 1e-5)
        };
        let heads = |x: Tensor, n: usize| x.reshape([1, 1, n, FEATURES]).transpose([0, 2, 1, 3]);
        let h = norm(&x, "before");
        let q = heads(product(&h, "q", HEADS * FEATURES), HEADS).rope(&cos, &sin, false);
        let k = heads(product(&h, "k", KEY_HEADS * FEATURES), KEY_HEADS).rope(&cos, &sin, false);
        let v = heads(product(&h, "v", KEY_HEADS * FEATURES), KEY_HEADS);
        let [k, v] = [("keys", k), ("values", v)].map(|(name, new)| {
            let ty = TensorType::new(DType::F32, [1, KEY_HEADS, ROOM, FEATURES]);
            let cache = trace.input(format!("{layer}.{name}"), Role::State, ty);
            let next = cache.kv_append(&new, &pos, None);
            trace.output_in_place(format!("{layer}.{name}"), &next, &cache);
            next
        });
        let live = &pos + 1.0;
        let spec = AttentionSpec { offset: true, kv_len: true, ..AttentionSpec::causal(0.125) };
        let seen = q.attention(&k, &v, &[&pos, &live], spec).reshape([1, 1, HEADS * FEATURES]);
        x = &x + product(&seen, "o", HIDDEN);
        let h = norm(&x, "between");
        let inner = product(&h, "gate", INNER).gated(Activation::Silu, &product(&h, "up", INNER));
        x = &x + product(&inner, "down", HIDDEN);
    }
    let last = x.rms_norm(&trace.parameter("norm", DType::F32, [HIDDEN]), 1e-5);
    trace.output("logits", &last.linear(&table, None, None));
    trace.finish().expect("a decoder")
}

/// x + 1 on four floats.
fn smallest() -> Graph {
    let trace = Trace::new("smallest");
    trace.output("y", &(trace.data("x", DType::F32, [4]) + 1.0));
    trace.finish().expect("a sum")
}

/// Small numbers in every dtype: bytes whose halves and singles are.
fn small(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state & 0x27ff_27ff).to_le_bytes()
    };
    (0..bytes.div_ceil(4)).flat_map(|_| next()).take(bytes).collect()
}

/// The median time of a run, and that of the first with the compilation.
fn time(device: &dyn Device, graph: &Graph, runs: usize) -> (Duration, Duration) {
    let mut held: BTreeMap<String, Buffer> = BTreeMap::new();
    for input in graph.inputs() {
        let ty = graph.ty(input.value);
        let zeros = input.role != Role::Parameter;
        let bytes = if zeros { vec![0; ty.bytes()] } else { small(ty.bytes()) };
        held.insert(input.name.clone(), device.upload(ty, &bytes).expect("memory"));
    }
    let start = Instant::now();
    let options = CompileOptions { strict: true, ..CompileOptions::default() };
    let executable = device.compile(graph, &options).expect("it compiles");
    let mut times = Vec::new();
    let mut first = Duration::ZERO;
    for _ in 0..runs {
        let args = graph.inputs().iter().map(|input| match input.role {
            Role::State => Arg::Donate(held.remove(&input.name).expect("a cache")),
            _ => Arg::Borrow(held[&input.name].clone()),
        });
        let args: Vec<Arg> = args.collect();
        let begin = Instant::now();
        let outputs = executable.run(args).expect("it runs");
        if times.is_empty() {
            first = start.elapsed();
        }
        times.push(begin.elapsed());
        for (output, buffer) in graph.outputs().iter().zip(outputs) {
            if output.alias.is_some() {
                held.insert(output.name.clone(), buffer);
            }
        }
    }
    times.sort_unstable();
    (times[runs / 2], first)
}

fn main() {
    let Ok(library) = std::env::var("PERCEPT_ONNXRUNTIME") else {
        println!("PERCEPT_ONNXRUNTIME names no library");
        return;
    };
    let options = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let device = OnnxBackend.open(&format!("onnx:{library}?{options}")).expect("the device opens");
    let (call, _) = time(&*device, &smallest(), 2000);
    println!("{:24} {:10.1} us", "a sum of four floats", call.as_secs_f64() * 1e6);
    for dtype in [DType::F32, DType::Q4_0, DType::Q4_1, DType::Q8_0] {
        let (step, first) = time(&*device, &step(dtype), 12);
        let (ms, first) = (step.as_secs_f64() * 1e3, first.as_secs_f64());
        println!("{:24} {ms:10.2} ms, {:.1} tokens/s, first after {first:.2} s", dtype.name(), 1e3 / ms);
    }
}
