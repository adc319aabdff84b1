//! Burn on its wgpu backend, as a peer of `percept bench matmul|op --device wgpu:0`.
//!
//! It first prints one line that describes the peer, then reads one row a line from standard input,
//! `{"bench", "settings"}`, and answers each with one line in the shape of `percept bench --json`, so that
//! `cargo xtask bench --peers` can take turns between Percept and the peer.

use std::io::BufRead;
use std::time::{Duration, Instant};

use burn_tensor::activation::softmax;
use burn_tensor::module::{attention, layer_norm};
use burn_tensor::ops::AttentionModuleOptions;
use burn_tensor::{Device, DeviceKind, Distribution, Tensor};
use serde_json::{Value, json};

/// How long a row is timed, after a call that compiles and as long a warm-up.
const TIMED: Duration = Duration::from_secs(1);

/// What a row times, its work in operations or bytes, and the unit of its rate. The call gives back one handle for
/// its result, whatever the rank.
struct Call {
    run: Box<dyn Fn() -> Box<dyn std::any::Any>>,
    work: f64,
    unit: &'static str,
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
}

fn sizes<const D: usize>(shape: &Value) -> Result<[usize; D], String> {
    let all: Option<Vec<usize>> =
        shape.as_array().map(|s| s.iter().filter_map(|n| n.as_u64()).map(|n| n as usize).collect());
    all.and_then(|s| s.try_into().ok()).ok_or_else(|| format!("{shape} is not a shape of {D} extents"))
}

fn call(row: &Value, device: &Device) -> Result<Call, String> {
    let settings = &row["settings"];
    if settings["dtype"] != "f32" {
        return Err(format!("dtype {}: only f32 is compared", settings["dtype"]));
    }
    if row["bench"] == "matmul" {
        let [m, n, k] = sizes(&json!([settings["m"], settings["n"], settings["k"]]))?;
        let (a, b) = (random([m, k], device), random([k, n], device));
        return Ok(Call {
            run: Box::new(move || Box::new(a.clone().matmul(b.clone()))),
            work: 2.0 * (m * n * k) as f64,
            unit: "GFLOP/s",
        });
    }
    match settings["op"].as_str() {
        Some("attention") => {
            let shape: [usize; 4] = sizes(&settings["shape"])?;
            let [q, k, v] = [(); 3].map(|()| random(shape, device));
            let options = AttentionModuleOptions::default();
            let run = move || attention(q.clone(), k.clone(), v.clone(), None, None, options.clone());
            let [batch, heads, rows, depth] = shape;
            Ok(Call {
                run: Box::new(move || Box::new(run())),
                work: 4.0 * (batch * heads * rows * rows * depth) as f64,
                unit: "GFLOP/s",
            })
        }
        Some(op @ ("softmax" | "layer_norm")) => {
            let shape: [usize; 2] = sizes(&settings["shape"])?;
            let x = random(shape, device);
            let (gamma, beta) = (random([shape[1]], device), random([shape[1]], device));
            let is_softmax = op == "softmax";
            let run = move || match is_softmax {
                true => softmax(x.clone(), 1),
                false => layer_norm(x.clone(), gamma.clone(), Some(beta.clone()), 1e-5),
            };
            let work = 8.0 * (shape[0] * shape[1]) as f64;
            Ok(Call { run: Box::new(move || Box::new(run())), work, unit: "GB/s" })
        }
        _ => Err(format!("op {}: matmul, softmax, layer_norm and attention are compared", settings["op"])),
    }
}

/// One call, waited for, in seconds.
fn time(call: &Call, device: &Device) -> Result<f64, String> {
    let start = Instant::now();
    let result = (call.run)();
    device.sync().map_err(|e| e.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    drop(result);
    Ok(seconds)
}

fn measure(row: &Value, device: &Device) -> Result<Value, String> {
    let call = call(row, device)?;
    device.sync().map_err(|e| e.to_string())?;
    // Compilation and tuning happen within the first call; a few more settle what is tuned in the background.
    let first = time(&call, device)?;
    let start = Instant::now();
    while start.elapsed() < TIMED {
        time(&call, device)?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < TIMED || times.len() < 5 {
        times.push(time(&call, device)?);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    Ok(json!({
        "bench": row["bench"],
        "device": "burn-wgpu",
        "settings": row["settings"],
        "first_call_ms": first * 1e3,
        "median_ms": median * 1e3,
        "min_ms": times[0] * 1e3,
        "runs": times.len(),
        "rate": call.work / median / 1e9,
        "rate_unit": call.unit,
    }))
}

fn main() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let adapter = device.identity().map(|i| i.name);
    println!("{}", json!({"peer": "burn", "version": "0.22.1", "backend": "wgpu, WGSL", "adapter": adapter}));
    for line in std::io::stdin().lock().lines() {
        let answer = line
            .map_err(|e| e.to_string())
            .and_then(|line| serde_json::from_str(&line).map_err(|e| e.to_string()))
            .and_then(|row| measure(&row, &device));
        println!("{}", answer.unwrap_or_else(|why| json!({"error": why})));
    }
}
