//! `percept bench`: how fast a device computes.

mod explain;
mod media;
mod model;
mod preprocess;
mod runs;
mod train;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use percept::graph::{Activation, AttentionSpec, DType, Graph, Tensor, TensorType, Trace};
use percept::hal::{Arg, Buffer, CompileOptions, Device, Executable, chrome_trace};
use serde_json::json;

use crate::cli::Failure;
use crate::cli::device::values::{check_sizes, example};
use crate::cli::failure::write_file;
use preprocess::Preprocess;

#[derive(Subcommand)]
pub enum Bench {
    /// Time a matrix product a[m,k] x b[k,n]; with a quantized dtype x f32[m,k] times a weight [n,k]
    #[command(after_help = "Examples:\n  percept bench matmul --m 1024 --n 1024 --k 1024\n  \
        percept bench matmul --m 1 --n 4096 --k 4096 --dtype q4_1 --json")]
    Matmul(Matmul),
    /// Time one operation over a shape
    #[command(after_help = "Examples:\n  percept bench op softmax --shape 4096x1024\n  \
        percept bench op attention --shape 1x8x512x64 --device wgpu:0")]
    Op(OpBench),
    /// Time prefill: a model reads a prompt
    #[command(
        after_help = "Example:\n  percept bench prefill --model SmolLM2.gguf --tokens 512 --device cpu --json"
    )]
    Prefill(model::Prefill),
    /// Time decoding: a model generates token by token
    #[command(
        after_help = "Example:\n  percept bench decode --model SmolLM2.gguf --depth 512 --device cpu --json\n  \
        percept bench decode --model SmolLM2.gguf --batch 16 --explain"
    )]
    Decode(model::Decode),
    /// Time a training step of a decoder
    #[command(after_help = "Examples:\n  percept bench train-step --device cpu\n  \
        percept bench train-step --layers 12 --hidden 768 --heads 12 --dtype bf16 --rematerialize --json")]
    TrainStep(train::TrainStep),
    /// Time the transcription of speech
    #[command(
        after_help = "Example:\n  percept bench transcribe --model whisper-tiny.en --file talk.wav --json"
    )]
    Transcribe(media::Transcribe),
    /// Time the embedding of images by CLIP or SigLIP, or of texts by an encoder such as MiniLM
    #[command(
        after_help = "Examples:\n  percept bench embed --model siglip-base-patch16-224 --batch 8 --json\n  \
        percept bench embed --model all-MiniLM-L6-v2 --batch 32 --words 24"
    )]
    Embed(media::Embed),
    /// Time the decoding, resizing and normalizing of images, or the decoding of a video
    #[command(after_help = "Examples:\n  percept bench preprocess --image photo.jpg\n  \
        percept bench preprocess --image photo.jpg --size 384 --json\n  \
        percept bench preprocess --video clip.mp4")]
    Preprocess(Preprocess),
}

#[derive(Args)]
pub struct Matmul {
    /// Rows of the left operand
    #[arg(long, default_value_t = 1024)]
    m: usize,
    /// Columns of the right operand
    #[arg(long, default_value_t = 1024)]
    n: usize,
    /// The contracted extent
    #[arg(long, default_value_t = 1024)]
    k: usize,
    /// Dtype of both operands, or a quantized dtype of the weight
    #[arg(long, default_value = "f32")]
    dtype: DType,
    #[command(flatten)]
    measure: Measure,
}

#[derive(Args)]
pub struct OpBench {
    /// The operation: softmax, layer_norm, rms_norm, gelu_erf, gelu_tanh, silu, attention, attention_causal,
    /// chain10, chain100, sum, copy
    op: String,
    /// Extents joined by x; attention takes batch x heads x rows x head size
    #[arg(long, default_value = "4096x1024")]
    shape: String,
    /// Dtype of the operands
    #[arg(long, default_value = "f32")]
    dtype: DType,
    #[command(flatten)]
    measure: Measure,
}

#[derive(Args)]
struct Measure {
    /// Where to run: auto, cpu, wgpu:0
    #[arg(long, default_value = "auto")]
    device: String,
    /// Least number of timed runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Least time to measure for, in seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Use only kernels whose rows do not depend on the batch
    #[arg(long)]
    batch_invariant: bool,
    /// Write a Chrome timeline of one more run
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// The work of a run, for its rate.
pub enum Work {
    /// Floating-point operations.
    Flops(f64),
    /// Bytes read and written.
    Bytes(f64),
}

impl Bench {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Bench::Matmul(b) => b.run(),
            Bench::Op(b) => b.run(),
            Bench::Prefill(b) => b.run(),
            Bench::Decode(b) => b.run(),
            Bench::TrainStep(b) => b.run(),
            Bench::Transcribe(b) => b.run(),
            Bench::Embed(b) => b.run(),
            Bench::Preprocess(b) => b.run(),
        }
    }
}

impl Matmul {
    fn run(self) -> Result<(), Failure> {
        let Matmul { m, n, k, dtype, measure } = self;
        let t = Trace::new("matmul");
        let y = if dtype.is_quantized() {
            let w = t.parameter("w", dtype, [n, k]);
            t.data("x", DType::F32, [m, k]).linear(&w, None, None)
        } else {
            t.data("a", dtype, [m, k]).matmul(&t.data("b", dtype, [k, n]))
        };
        t.output("y", &y);
        // A product with few rows is bound by reading the weight, one with many by arithmetic.
        let weight = TensorType::new(dtype, [n, k]).bytes() as f64;
        let work =
            if m == 1 { Work::Bytes(weight) } else { Work::Flops(2.0 * m as f64 * n as f64 * k as f64) };
        measure.report("matmul", json!({"m": m, "n": n, "k": k, "dtype": dtype.name()}), t.finish()?, work)
    }
}

impl OpBench {
    fn run(self) -> Result<(), Failure> {
        let shape = self
            .shape
            .split('x')
            .map(|d| d.parse::<usize>().ok().filter(|d| *d > 0))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Failure::Usage(format!("'{}' is not a shape like 4096x1024", self.shape)))?;
        if !self.dtype.is_float() {
            return Err(Failure::Usage(format!("{} is not a float dtype", self.dtype)));
        }
        let t = Trace::new(self.op.clone());
        let (y, work) = operation(&t, &self.op, &shape, self.dtype)?;
        t.output("y", &y);
        let settings = json!({"op": self.op, "shape": shape, "dtype": self.dtype.name()});
        self.measure.report("op", settings, t.finish()?, work)
    }
}

/// The operation a row of the benchmark times, and what it moves or computes.
pub fn operation(t: &Trace, op: &str, shape: &[usize], dtype: DType) -> Result<(Tensor, Work), Failure> {
    let x = t.data("x", dtype, shape);
    let ty = TensorType::new(dtype, shape);
    let moved = Work::Bytes(2.0 * ty.bytes() as f64);
    let width = [shape.last().copied().unwrap_or(1)];
    let weight = |name: &str| t.parameter(name, dtype, width);
    Ok(match op {
        "softmax" => (x.softmax(), moved),
        "layer_norm" => (x.layer_norm(&weight("weight"), &weight("bias"), 1e-5), moved),
        "rms_norm" => (x.rms_norm(&weight("weight"), 1e-5), moved),
        "gelu_erf" => (x.activate(Activation::GeluErf), moved),
        "gelu_tanh" => (x.activate(Activation::GeluTanh), moved),
        "silu" => (x.activate(Activation::Silu), moved),
        "copy" => (&x + 1.0, moved),
        "sum" => (x.sum((0..shape.len()).collect::<Vec<_>>()), Work::Bytes(ty.bytes() as f64)),
        "chain10" => (chain(&x, 1), moved),
        "chain100" => (chain(&x, 10), moved),
        "attention" | "attention_causal" => {
            let [b, h, rows, d] = <[usize; 4]>::try_from(shape).map_err(|_| {
                Failure::Usage(format!("{op} takes a shape of batch x heads x rows x head size"))
            })?;
            let (k, v) = (t.data("k", dtype, shape), t.data("v", dtype, shape));
            let causal = op == "attention_causal";
            let scale = 1.0 / (d as f32).sqrt();
            let spec = if causal { AttentionSpec::causal(scale) } else { AttentionSpec::full(scale) };
            let pairs = if causal { rows * (rows + 1) / 2 } else { rows * rows };
            (x.attention(&k, &v, &[], spec), Work::Flops(4.0 * (b * h * pairs * d) as f64))
        }
        _ => {
            let known = "softmax, layer_norm, rms_norm, gelu_erf, gelu_tanh, silu, attention, attention_causal, \
                chain10, chain100, sum, copy";
            return Err(Failure::Usage(format!("no operation '{op}'; known: {known}")));
        }
    })
}

/// Ten elementwise operations, `times` over.
fn chain(x: &Tensor, times: usize) -> Tensor {
    (0..times).fold(x.clone(), |x, _| {
        let y = (&x * 0.5 + 1.0) * &x - 0.25;
        let y = y.abs().sqrt().maximum(&x).neg();
        y.minimum(&y.like(2.0)) * &x
    })
}

/// What timing a graph found.
pub struct Timing {
    /// Milliseconds of the median run.
    pub median: f64,
    /// Milliseconds of the best run.
    pub min: f64,
    /// Timed runs.
    pub runs: usize,
    /// Milliseconds of the first run, tuning included.
    pub first: f64,
}

impl Timing {
    /// Of the milliseconds of one run or more, after a first one.
    pub fn of(first: f64, mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self { median: times[times.len() / 2], min: times[0], runs: times.len(), first }
    }
}

/// Compile a graph and run it on example values: once, once more to warm up, then timed.
pub fn time(
    device: &dyn Device,
    graph: &Graph,
    options: &CompileOptions,
    (runs, seconds): (usize, f64),
) -> Result<(Timing, Box<dyn Executable>, Vec<Buffer>), Failure> {
    check_sizes(graph, device)?;
    let executable = device.compile(graph, options)?;
    let mut buffers: Vec<Buffer> = Vec::new();
    for (i, input) in graph.inputs().iter().enumerate() {
        let ty = graph.ty(input.value);
        buffers.push(device.upload(ty, &example(ty, i as u64 + 1))?);
    }
    let run = || -> Result<f64, Failure> {
        let at = Instant::now();
        let outputs = executable.run(borrowed(&buffers))?;
        device.synchronize()?;
        let elapsed = at.elapsed().as_secs_f64() * 1e3;
        drop(outputs);
        Ok(elapsed)
    };
    let first = run()?;
    run()?;
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < runs.max(1) || began.elapsed() < Duration::from_secs_f64(seconds.max(0.0)) {
        times.push(run()?);
    }
    Ok((Timing::of(first, times), executable, buffers))
}

fn borrowed(buffers: &[Buffer]) -> Vec<Arg> {
    buffers.iter().cloned().map(Arg::Borrow).collect()
}

impl Work {
    /// The rate of doing this in so many milliseconds, and its unit.
    pub fn rate(&self, ms: f64) -> (f64, &'static str) {
        match self {
            Work::Flops(f) => (f / ms / 1e6, "GFLOP/s"),
            Work::Bytes(b) => (b / ms / 1e6, "GB/s"),
        }
    }
}

impl Measure {
    fn report(
        self,
        bench: &str,
        settings: serde_json::Value,
        graph: Graph,
        work: Work,
    ) -> Result<(), Failure> {
        let registry = percept::registry();
        let device = registry.open(&self.device)?;
        let options = CompileOptions {
            host: Some(registry.open("cpu")?),
            batch_invariant: self.batch_invariant,
            ..CompileOptions::default()
        };
        let (timing, executable, buffers) = time(&*device, &graph, &options, (self.runs, self.seconds))?;
        let (rate, unit) = work.rate(timing.median);
        let report = executable.report();
        for p in report.fallbacks() {
            eprintln!("{} ran on the host: {}", p.op, p.reason);
        }
        if let Some(file) = &self.trace {
            let (_, events) = executable.run_timed(borrowed(&buffers))?;
            write_file(file, chrome_trace(&events).to_string().as_bytes())?;
        }
        let id = &device.info().id;
        if self.json {
            let document = json!({
                "bench": bench, "device": id, "settings": settings, "median_ms": timing.median,
                "min_ms": timing.min, "runs": timing.runs, "rate": rate, "rate_unit": unit,
                "first_call_ms": timing.first + report.compile_ms, "compile_ms": report.compile_ms,
                "launches": report.launches,
            });
            println!("{document}");
        } else {
            println!(
                "{bench} {settings} on {id}: median {:.3} ms, best {:.3} ms of {} runs, {rate:.1} {unit}; \
                 first call {:.1} ms, {} launches",
                timing.median,
                timing.min,
                timing.runs,
                timing.first + report.compile_ms,
                report.launches
            );
        }
        Ok(())
    }
}
