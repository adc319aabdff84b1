//! L4: many runs hold memory flat, and threads may share a device.

use std::time::{Duration, Instant};

use percept_graph::{DType, Graph, GraphError, HostTensor, Role, TensorType, Trace};

use super::memory::{hold, wrong};
use crate::buffer::Arg;
use crate::conformance::case::{Fault, Level::L4, Subject, read};
use crate::conformance::table::Table;

/// state, x -> state in place and a row sum; small, with scratch of its own.
fn step(width: usize) -> Result<Graph, GraphError> {
    let t = Trace::new("soak");
    let state = t.input("state", Role::State, TensorType::new(DType::F32, [8, width]));
    let x = t.data("x", DType::F32, [8, width]);
    let next = &state * 0.5 + x.softmax();
    t.output_in_place("state", &next, &state);
    t.output("sums", &x.softmax().sum([1]));
    t.finish()
}

/// Resident memory of this process in bytes, where the system reports it.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Runs after which time counts.
const ENOUGH: usize = 2000;
/// Time the runs may take beyond that.
const PATIENCE: Duration = Duration::from_secs(60);

fn soak(s: &Subject) -> Result<(), Fault> {
    let exe = s.device.compile(&step(64)?, &s.options())?;
    let x = HostTensor::from_f32([8, 64], &[0.25; 512]).map_err(|e| Fault::Wrong(e.to_string()))?;
    let mut state = s.device.zeros(x.ty())?;
    let mut settled = None;
    let start = Instant::now();
    let mut runs = s.soak_runs;
    for run in 0..s.soak_runs {
        if run >= ENOUGH && start.elapsed() > PATIENCE {
            runs = run;
            break;
        }
        let fresh = s.device.upload(x.ty(), x.bytes())?;
        let mut out = exe.run(vec![Arg::Donate(state), Arg::Borrow(fresh)])?;
        if run % 16 == 0 {
            let sums = read(s, &out[1])?;
            hold(sums.iter().all(|v| (v - 1.0).abs() < 1e-5), || {
                format!("run {run}: the sums are {sums:?}")
            })?;
        }
        state = out.swap_remove(0);
        // The first runs fill caches and pools.
        if run == s.soak_runs.min(ENOUGH) / 10 {
            s.device.synchronize()?;
            settled = Some((s.device.memory(), resident()));
        }
    }
    s.device.synchronize()?;
    let Some((before, resident_before)) = settled else { return Ok(()) };
    let after = s.device.memory();
    hold(after.buffers <= before.buffers + 4096, || {
        format!(
            "buffers held {} bytes after the first runs and {} after {runs}",
            before.buffers, after.buffers
        )
    })?;
    let (all_before, all_after) = (before.buffers + before.scratch, after.buffers + after.scratch);
    hold(all_after <= all_before + all_before / 10 + 4096, || {
        format!("the device held {all_before} bytes after the first runs and {all_after} after {runs}")
    })?;
    if let (Some(a), Some(b)) = (resident(), resident_before) {
        // Allocators breathe by a few MiB.
        let allowed = 8 << 20;
        hold(a <= b + allowed, || format!("the process grew from {b} to {a} bytes over {runs} runs"))?;
    }
    Ok(())
}

/// Threads that each compile and run a graph of their own width, checking every result.
fn threads(s: &Subject) -> Result<(), Fault> {
    let work = |thread: usize| -> Result<(), Fault> {
        let width = 61 + 8 * thread;
        for _ in 0..3 {
            let exe = s.device.compile(&step(width)?, &s.options())?;
            for run in 0..20 {
                let value = (thread * 100 + run) as f32;
                let fill = HostTensor::from_f32([8, width], &vec![value; 8 * width])
                    .map_err(|e| Fault::Wrong(e.to_string()))?;
                let state = s.device.upload(fill.ty(), fill.bytes())?;
                let x = s.device.upload(fill.ty(), fill.bytes())?;
                let out = exe.run(vec![Arg::Donate(state), Arg::Borrow(x)])?;
                let expected = 0.5 * value as f64 + 1.0 / width as f64;
                for (i, v) in read(s, &out[0])?.into_iter().enumerate() {
                    hold((v - expected).abs() <= 1e-5 * expected.max(1.0), || {
                        format!("thread {thread}, run {run}: element {i} is {v}, expected {expected}")
                    })?;
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|i| scope.spawn(move || work(i))).collect();
        all.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| wrong("a thread panicked")))
    })
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    t.promise(L4, "soak", "memory-flat", soak);
    t.promise(L4, "soak", "compile-and-drop", |s| {
        let graph = step(64)?;
        let mut settled = 0;
        for i in 0..200 {
            let exe = s.device.compile(&graph, &s.options())?;
            drop(exe);
            let m = s.device.memory();
            if i == 20 {
                settled = m.buffers + m.scratch;
            }
            hold(i < 20 || m.buffers + m.scratch <= settled + 4096, || {
                format!(
                    "after {i} compilations the device holds {} bytes, {settled} after 20",
                    m.buffers + m.scratch
                )
            })?;
        }
        Ok(())
    });
    t.promise(L4, "concurrency", "threads-share-device", threads);
}
