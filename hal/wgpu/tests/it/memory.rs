//! Memory stays flat over many runs.

use percept_graph::DType;
use percept_hal::{Arg, CompileOptions, Device};

use crate::adapter::{device, graph, inputs_of};
use crate::alone::alone;

#[test]
fn two_thousand_runs_hold_memory_flat() {
    alone(two_thousand_runs);
}

fn two_thousand_runs() {
    let Some(device) = device() else { return };
    let g = graph(|t| {
        let x = t.data("x", DType::F32, [64, 64]);
        t.output("y", &(x.sum([1]).broadcast([64, 64], [0]) * x.exp()));
        t.output("z", &x.transpose([1, 0]));
    });
    let executable = device.compile(&g, &CompileOptions::default()).unwrap();
    let x = inputs_of(&g).remove(0);
    let step = || {
        let x = device.upload(x.ty(), x.bytes()).unwrap();
        let y = executable.run(vec![Arg::Donate(x)]).unwrap();
        assert_eq!(y.len(), 2);
    };
    (0..100).for_each(|_| step());
    device.synchronize().unwrap();
    let (held, resident) = (device.memory(), resident_bytes());
    (0..2000).for_each(|_| step());
    device.synchronize().unwrap();
    assert_eq!(device.memory(), held);
    let grown = resident_bytes().saturating_sub(resident);
    println!("2,000 runs: {grown} bytes more resident");
    assert!(grown < 16 << 20, "the process grew by {grown} bytes");
}

/// Memory of this process, where the system says.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|p| p.parse::<u64>().ok()).unwrap_or(0) * 4096
}
