//! Memory stays flat over many runs.
#![cfg(target_os = "linux")]

use percept_graph::{DType, Graph, Role, TensorType, Trace};
use percept_hal::{Arg, Buffer, CompileOptions, Device};

use crate::alone::alone;

/// f32 values between -1 and 1.
fn values(ty: &TensorType) -> Vec<u8> {
    (0..ty.numel()).flat_map(|i| (i as f32 * 1.7).sin().to_le_bytes()).collect()
}

/// Bytes of memory the process holds.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// One step of training a small classifier: loss, gradients, AdamW in place.
fn training_step() -> Graph {
    let trace = Trace::new("step");
    let x = trace.data("x", DType::F32, [8, 16]);
    let labels = trace.data("labels", DType::I32, [8]);
    let w = trace.parameter("w", DType::F32, [10, 16]);
    let state = |name: &str| trace.input(name, Role::State, TensorType::new(DType::F32, [10, 16]));
    let (m, v) = (state("m"), state("v"));
    let scalar = |name: &str| trace.input(name, Role::Scalar, TensorType::new(DType::F32, []));
    let (lr, step) = (scalar("lr"), scalar("step"));
    let loss = x.linear(&w, None, None).cross_entropy(&labels, -100, 0.0).mean([0]);
    let gradient = percept_graph::grad(&loss, &[&w]).remove(0);
    let op = percept_graph::Composite::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    let [p2, m2, v2] = loss.results(percept_graph::Op::Composite(op), &[&w, &gradient, &m, &v, &lr, &step]);
    trace.output("loss", &loss);
    trace.output_in_place("w", &p2, &w);
    trace.output_in_place("m", &m2, &m);
    trace.output_in_place("v", &v2, &v);
    trace.finish().unwrap()
}

#[test]
fn ten_thousand_runs_hold_memory_flat() {
    alone(ten_thousand_runs);
}

fn ten_thousand_runs() {
    let device = percept_cpu::open(2).unwrap();
    let graph = training_step();
    let executable = device.compile(&graph, &CompileOptions::default()).unwrap();
    let fixed: Vec<Buffer> = ["x", "labels", "lr"]
        .into_iter()
        .map(|name| {
            let ty = graph.ty(graph.inputs()[graph.input_index(name).unwrap()].value);
            let data = match name {
                "labels" => bytemuck::cast_slice(&[0i32, 1, 2, 3, 4, 5, 6, 7]).to_vec(),
                "lr" => 1e-3f32.to_le_bytes().to_vec(),
                _ => values(ty),
            };
            device.upload(ty, &data).unwrap()
        })
        .collect();
    let ty = TensorType::new(DType::F32, [10, 16]);
    let mut state = vec![device.upload(&ty, &values(&ty)).unwrap()];
    state.extend([device.zeros(&ty).unwrap(), device.zeros(&ty).unwrap()]);
    let mut losses = Vec::new();
    let mut after_warm_up = (0, device.memory());
    for run in 0..10_000 {
        let step = (run + 1) as f32;
        let step = device.upload(&TensorType::new(DType::F32, []), &step.to_le_bytes()).unwrap();
        let mut kept = std::mem::take(&mut state).into_iter();
        let args = graph.inputs().iter().map(|input| match input.name.as_str() {
            "x" => Arg::Borrow(fixed[0].clone()),
            "labels" => Arg::Borrow(fixed[1].clone()),
            "lr" => Arg::Borrow(fixed[2].clone()),
            "step" => Arg::Borrow(step.clone()),
            _ => Arg::Donate(kept.next().unwrap()),
        });
        let mut outputs = executable.run(args.collect()).unwrap();
        state = outputs.split_off(1);
        losses.push(f32::from_le_bytes(device.read(&outputs[0]).unwrap().try_into().unwrap()));
        if run == 1000 {
            after_warm_up = (resident(), device.memory());
        }
    }
    assert!(losses[9_999] < 0.1 * losses[0], "training goes from {} to {}", losses[0], losses[9_999]);
    let (memory, before) = (device.memory(), after_warm_up.1);
    assert_eq!(memory.buffers + memory.scratch, before.buffers + before.scratch);
    // A leak of 64 bytes a run would be more than this.
    let grown = resident().saturating_sub(after_warm_up.0);
    assert!(grown < 512 << 10, "{grown} bytes more after 9,000 runs");
}
