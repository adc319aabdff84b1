//! Microseconds of a call: a program that adds one to a small state in place, through the device and through the bare
//! client, and the time to compile it.
//!
//! `cargo bench -p percept-pjrt -- PLUGIN`, the path of the plug-in's library.

use std::time::{Duration, Instant};

use percept_graph::{DType, Graph, Role, TensorType, Trace};
use percept_hal::{Arg, CompileOptions, Device};

const RUNS: u32 = 10_000;

/// `state` plus one, in place, a number of times.
fn counter(operations: usize) -> Graph {
    let t = Trace::new("counter");
    let state = t.input("state", Role::State, TensorType::new(DType::F32, [64]));
    let mut next = state.clone();
    for _ in 0..operations {
        next = &next + 1.0;
    }
    t.output_in_place("state", &next, &state);
    t.finish().expect("the graph builds")
}

fn per_run(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6 / RUNS as f64
}

fn main() {
    let Some(path) = std::env::args().skip(1).find(|a| !a.starts_with('-')) else {
        println!("name a plug-in: cargo bench -p percept-pjrt -- /path/plugin.so");
        return;
    };
    let id = format!("pjrt:{path}");
    let device = percept_pjrt::open(&id).expect("the plug-in opens");
    let graph = counter(1);
    let start = Instant::now();
    let executable = device.compile(&graph, &CompileOptions::default()).expect("it compiles");
    println!("{:?}\ncompile: {:.1} ms", device.info().driver, start.elapsed().as_secs_f64() * 1e3);
    let ty = TensorType::new(DType::F32, [64]);
    let mut state = device.zeros(&ty).expect("memory");
    for round in 0..2 {
        let start = Instant::now();
        for _ in 0..RUNS {
            state = executable.run(vec![Arg::Donate(state)]).expect("it runs").swap_remove(0);
        }
        device.synchronize().expect("it ran");
        // The first round fills caches.
        if round > 0 {
            println!("device, one operation in place: {:.2} us a call", per_run(start.elapsed()));
        }
    }
    let client = device.emitter().client();
    let module = percept_pjrt::stablehlo::emit(&graph).expect("it is emitted");
    let program = client.compile(&module, &[0]).expect("it compiles");
    let mut state = client.upload_f32(0, &[0.0; 64]).expect("memory");
    for round in 0..2 {
        let start = Instant::now();
        for _ in 0..RUNS {
            let made = program.run(&[vec![&state]], &[ty.bytes()]).expect("it runs");
            state = made.into_iter().flatten().next().expect("an output");
        }
        client.synchronize().expect("it ran");
        if round > 0 {
            println!("client, the same program: {:.2} us a call", per_run(start.elapsed()));
        }
    }
}
