//! A step of a language model of SmolLM2-135M's shape whose KV cache is given up for its successor, beside a bare loop in C over the same
//! plug-in and the same module (`bare.c`).
//!
//! `PERCEPT_PJRT=/path/plugin.so cargo bench -p percept-pjrt --bench decoder [-- DTYPE ...]`

#[path = "../../benches/smollm2/mod.rs"]
mod smollm2;

use std::path::Path;

use percept_graph::passes::FuseOptions;
use percept_graph::{DType, Graph, Role, Trace};
use percept_hal::{CompileOptions, Support, lower};
use percept_pjrt::stablehlo::{self, storage_dims};
use smollm2::{Argument, Running, bare, print, step, time_bare, write_arguments};

/// x + 1 on four floats.
fn smallest() -> Graph {
    let trace = Trace::new("smallest");
    trace.output("y", &(trace.data("x", DType::F32, [4]) + 1.0));
    trace.finish().expect("a sum")
}

/// The number in C of the elements that hold a dtype: quantized blocks are bytes.
fn element(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 11,
        DType::F16 => 10,
        DType::BF16 => 13,
        DType::I32 => 4,
        DType::U32 => 8,
        DType::Bool => 1,
        _ => 6,
    }
}

/// The module of a graph in a folder, as the device makes it, and the list of its arguments.
fn write(graph: &Graph, folder: &Path) {
    let options = CompileOptions { strict: true, fuse: false, ..CompileOptions::default() };
    let support = |op: &percept_graph::OpDesc<'_>| match stablehlo::supports(op) {
        Ok(()) => Support::Native,
        Err(_) => Support::Decompose,
    };
    let lowered = lower("pjrt", graph, &options, &FuseOptions::default(), &support).expect("it lowers").graph;
    let module = stablehlo::emit(&lowered).map_err(|e| e.why).expect("it is emitted");
    std::fs::write(folder.join("module.mlir"), module).expect("the module is written");
    let argument = |name: &str, value, is_weight, replaced| {
        let ty = lowered.ty(value);
        Argument {
            name: name.to_owned(),
            element: element(ty.dtype),
            is_weight,
            replaced,
            bytes: ty.bytes(),
            dims: storage_dims(ty),
        }
    };
    let outputs = lowered.outputs();
    let given = lowered.inputs().iter().enumerate().map(|(i, input)| {
        let replaced = outputs.iter().position(|output| output.alias == Some(i));
        argument(&input.name, input.value, input.role == Role::Parameter, replaced)
    });
    let made = outputs.iter().map(|output| argument(&output.name, output.value, false, None));
    write_arguments(folder, &given.collect::<Vec<_>>(), &made.collect::<Vec<_>>());
}

fn main() {
    let Ok(plugin) = std::env::var("PERCEPT_PJRT") else {
        println!("PERCEPT_PJRT names no plug-in");
        return;
    };
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let device = percept_pjrt::open(&format!("pjrt:{plugin}")).expect("the plug-in opens");
    let folder = tempfile::tempdir().expect("a folder");
    let program = bare(env!("CARGO_MANIFEST_DIR"), folder.path());
    let place = folder.path().display().to_string();
    let compare = |what: &str, graph: &Graph, runs: usize| {
        write(graph, folder.path());
        let mut running = Running::new(&device, graph);
        let before = running.time(runs);
        let bare = time_bare(&program, &[&plugin, &place, &runs.to_string()]);
        print(what, before.min(running.time(runs)), bare);
        println!("{what:24} first after {:.2} s", running.first);
    };
    if asked.is_empty() {
        compare("a sum of four floats", &smallest(), 2000);
    }
    for dtype in [DType::F32, DType::BF16, DType::Q4_1] {
        if asked.is_empty() || asked.iter().any(|name| name == dtype.name()) {
            compare(dtype.name(), &step(dtype), 24);
        }
    }
}
