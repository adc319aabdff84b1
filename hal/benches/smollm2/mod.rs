//! A decoder of SmolLM2-135M's shape, timed on a device and in a bare loop in C over the same library. Benches of several crates
//! include this file by its path.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use percept_graph::{Activation, AttentionSpec, DType, Graph, Role, Tensor, TensorType, Trace};
use percept_hal::{Arg, Buffer, CompileOptions, Device, Executable, Weight};

const LAYERS: usize = 30;
const VOCABULARY: usize = 49152;
const HIDDEN: usize = 576;
const INNER: usize = 1536;
const HEADS: usize = 9;
const KEY_HEADS: usize = 3;
const FEATURES: usize = 64;
const ROOM: usize = 512;

/// One token over caches of `ROOM` rows.
pub fn step(dtype: DType) -> Graph {
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

/// Small numbers in every dtype: bytes whose halves and singles are. The bare loops fill weights alike.
pub fn small(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state & 0x27ff_27ff).to_le_bytes()
    };
    (0..bytes.div_ceil(4)).flat_map(|_| next()).take(bytes).collect()
}

/// A graph on a device, with what it runs on: weights of small numbers and zeros.
pub struct Running<'d> {
    device: &'d dyn Device,
    graph: &'d Graph,
    executable: Box<dyn Executable>,
    held: BTreeMap<String, Buffer>,
    /// Seconds of the compilation and the first run.
    pub first: f64,
}

impl<'d> Running<'d> {
    pub fn new(device: &'d dyn Device, graph: &'d Graph) -> Self {
        let held = graph.inputs().iter().map(|input| {
            let ty = graph.ty(input.value);
            let buffer = match input.role {
                Role::Parameter => {
                    let weight = Weight::new(ty.clone(), Arc::new(small(ty.bytes())));
                    device.load_weight(&weight.expect("the bytes of its type"))
                }
                _ => device.zeros(ty),
            };
            (input.name.clone(), buffer.expect("memory"))
        });
        let held = held.collect();
        let start = Instant::now();
        let options = CompileOptions { strict: true, ..CompileOptions::default() };
        let executable = device.compile(graph, &options).expect("it compiles");
        let mut running = Self { device, graph, executable, held, first: 0.0 };
        running.run();
        running.first = start.elapsed().as_secs_f64();
        running
    }

    /// One run; what replaces no input is read.
    fn run(&mut self) {
        let args = self.graph.inputs().iter().map(|input| match input.role {
            Role::State => Arg::Donate(self.held.remove(&input.name).expect("a cache")),
            _ => Arg::Borrow(self.held[&input.name].clone()),
        });
        let args: Vec<Arg> = args.collect();
        let outputs = self.executable.run(args).expect("it runs");
        for (output, buffer) in self.graph.outputs().iter().zip(outputs) {
            match output.alias {
                Some(_) => drop(self.held.insert(output.name.clone(), buffer)),
                None => drop(self.device.read(&buffer).expect("a result")),
            }
        }
    }

    /// The median time of some runs.
    pub fn time(&mut self, runs: usize) -> Duration {
        let mut times: Vec<Duration> = (0..runs)
            .map(|_| {
                let begin = Instant::now();
                self.run();
                begin.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[runs / 2]
    }
}

/// An input or an output of a program, as a bare loop reads it.
pub struct Argument {
    pub name: String,
    /// The library's number of its type.
    pub element: i32,
    pub is_weight: bool,
    /// Of an input: the output that takes its memory.
    pub replaced: Option<usize>,
    pub bytes: usize,
    pub dims: Vec<usize>,
}

/// Write the list of a program's arguments into a folder.
pub fn write_arguments(folder: &Path, inputs: &[Argument], outputs: &[Argument]) {
    let mut text = String::new();
    for (kind, list) in [("in", inputs), ("out", outputs)] {
        for a in list {
            let replaced = a.replaced.map_or(-1, |output| output as i64);
            let _ = write!(
                text,
                "{kind} {} {} {} {replaced} {} {}",
                a.name,
                a.element,
                i32::from(a.is_weight),
                a.bytes,
                a.dims.len()
            );
            a.dims.iter().for_each(|dim| text.push_str(&format!(" {dim}")));
            text.push('\n');
        }
    }
    std::fs::write(folder.join("arguments.txt"), text).expect("the list is written");
}

/// The bare loop of a crate, compiled.
pub fn bare(manifest: &str, folder: &Path) -> PathBuf {
    let (root, program) = (Path::new(manifest), folder.join("bare"));
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O2", "-I"]).arg(root.join("../benches/smollm2"));
    compiler.arg(root.join("benches/bare.c")).arg("-o").arg(&program).arg("-ldl");
    assert!(compiler.status().expect("a C compiler").success(), "the bare loop compiles");
    program
}

/// The median time of a bare loop's runs.
pub fn time_bare(program: &Path, words: &[&str]) -> Duration {
    let output = Command::new(program).args(words).output().expect("the bare loop starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = printed.trim().parse::<f64>();
    let micros = found.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    Duration::from_secs_f64(micros / 1e6)
}

/// One line: both times and how they compare.
pub fn print(what: &str, ours: Duration, bare: Duration) {
    let [ours_ms, bare_ms] = [ours, bare].map(|time| time.as_secs_f64() * 1e3);
    println!("{what:24} {ours_ms:10.3} ms, bare {bare_ms:10.3} ms, {:.3} times", ours_ms / bare_ms);
}
