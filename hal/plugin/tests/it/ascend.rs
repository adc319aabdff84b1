//! The plug-in in `examples/vendor-ascend`, on the stand-in for its libraries, which ends the process when one of their
//! rules is broken. Here the stand-in is the 910B; in [`a_chip_without_bf16_runs_what_it_has`] it is the 310P.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use percept_graph::{
    Activation, AttentionSpec, DType, Graph, HostTensor, Tensor, TensorType, Trace, quantize, reference,
};
use percept_hal::conformance::{Level, Options, ReferenceDevice, Report, Runner, Status, run};
use percept_hal::{Arg, Buffer, CompileOptions, Device, Executable, Placement};
use percept_plugin::PluginBackend;
use tempfile::TempDir;

use crate::needs;
use crate::worker::{in_workers, subject};

/// The sample, its stand-in and the program that breaks rules: one build for all tests of the process, since the plug-in
/// keeps the libraries that it loaded first.
fn built() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<TempDir>> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let there = Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success());
        (there && cfg!(target_os = "linux")).then(|| build(&["breaks"], ""))
    });
    if folder.is_none() {
        needs::skip("the Ascend sample is built on Linux with cc; install a compiler of C");
    }
    folder.as_ref().map(TempDir::path)
}

/// Run the sample's own script.
fn build(what: &[&str], flags: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vendor-ascend/build.sh");
    let mut command = Command::new("sh");
    let output =
        command.arg(script).arg(folder.path()).args(what).env("CFLAGS", flags).output().expect("sh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// The id of the sample's device on its stand-in.
fn id(folder: &Path) -> String {
    let file = folder.join("libpercept_ascend.so");
    format!("plugin:{}?libraries={}", file.display(), folder.join("fake").display())
}

/// The stand-in counts for the whole process, so tests of this module that run something take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the stand-in has counted under a name.
fn count(folder: &Path, name: &str) -> i64 {
    let name = CString::new(name).expect("no zero byte");
    // SAFETY: the library is loaded already, and the function has this signature, in fake/runtime.c.
    unsafe {
        let library = libloading::Library::new(folder.join("fake/libascendcl.so")).expect("the stand-in");
        let count: libloading::Symbol<'_, unsafe extern "C" fn(*const c_char) -> i64> =
            library.get(b"fake_ascend_count").expect("the stand-in's own function");
        count(name.as_ptr())
    }
}

fn check(report: &Report) -> [usize; 3] {
    let mut placed = [0usize; 3];
    for o in &report.outcomes {
        // The library has nothing like these operations: where they run on the host is no loss of the plug-in's.
        let foreign = ["ragged", "gated_delta", "short_conv"].iter().any(|op| o.case.contains(op));
        if let Some(at) = o.placement.filter(|at| !foreign || *at != Placement::Host) {
            placed[at as usize] += 1;
        }
    }
    let bad = report.outcomes.iter().filter(|o| o.status != Status::Passed);
    let failures: Vec<String> = bad.map(|o| format!("{}: {:?} {}", o.case, o.status, o.note)).collect();
    let all = report.outcomes.len();
    println!("{all} cases, {} failures; native, decomposed, host: {placed:?}", failures.len());
    assert!(failures.is_empty(), "{} of {all}:\n{}", failures.len(), failures.join("\n"));
    placed
}

#[test]
fn the_ladder_is_climbed_on_the_stand_in() {
    let Some(folder) = built() else { return };
    let _turn = turn();
    let before = count(folder, "live_objects");
    let placed = {
        let subject = subject(&id(folder)).unwrap();
        let options = Options { level: Level::L3, ..Options::default() };
        let report = run("ascend", &Runner::InProcess(&subject), &options, &mut |_, _, _| {}).unwrap();
        for op in [
            "attention",
            "rms_norm",
            "layer_norm",
            "rope",
            "softmax",
            "dot",
            "quantized_dot",
            "kv_append",
            "adamw",
        ] {
            let native = report.outcomes.iter().any(|o| o.op == op && o.placement == Some(Placement::Native));
            assert!(native, "{op} is never native");
        }
        check(&report)
    };
    assert!(placed[Placement::Native as usize] > 3000, "{placed:?}");
    assert!(placed[Placement::Host as usize] < 200, "{placed:?}");
    assert_eq!(count(folder, "live_objects"), before, "handles of the library are left");
}

#[test]
fn every_broken_rule_is_named() {
    let Some(folder) = built() else { return };
    let program = folder.join("breaks");
    let list = Command::new(&program).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for line in list.lines() {
        let (name, says) = line.split_once(' ').expect("a name and a text");
        let output = Command::new(&program).arg(name).output().unwrap();
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
        assert!(text.contains(says), "'{name}' is to say '{says}', and says: {text}");
        let ends = output.status.success();
        assert_eq!(ends, says == "sound" || says.starts_with("refused: "), "'{name}': {text}");
    }
    assert!(list.lines().count() > 20, "{list}");
}

#[test]
fn a_chip_without_bf16_runs_what_it_has() {
    let Some(_) = built() else { return };
    let folder = build(&["fake"], "-DFAKE_ASCEND_310P");
    let device = id(folder.path());
    let placed = |filter: &str| check(&in_workers(&device, filter, Duration::from_secs(60)).unwrap());
    let [native, _, host] = placed("L1/mul/f16");
    assert!(native > 0 && host == 0);
    // No bf16, products of f32 only as those of f16, which were not asked for, and no LayerNorm. Only what has no elements
    // is native then: there is nothing to ask the library for.
    for lacking in ["L1/mul/bf16", "L1/dot/f32-f32", "L2/layer_norm/f16"] {
        let [native, _, host] = placed(lacking);
        assert!(host > 3 && native < host, "{lacking}: {native} native, {host} by the host");
    }
}

/// A decoder of two layers that generates one token at a time, in f16 with quantized weights and a paged cache.
struct Decoder {
    graph: Graph,
    weights: Vec<(String, HostTensor)>,
}

const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD: usize = 16;
const VOCABULARY: usize = 97;
const PAGES: usize = 8;
const PAGE: usize = 16;

/// Numbers of both signs that differ, the same each time.
fn numbers(count: usize, seed: u64, scale: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..count).map(|_| next() * scale).collect()
}

impl Decoder {
    fn new() -> Self {
        let trace = Trace::new("decoder");
        let mut weights = Vec::new();
        let mut weight = |name: String, dtype: DType, dims: &[usize]| {
            let seed = weights.len() as u64 + 1;
            let count = dims.iter().product();
            let tensor = match dtype {
                DType::F16 if dims.len() == 1 => {
                    let near_one: Vec<f64> = numbers(count, seed, 0.2).iter().map(|v| 1.0 + v).collect();
                    HostTensor::from_f64(TensorType::new(dtype, dims), &near_one).unwrap()
                }
                DType::F16 => {
                    HostTensor::from_f64(TensorType::new(dtype, dims), &numbers(count, seed, 1.0)).unwrap()
                }
                _ => {
                    let values: Vec<f32> = numbers(count, seed, 0.3).iter().map(|&v| v as f32).collect();
                    HostTensor::new(TensorType::new(dtype, dims), quantize(dtype, &values).unwrap()).unwrap()
                }
            };
            let parameter = trace.parameter(&name, dtype, dims);
            weights.push((name, tensor));
            parameter
        };
        let table = weight("embedding".into(), DType::F16, &[VOCABULARY, WIDTH]);
        let id = trace.data("id", DType::I32, [1, 1]);
        let position = trace.data("position", DType::I32, [1]);
        let length = trace.data("length", DType::I32, [1]);
        let pages = trace.data("pages", DType::I32, [1, 4]);
        let cos = trace.data("cos", DType::F32, [1, 1, HEAD / 2]);
        let sin = trace.data("sin", DType::F32, [1, 1, HEAD / 2]);
        let split = |x: &Tensor, heads: usize| x.reshape([1, 1, heads, HEAD]).transpose([0, 2, 1, 3]);
        let mut x = table.embedding(&id, DType::F16);
        for layer in 0..2 {
            let _scope = trace.scope(format!("layers.{layer}"));
            let mut matrix = |name: &str, dtype: DType, rows: usize, columns: usize| {
                weight(format!("{layer}.{name}"), dtype, &[rows, columns])
            };
            let [wq, wk, wv] = [("q", WIDTH), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)]
                .map(|(name, rows)| matrix(name, DType::Q8_0, rows, WIDTH));
            let [wo, gate, up] = [("o", WIDTH), ("gate", 2 * WIDTH), ("up", 2 * WIDTH)]
                .map(|(name, rows)| matrix(name, DType::Q4_0, rows, WIDTH));
            let down = matrix("down", DType::Q4_1, WIDTH, 2 * WIDTH);
            let [norm1, norm2] =
                ["norm1", "norm2"].map(|n| weight(format!("{layer}.{n}"), DType::F16, &[WIDTH]));
            let h = x.rms_norm(&norm1, 1e-5);
            let q = split(&h.linear(&wq, None, None), HEADS).rope(&cos, &sin, false);
            let k = split(&h.linear(&wk, None, None), KV_HEADS).rope(&cos, &sin, false);
            let v = split(&h.linear(&wv, None, None), KV_HEADS);
            let [keys, values] = [("keys", k), ("values", v)].map(|(name, new)| {
                let name = format!("{layer}.{name}");
                let pool = trace.data(&name, DType::F16, [PAGES, KV_HEADS, PAGE, HEAD]);
                let pool_after = pool.kv_append(&new, &position, Some(&pages));
                trace.output_in_place(name, &pool_after, &pool);
                pool_after
            });
            let spec =
                AttentionSpec { offset: true, kv_len: true, paged: true, ..AttentionSpec::causal(1.0 / 4.0) };
            let seen = q.attention(&keys, &values, &[&position, &length, &pages], spec);
            let seen = seen.transpose([0, 2, 1, 3]).reshape([1, 1, WIDTH]);
            x = x + seen.linear(&wo, None, None);
            let h = x.rms_norm(&norm2, 1e-5);
            let inner = h.linear(&gate, None, None).gated(Activation::Silu, &h.linear(&up, None, None));
            x = x + inner.linear(&down, None, None);
        }
        trace.output("logits", &x.linear(&table, None, None).cast(DType::F32));
        Self { graph: trace.finish().unwrap(), weights }
    }

    fn start<'a>(&'a self, device: &'a dyn Device) -> Generation<'a> {
        let program = device.compile(&self.graph, &CompileOptions::default()).unwrap();
        let buffers = self.graph.inputs().iter().map(|input| {
            let ty = self.graph.ty(input.value);
            let weight = self.weights.iter().find(|(name, _)| *name == input.name);
            match weight {
                Some((_, tensor)) => device.upload(ty, tensor.bytes()).unwrap(),
                None => device.zeros(ty).unwrap(),
            }
        });
        let buffers = buffers.collect();
        Generation { decoder: self, device, program, buffers, position: 0 }
    }
}

struct Generation<'a> {
    decoder: &'a Decoder,
    device: &'a dyn Device,
    program: Box<dyn Executable>,
    /// One for each input of the graph.
    buffers: Vec<Buffer>,
    position: i32,
}

impl Generation<'_> {
    /// The logits after one more token.
    fn step(&mut self, token: i32) -> Vec<f32> {
        let graph = &self.decoder.graph;
        let angle = |i: usize| f64::from(self.position) / 100f64.powf(i as f64 / 8.0);
        let angles = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..HEAD / 2).map(|i| f(angle(i)) as f32).collect();
            HostTensor::from_f32([1, 1, HEAD / 2], &values).unwrap()
        };
        let whole = |dims: &[usize], values: &[i32]| HostTensor::from_i32(dims, values).unwrap();
        for (input, buffer) in graph.inputs().iter().zip(&mut self.buffers) {
            let tensor = match input.name.as_str() {
                "id" => whole(&[1, 1], &[token]),
                "position" => whole(&[1], &[self.position]),
                "length" => whole(&[1], &[self.position + 1]),
                "pages" => whole(&[1, 4], &[5, 2, 7, 0]),
                "cos" => angles(f64::cos),
                "sin" => angles(f64::sin),
                _ => continue,
            };
            // The old one goes first, so that the new one may take its place.
            *buffer = self.device.zeros(&TensorType::new(DType::F32, [1])).unwrap();
            *buffer = self.device.upload(tensor.ty(), tensor.bytes()).unwrap();
        }
        self.position += 1;
        let replaced: Vec<Option<usize>> = graph.outputs().iter().map(|o| o.alias).collect();
        let mut owned: Vec<Option<Buffer>> =
            std::mem::take(&mut self.buffers).into_iter().map(Some).collect();
        let args = owned.iter_mut().enumerate().map(|(i, b)| match replaced.contains(&Some(i)) {
            true => Arg::Donate(b.take().expect("once")),
            false => Arg::Borrow(b.clone().expect("kept")),
        });
        let outputs = self.program.run(args.collect()).unwrap();
        let mut logits = Vec::new();
        for (output, to) in outputs.into_iter().zip(replaced) {
            match to {
                Some(i) => owned[i] = Some(output),
                None => logits = self.device.read(&output).unwrap(),
            }
        }
        self.buffers = owned.into_iter().map(|b| b.expect("donated and given back")).collect();
        logits.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

#[test]
fn a_decoder_generates_without_the_host_and_asks_for_workspaces_once() {
    let Some(folder) = built() else { return };
    let _turn = turn();
    let decoder = Decoder::new();
    let device = PluginBackend::default().open_device(&id(folder)).unwrap();
    let reference = ReferenceDevice::new();
    // Without a host device, compiling fails when an operation would need one.
    let mut ours = decoder.start(device.as_ref());
    let mut exact = decoder.start(&reference);
    let native = ours.program.report().placed.iter().filter(|p| p.placement == Placement::Native).count();
    let all = ours.program.report().placed.len();
    println!("{native} of {all} operations are native; {} launches", ours.program.report().launches);
    let counted = |name: &str| count(folder, name);
    let mut queries = Vec::new();
    let mut token = 3;
    for _ in 0..20 {
        let (got, expected) = (ours.step(token), exact.step(token));
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let error = got.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(error <= 0.01 * largest, "logits differ by {error}, the largest is {largest}");
        token = (0..VOCABULARY).max_by(|&a, &b| expected[a].total_cmp(&expected[b])).unwrap() as i32;
        queries.push(counted("workspace_queries"));
    }
    println!("workspace queries after each step: {queries:?}; replays: {}", counted("replays"));
    assert_eq!(queries[2], queries[19], "steps ask for workspaces again");
    assert!(counted("replays") >= 15, "steps are not replayed");
}

/// A weight lies repacked beside its blocks, and a recorded program has its address: when other blocks are written there,
/// it is repacked again.
#[test]
fn blocks_that_are_written_again_are_repacked_for_a_replay() {
    let Some(folder) = built() else { return };
    let _turn = turn();
    let trace = Trace::new("products");
    let x = trace.data("x", DType::F16, [3, WIDTH]);
    let w = trace.parameter("w", DType::Q8_0, [WIDTH, WIDTH]);
    let y = (0..6).fold(x, |x, _| x.linear(&w, None, None));
    trace.output("y", &y.cast(DType::F32));
    let graph = trace.finish().unwrap();
    let device = PluginBackend::default().open_device(&id(folder)).unwrap();
    let program = device.compile(&graph, &CompileOptions::default()).unwrap();
    let input =
        HostTensor::from_f64(TensorType::new(DType::F16, [3, WIDTH]), &numbers(3 * WIDTH, 9, 1.0)).unwrap();
    let x = device.upload(input.ty(), input.bytes()).unwrap();
    let replays = count(folder, "replays");
    for seed in 1..4 {
        let values: Vec<f32> = numbers(WIDTH * WIDTH, seed, 0.25).iter().map(|&v| v as f32).collect();
        let ty = TensorType::new(DType::Q8_0, [WIDTH, WIDTH]);
        let weight = HostTensor::new(ty, quantize(DType::Q8_0, &values).unwrap()).unwrap();
        let exact = reference::evaluate(&graph, &[input.clone(), weight.clone()]).unwrap()[0].values();
        let w = device.upload(weight.ty(), weight.bytes()).unwrap();
        for run in 0..4 {
            let out = program.run(vec![Arg::Borrow(x.clone()), Arg::Borrow(w.clone())]).unwrap();
            let bytes = device.read(&out[0]).unwrap();
            let got = bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            let largest = exact.iter().fold(0f64, |m, v| m.max(v.abs()));
            let error = got.zip(&exact).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(
                error < 0.02 * largest,
                "weight {seed}, run {run}: off by {error}, the largest is {largest}"
            );
        }
    }
    assert!(count(folder, "replays") > replays, "nothing is replayed");
}

#[test]
#[ignore = "wants PERCEPT_ASCEND_HEADERS, the folder torch_npu/include/third_party/acl/inc of the wheel torch-npu"]
fn declarations_agree_with_the_real_headers() {
    let folder = std::env::var("PERCEPT_ASCEND_HEADERS").expect("the folder that holds acl/acl.h");
    build(&["headers", &folder], "");
}
