//! Where the time of a run goes: by operation and by cause, beside what the device's memory and arithmetic allow.

use std::collections::BTreeMap;
use std::time::Instant;

use percept::graph::{DType, TensorType, Trace};
use percept::hal::{Arg, Buffer, CompileOptions, Device, OpCost, OpTiming};
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::device::values::example;
use crate::cli::table::table;

/// Operations that take less than this share of a run are one row.
const LEAST: f64 = 0.01;

/// What the device can do at best, measured beside the run.
#[derive(Clone, Copy)]
pub struct Roof {
    /// Bytes that it reads in a second.
    pub bytes: f64,
    /// Additions and multiplications of a product of f32 matrices in a second.
    pub flops: f64,
}

/// A run's time by operation and by cause.
pub struct Breakdown {
    /// Milliseconds of the run that was timed from within.
    pub timed_ms: f64,
    /// Milliseconds of the same run without that: the median.
    pub plain_ms: f64,
    rows: Vec<Row>,
    /// Milliseconds in which the first thread waited for others.
    waiting_ms: f64,
    /// Milliseconds inside of programs and between their operations: threads that wake, arguments.
    between_ms: f64,
    roof: Roof,
}

/// Operations of one name in modules of one name.
#[derive(Default)]
struct Row {
    op: String,
    module: String,
    calls: usize,
    ms: f64,
    /// With the time of the operations whose cost is known.
    cost: Option<(OpCost, f64)>,
}

impl Roof {
    /// Measure a device: the sum of 256 MB, and a product of 1024 x 1024 x 1024; the best of several.
    ///
    /// # Errors
    /// When the device lacks the memory or an operation.
    pub fn measure(device: &dyn Device) -> Result<Self, Failure> {
        let side = 1024;
        let (t, wide) = (Trace::new("roof"), 1 << 16);
        t.output("y", &t.data("x", DType::F32, [side, wide]).sum([0, 1]));
        let read = best(device, t)?;
        let t = Trace::new("roof");
        t.output("y", &t.data("a", DType::F32, [side; 2]).matmul(&t.data("b", DType::F32, [side; 2])));
        let product = best(device, t)?;
        let bytes = TensorType::new(DType::F32, [side, wide]).bytes() as f64 / read;
        Ok(Self { bytes, flops: 2.0 * (side as f64).powi(3) / product })
    }
}

/// Seconds of a graph's fastest run.
fn best(device: &dyn Device, t: Trace) -> Result<f64, Failure> {
    let graph = t.finish()?;
    let executable = device.compile(&graph, &CompileOptions::default())?;
    let inputs = graph.inputs().iter().enumerate();
    let inputs = inputs.map(|(i, input)| {
        let ty = graph.ty(input.value);
        device.upload(ty, &example(ty, i as u64 + 1))
    });
    let inputs: Vec<Buffer> = inputs.collect::<Result<_, _>>()?;
    let mut least = f64::INFINITY;
    for _ in 0..7 {
        let at = Instant::now();
        executable.run(inputs.iter().cloned().map(Arg::Borrow).collect())?;
        device.synchronize()?;
        least = least.min(at.elapsed().as_secs_f64());
    }
    Ok(least)
}

impl Breakdown {
    /// Of the timings of a run that took `timed_ms`, and `plain_ms` without them.
    pub fn of(events: &[OpTiming], timed_ms: f64, plain_ms: f64, roof: Roof) -> Self {
        let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
        let (mut waiting_ms, mut inside_ms) = (0.0, 0.0);
        for event in events {
            let module = module(&event.path);
            let key = (event.name.to_string(), module.clone());
            let row = rows.entry(key).or_insert_with(|| Row {
                op: event.name.to_string(),
                module,
                ..Row::default()
            });
            let ms = event.duration_us / 1e3;
            row.calls += 1;
            row.ms += ms;
            if let Some(cost) = event.cost {
                let (sum, of) = row.cost.get_or_insert_default();
                *sum = OpCost { bytes: sum.bytes + cost.bytes, flops: sum.flops + cost.flops };
                *of += ms + event.waiting_us / 1e3;
            }
            waiting_ms += event.waiting_us / 1e3;
            inside_ms += (event.duration_us + event.waiting_us) / 1e3;
        }
        let end_ms = events.iter().map(OpTiming::end_us).fold(0.0, f64::max) / 1e3;
        let mut rows: Vec<Row> = rows.into_values().collect();
        rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        Self { timed_ms, plain_ms, rows, waiting_ms, between_ms: (end_ms - inside_ms).max(0.0), roof }
    }

    /// Milliseconds of all operations.
    fn operations_ms(&self) -> f64 {
        self.rows.iter().map(|row| row.ms).sum()
    }

    /// Milliseconds outside of programs: inputs, logits, the choice of tokens.
    fn host_ms(&self) -> f64 {
        self.timed_ms - self.operations_ms() - self.waiting_ms - self.between_ms
    }

    /// The causes that are no operations, with their milliseconds.
    fn causes(&self) -> [(&'static str, f64); 3] {
        [
            ("waiting for other threads", self.waiting_ms),
            ("between operations of a program", self.between_ms),
            ("outside of programs", self.host_ms()),
        ]
    }

    /// One JSON document.
    pub fn to_json(&self) -> Value {
        let row = |row: &Row| {
            let mut value = json!({ "op": row.op, "module": row.module, "calls": row.calls, "ms": row.ms });
            if let Some((cost, ms)) = row.cost {
                value["bytes_per_s"] = json!(cost.bytes as f64 / ms * 1e3);
                value["flops_per_s"] = json!(cost.flops as f64 / ms * 1e3);
            }
            value
        };
        let causes: serde_json::Map<String, Value> = self
            .causes()
            .into_iter()
            .map(|(what, ms)| (format!("{}_ms", what.replace(' ', "_")), json!(ms)))
            .collect();
        json!({
            "wall_ms": self.timed_ms, "plain_ms": self.plain_ms, "operations": self.rows.iter().map(row).collect::<Vec<_>>(),
            "causes": causes, "roof": { "bytes_per_s": self.roof.bytes, "flops_per_s": self.roof.flops },
        })
    }

    /// Print a table: operations, the other causes, and their sum.
    pub fn print(&self) {
        let mut t = table(
            &["operation", "in", "calls", "ms", "%", "GB/s", "of roof", "GFLOP/s", "of roof"],
            &[2, 3, 4, 5, 6, 7, 8],
        );
        let share = |ms: f64| format!("{:.1}", ms / self.timed_ms * 100.0);
        let (large, small): (Vec<&Row>, Vec<&Row>) =
            self.rows.iter().partition(|row| row.ms >= LEAST * self.timed_ms);
        for row in large {
            let rates = match row.cost {
                Some((cost, ms)) if ms > 0.0 => {
                    let rate = |work: u64, roof: f64| match work {
                        0 => [String::new(), String::new()],
                        work => {
                            let rate = work as f64 / ms * 1e3;
                            [format!("{:.1}", rate / 1e9), format!("{:.0} %", rate / roof * 100.0)]
                        }
                    };
                    [rate(cost.bytes, self.roof.bytes), rate(cost.flops, self.roof.flops)].concat()
                }
                _ => vec![String::new(); 4],
            };
            let head = [
                row.op.clone(),
                row.module.clone(),
                row.calls.to_string(),
                format!("{:.3}", row.ms),
                share(row.ms),
            ];
            t.add_row([head.to_vec(), rates].concat());
        }
        let mut line = |what: String, calls: String, ms: f64| {
            t.add_row(
                [what, String::new(), calls, format!("{ms:.3}"), share(ms)].into_iter().collect::<Vec<_>>(),
            );
        };
        if !small.is_empty() {
            let calls: usize = small.iter().map(|row| row.calls).sum();
            line(
                format!("{} others, under 1 % each", small.len()),
                calls.to_string(),
                small.iter().map(|row| row.ms).sum(),
            );
        }
        self.causes().into_iter().for_each(|(what, ms)| line(what.into(), String::new(), ms));
        line("sum".into(), String::new(), self.timed_ms);
        println!("{t}");
        println!(
            "The run without clocks took {:.3} ms, {:+.1} % of this sum. Roofs of this device: {:.1} GB/s read, {:.0} GFLOP/s in \
             products of f32. Rates count an operation's waiting; they say what its types move and compute.",
            self.plain_ms,
            (self.plain_ms / self.timed_ms - 1.0) * 100.0,
            self.roof.bytes / 1e9,
            self.roof.flops / 1e9
        );
    }
}

/// A module's path without the numbers of layers.
fn module(path: &str) -> String {
    let part = |part: &str| {
        if part.bytes().all(|b| b.is_ascii_digit()) { "*".to_string() } else { part.to_string() }
    };
    path.split('.').map(part).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, path: &str, start_us: f64, duration_us: f64, waiting_us: f64) -> OpTiming {
        let cost = Some(OpCost { bytes: 1000, flops: 0 });
        OpTiming {
            name: name.into(),
            path: path.into(),
            place: "cpu".into(),
            start_us,
            duration_us,
            waiting_us,
            cost,
        }
    }

    #[test]
    fn causes_and_operations_sum_to_the_wall() {
        let events = [
            event("linear", "layers.0.mlp", 10.0, 100.0, 20.0),
            event("linear", "layers.1.mlp", 130.0, 60.0, 0.0),
            event("softmax", "head", 200.0, 5.0, 5.0),
        ];
        let found = Breakdown::of(&events, 0.5, 0.45, Roof { bytes: 1e10, flops: 1e11 });
        let rows: Vec<(&str, &str, usize)> =
            found.rows.iter().map(|r| (&*r.op, &*r.module, r.calls)).collect();
        assert_eq!(rows, [("linear", "layers.*.mlp", 2), ("softmax", "head", 1)]);
        let [waiting, between, outside] = found.causes().map(|(_, ms)| ms);
        // 10 us before the first, 10 us between the second and the third.
        assert!((waiting - 0.025).abs() < 1e-9 && (between - 0.02).abs() < 1e-9, "{waiting} {between}");
        assert!((outside - (0.5 - 0.21)).abs() < 1e-9, "{outside}");
        assert!((found.operations_ms() + waiting + between + outside - 0.5).abs() < 1e-9);
        let json = found.to_json();
        // 2,000 bytes in 180 us, the waiting counted.
        assert!(
            (json["operations"][0]["bytes_per_s"].as_f64().unwrap() - 2000.0 / 180e-6).abs() < 1.0,
            "{json}"
        );
    }
}
