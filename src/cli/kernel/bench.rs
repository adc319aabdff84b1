//! `percept kernel bench`: how close kernels come to what the adapter can do.

use clap::Args;
use percept::graph::{DType, Graph, Tensor, TensorType, Trace};
use percept::hal::{CompileOptions, Device, Dispatch, KernelDevice, Window};
use percept::kernels::{Module, Needs};
use percept_wgpu::WgpuBackend;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::bench::{Work, operation, time};
use crate::cli::table::table;

#[derive(Args)]
pub struct KernelBench {
    /// A row of the table; by default all of them
    name: Option<String>,
    /// The adapter
    #[arg(long, default_value = "wgpu:0")]
    device: String,
    /// Seconds to time each kernel for
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Kernels with the operation that times them and its shape.
const ROWS: [(&str, &str, &[usize]); 7] = [
    ("elementwise", "chain10", &[2048, 1024]),
    ("reduce", "sum", &[2048, 1024]),
    ("softmax", "softmax", &[2048, 1024]),
    ("rms_norm", "rms_norm", &[2048, 1024]),
    ("layer_norm", "layer_norm", &[2048, 1024]),
    ("activation", "gelu_erf", &[2048, 1024]),
    ("attention", "attention", &[1, 8, 512, 64]),
];

/// What the adapter was measured to do at most.
struct Roof {
    flops: f64,
    bytes: f64,
}

impl KernelBench {
    pub fn run(self) -> Result<(), Failure> {
        let registry = percept::registry();
        let device = registry.open(&self.device)?;
        let options = CompileOptions { host: Some(registry.open("cpu")?), ..CompileOptions::default() };
        let measure = |graph: &Graph, work: Work| -> Result<(f64, f64, &'static str), Failure> {
            let (timing, _, _) = time(&*device, graph, &options, (3, self.seconds))?;
            let (rate, unit) = work.rate(timing.median);
            Ok((timing.median, rate, unit))
        };
        let roof = Roof {
            bytes: {
                let (graph, work) = row("copy", &[4096, 1024])?;
                measure(&graph, work)?.1
            },
            flops: peak_gflops(&self.device, &*device)?,
        };
        let mut rows = Vec::new();
        for (name, op, shape) in ROWS {
            if self.name.as_deref().is_none_or(|n| n == name) {
                let (graph, work) = row(op, shape)?;
                rows.push((name, measure(&graph, work)?));
            }
        }
        for (name, dtype, m) in [("matmul", DType::F32, 512), ("matmul_vector", DType::Q4_1, 1)] {
            if self.name.as_deref().is_none_or(|n| n == name) {
                let (graph, work) = product(dtype, m)?;
                rows.push((name, measure(&graph, work)?));
            }
        }
        if rows.is_empty() {
            let names: Vec<&str> = ROWS.iter().map(|r| r.0).chain(["matmul", "matmul_vector"]).collect();
            return Err(Failure::Usage(format!("no such row; known: {}", names.join(", "))));
        }
        self.print(&roof, &rows);
        Ok(())
    }

    fn print(&self, roof: &Roof, rows: &[(&str, (f64, f64, &'static str))]) {
        let share = |rate: f64, unit: &str| rate / if unit == "GB/s" { roof.bytes } else { roof.flops };
        if self.json {
            let list: Vec<_> = rows
                .iter()
                .map(|(name, (ms, rate, unit))| {
                    json!({"kernel": name, "median_ms": ms, "rate": rate, "rate_unit": unit, "share": share(*rate, unit)})
                })
                .collect();
            let roof = json!({"gb_per_s": roof.bytes, "gflop_per_s": roof.flops});
            println!("{}", json!({"bench": "kernel", "device": self.device, "roof": roof, "rows": list}));
            return;
        }
        let mut t = table(&["KERNEL", "MS", "RATE", "UNIT", "OF THE ROOF"], &[1, 2, 4]);
        for (name, (ms, rate, unit)) in rows {
            let share = format!("{:.0} %", 100.0 * share(*rate, unit));
            t.add_row([name.to_string(), format!("{ms:.3}"), format!("{rate:.2}"), unit.to_string(), share]);
        }
        println!("{t}");
        println!("measured roof of {}: {:.1} GB/s, {:.1} GFLOP/s", self.device, roof.bytes, roof.flops);
    }
}

fn row(op: &str, shape: &[usize]) -> Result<(Graph, Work), Failure> {
    let t = Trace::new(op);
    let (y, work) = operation(&t, op, shape, DType::F32)?;
    Ok((finish(t, &y)?, work))
}

fn product(dtype: DType, m: usize) -> Result<(Graph, Work), Failure> {
    let t = Trace::new("matmul");
    let n = if m == 1 { 4096 } else { m };
    let x = t.data("x", DType::F32, [m, n]);
    let y = x.linear(&t.parameter("w", dtype, [n, n]), None, None);
    let bytes = TensorType::new(dtype, [n, n]).bytes() as f64;
    let work = if m == 1 { Work::Bytes(bytes) } else { Work::Flops(2.0 * (m * n * n) as f64) };
    Ok((finish(t, &y)?, work))
}

fn finish(t: Trace, y: &Tensor) -> Result<Graph, Failure> {
    t.output("y", y);
    Ok(t.finish()?)
}

/// Independent chains of fused multiply-adds, as many as a processor keeps in flight.
const FMA: &str = "
struct Params { steps: u32 }
@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let x = vec4<f32>(f32(id.x) * 1e-9);
    var a = x; var b = x + 1.0; var c = x + 2.0; var d = x + 3.0;
    for (var i = 0u; i < p.steps; i++) {
        a = fma(a, x, b); b = fma(b, x, c); c = fma(c, x, d); d = fma(d, x, a);
    }
    y[id.x] = a + b + c + d;
}
";

/// The arithmetic rate of a kernel that does nothing but multiply and add, in GFLOP/s.
fn peak_gflops(id: &str, device: &dyn Device) -> Result<f64, Failure> {
    let kernels = WgpuBackend::open_kernels(id)?;
    let (groups, steps) = (256u32, if device.info().software { 2000 } else { 200_000 });
    let bytes = groups as u64 * 64 * 16;
    let memory = kernels.allocate(bytes, "the arithmetic benchmark")?;
    let dispatch = Dispatch {
        module: Module { key: "bench-fma".into(), source: FMA.into(), needs: Needs::default() },
        checked: true,
        groups: [groups, 1, 1],
        params: vec![steps],
        bindings: vec![Window { memory: 0, offset: 0, bytes }],
        op: "the arithmetic benchmark".into(),
    };
    let batch = kernels.record(vec![dispatch])?;
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let start = std::time::Instant::now();
        kernels.submit(&batch, &[&memory])?;
        kernels.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(groups as f64 * 64.0 * steps as f64 * 4.0 * 4.0 * 2.0 / best / 1e9)
}
