//! What a call costs, and a step of a language model of SmolLM2-135M's shape over a KV cache that is written in place, beside a bare
//! loop in C over the same library and the same model (`bare.c`).
//!
//! `PERCEPT_ONNXRUNTIME=/path/libonnxruntime.so cargo bench -p percept-onnx --bench decoder [-- DTYPE ...]`, on two threads, or as
//! many as `PERCEPT_THREADS` says.

#[path = "../../benches/smollm2/mod.rs"]
mod smollm2;

use std::collections::HashSet;
use std::path::Path;

use percept_graph::passes::FuseOptions;
use percept_graph::{DType, Graph, Role, Trace};
use percept_hal::{Backend, CompileOptions, Support, lower};
use percept_onnx::emit::{Port, supports};
use percept_onnx::{OnnxBackend, Style, emit, export};
use smollm2::{Argument, Running, bare, print, small, step, time_bare, write_arguments};

/// x + 1 on four floats.
fn smallest() -> Graph {
    let trace = Trace::new("smallest");
    trace.output("y", &(trace.data("x", DType::F32, [4]) + 1.0));
    trace.finish().expect("a sum")
}

/// The model of a graph in a folder, as the device makes it, and the list of its arguments.
fn write(graph: &Graph, folder: &Path) {
    let style = Style::runtime();
    let options = CompileOptions { strict: true, fuse: false, ..CompileOptions::default() };
    let support = |op: &percept_graph::OpDesc<'_>| match supports(op, style) {
        Ok(()) => Support::Native,
        Err(_) => Support::Decompose,
    };
    let lowered = lower("onnx", graph, &options, &FuseOptions::default(), &support).expect("it lowers").graph;
    let inputs = lowered.inputs();
    let values: Vec<Vec<u8>> = inputs.iter().map(|i| small(lowered.ty(i.value).bytes())).collect();
    let weight = |i: usize| Some(&values[i][..]);
    export(&lowered, style, &weight, &folder.join("model.onnx")).expect("it is exported");
    let constants: HashSet<usize> =
        (0..inputs.len()).filter(|i| inputs[*i].role == Role::Parameter).collect();
    let emitted = emit(&lowered, style, &constants).expect("it is emitted");
    let argument = |port: &Port, replaced| Argument {
        name: port.name.clone(),
        element: port.elem as i32,
        is_weight: false,
        replaced,
        bytes: port.elem.bytes() * port.dims.iter().product::<usize>(),
        dims: port.dims.clone(),
    };
    let replaced = |port: &Port| {
        let place = emitted.in_place.iter().find(|place| place.input == port.index)?;
        emitted.outputs.iter().position(|output| output.index == place.output)
    };
    let given: Vec<Argument> = emitted.inputs.iter().map(|port| argument(port, replaced(port))).collect();
    let made: Vec<Argument> = emitted.outputs.iter().map(|port| argument(port, None)).collect();
    write_arguments(folder, &given, &made);
}

fn main() {
    let Ok(library) = std::env::var("PERCEPT_ONNXRUNTIME") else {
        println!("PERCEPT_ONNXRUNTIME names no library");
        return;
    };
    let threads = std::env::var("PERCEPT_THREADS").unwrap_or_else(|_| "2".into());
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let device = OnnxBackend.open(&format!("onnx:{library}?threads={threads}")).expect("the device opens");
    let folder = tempfile::tempdir().expect("a folder");
    let program = bare(env!("CARGO_MANIFEST_DIR"), folder.path());
    let place = folder.path().display().to_string();
    let compare = |what: &str, graph: &Graph, runs: usize| {
        write(graph, folder.path());
        let mut running = Running::new(&*device, graph);
        let before = running.time(runs);
        let bare = time_bare(&program, &[&library, &place, &runs.to_string(), &threads]);
        print(what, before.min(running.time(runs)), bare);
        println!("{what:24} first after {:.2} s", running.first);
    };
    if asked.is_empty() {
        compare("a sum of four floats", &smallest(), 2000);
    }
    for dtype in [DType::F32, DType::Q4_0, DType::Q4_1, DType::Q8_0] {
        if asked.is_empty() || asked.iter().any(|name| name == dtype.name()) {
            compare(dtype.name(), &step(dtype), 24);
        }
    }
}
