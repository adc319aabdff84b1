//! The adapter on an emitter whose compiler is the reference evaluator.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use percept_graph::reference::evaluate;
use percept_graph::{DType, Graph, HostTensor, Literal, Op, OpDesc, Role, TensorType, Trace, Unary};

use super::{EmitterDevice, GraphEmitter, Operand};
use crate::buffer::{Arg, Buffer};
use crate::conformance::{Level, Options, ReferenceDevice, Runner, Subject, run};
use crate::device::{CompileOptions, Device, DeviceInfo, MemoryUse};
use crate::error::{Error, Result};
use crate::report::Placement;

/// Evaluates graphs with the reference; refuses the operations of a list; counts.
struct Evaluator {
    info: DeviceInfo,
    lacks: Vec<Unary>,
    live: Arc<AtomicU64>,
    donated: AtomicUsize,
    /// The graphs compiled, in order.
    compiled: Mutex<Vec<Graph>>,
}

/// Counted while it lives.
#[derive(Debug)]
struct Value(HostTensor, Arc<AtomicU64>);

impl Drop for Value {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.bytes().len() as u64, Ordering::Relaxed);
    }
}

fn evaluator(lacks: &[Unary]) -> EmitterDevice<Evaluator> {
    let info = DeviceInfo {
        id: "evaluator".into(),
        name: "graph evaluator".into(),
        vendor: "percept".into(),
        driver: "1".into(),
        software: true,
        dtypes: DType::ALL.to_vec(),
        features: Vec::new(),
        max_buffer_bytes: 1 << 32,
        memory_bytes: None,
        computes_in: DType::F32,
    };
    let (live, donated) = (Arc::default(), AtomicUsize::new(0));
    EmitterDevice::new(Evaluator { info, lacks: lacks.to_vec(), live, donated, compiled: Mutex::default() })
}

impl Evaluator {
    fn hold(&self, tensor: HostTensor) -> Value {
        self.live.fetch_add(tensor.bytes().len() as u64, Ordering::Relaxed);
        Value(tensor, self.live.clone())
    }

    fn failed(&self, why: String) -> Error {
        Error::Failed { device: self.info.id.clone(), op: String::new(), why }
    }

    fn segments(&self) -> Vec<Graph> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl GraphEmitter for Evaluator {
    type Memory = Value;
    type Program = Graph;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, op: &OpDesc<'_>) -> Result<(), String> {
        match op.op {
            Op::Unary(k) if self.lacks.contains(k) => Err(format!("no {k:?}")),
            Op::Composite(_) => Err("composites are decomposed".into()),
            _ => Ok(()),
        }
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Value> {
        Ok(self.hold(HostTensor::new(ty.clone(), bytes).map_err(|e| self.failed(e.to_string()))?))
    }

    fn read(&self, memory: &Value, ty: &TensorType) -> Result<Vec<u8>> {
        assert_eq!(memory.0.ty(), ty);
        Ok(memory.0.bytes().to_vec())
    }

    fn compile(&self, graph: &Graph, _options: &CompileOptions) -> Result<Graph> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).push(graph.clone());
        Ok(graph.clone())
    }

    fn run(&self, graph: &Graph, operands: Vec<Operand<'_, Value>>) -> Result<Vec<Value>> {
        let promised = graph.donated();
        for (i, operand) in operands.iter().enumerate() {
            assert_eq!(matches!(operand, Operand::Donated(_)), promised.contains(&i));
        }
        self.donated.fetch_add(promised.len(), Ordering::Relaxed);
        let inputs: Vec<HostTensor> = operands.iter().map(|o| o.memory().0.clone()).collect();
        let outputs = evaluate(graph, &inputs).map_err(|e| self.failed(e.to_string()))?;
        Ok(outputs.into_iter().map(|t| self.hold(t)).collect())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse { buffers: self.live.load(Ordering::Relaxed), scratch: 0 }
    }
}

fn with_host() -> CompileOptions {
    CompileOptions { host: Some(Arc::new(ReferenceDevice::new())), ..CompileOptions::default() }
}

fn vector(values: &[f32]) -> HostTensor {
    HostTensor::from_f32([values.len()], values).unwrap()
}

fn upload(device: &dyn Device, tensor: &HostTensor) -> Buffer {
    device.upload(tensor.ty(), tensor.bytes()).unwrap()
}

fn assert_near(device: &dyn Device, got: &[Buffer], want: &[HostTensor]) {
    for (got, want) in got.iter().zip(want) {
        let got = HostTensor::new(want.ty().clone(), device.read(got).unwrap()).unwrap();
        let near = got.values().iter().zip(want.values()).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near, "{:?} is not {:?}", got.values(), want.values());
    }
}

#[test]
fn the_contract_holds() {
    for lacks in [&[][..], &[Unary::Exp, Unary::Neg]] {
        let mut subject = Subject::new(Arc::new(evaluator(lacks)));
        subject.host = Some(Arc::new(ReferenceDevice::new()));
        let options = Options { level: Level::L0, ..Options::default() };
        let report = run("evaluator", &Runner::InProcess(&subject), &options, &mut |_, _, _| {}).unwrap();
        let failures: Vec<String> = report.failures().map(|o| format!("{}: {}", o.case, o.note)).collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

/// y = erf(exp(x) + c) * exp(x); z = x + c; state' = state + 1.
fn middle() -> Graph {
    let t = Trace::new("middle");
    let x = t.data("x", DType::F32, [4]);
    let state = t.input("state", Role::State, TensorType::new(DType::F32, [4]));
    let c = t.constant(Literal::dense(TensorType::new(DType::F32, [4]), &[0.5, 1.0, -1.0, 2.0]).unwrap());
    let e = x.exp();
    t.output("y", &((&e + &c).erf() * &e));
    t.output("z", &(&x + &c));
    t.output_in_place("next", &(&state + 1.0), &state);
    t.finish().unwrap()
}

#[test]
fn a_graph_is_cut_only_where_the_host_is_needed() {
    let device = evaluator(&[Unary::Erf]);
    let executable = device.compile(&middle(), &with_host()).unwrap();
    let segments = device.emitter().segments();
    let ops: Vec<Vec<String>> =
        segments.iter().map(|g| g.nodes().iter().map(|n| n.op.name()).collect()).collect();
    // What does not depend on the host runs before it, and constants are in each program that reads them.
    assert_eq!(segments.len(), 2, "{ops:?}");
    assert_eq!(ops[1], ["mul"]);
    assert_eq!(executable.report().launches, 2);
    let fallbacks: Vec<_> = executable.report().fallbacks().collect();
    assert_eq!(fallbacks.len(), 1);
    assert_eq!((fallbacks[0].op.as_str(), fallbacks[0].placement), ("erf", Placement::Host));
    assert!(fallbacks[0].reason.contains("no Erf"));

    let inputs = [vector(&[0.0, -1.0, 0.25, 1.5]), vector(&[1.0, 2.0, 3.0, 4.0])];
    let want = evaluate(&middle(), &inputs).unwrap();
    let run = |timed: bool| {
        let args = vec![Arg::Borrow(upload(&device, &inputs[0])), Arg::Donate(upload(&device, &inputs[1]))];
        if timed { executable.run_timed(args).unwrap() } else { (executable.run(args).unwrap(), Vec::new()) }
    };
    let (outputs, _) = run(false);
    assert_near(&device, &outputs, &want);
    assert_eq!(device.emitter().donated.load(Ordering::Relaxed), 1);
    assert_eq!(device.memory().buffers, 3 * 16, "values that cross were dropped");
    let (_, events) = run(true);
    let places: Vec<&str> = events.iter().map(|e| &*e.place).collect();
    assert_eq!(places, ["evaluator", "reference (host)", "evaluator"]);
}

#[test]
fn strict_refuses_the_host_by_name() {
    let device = evaluator(&[Unary::Erf]);
    let Err(e) = device.compile(&middle(), &CompileOptions { strict: true, ..with_host() }) else {
        panic!("erf is refused")
    };
    let text = e.to_string();
    assert!(matches!(e, Error::Unsupported { .. }), "{text}");
    for part in ["erf", "f32[4]", "evaluator", "no Erf", "--strict"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn an_input_read_behind_the_program_that_replaces_it_is_not_donated_there() {
    // The update could run first; the product with what the host gave needs the old state.
    let t = Trace::new("late");
    let state = t.input("state", Role::State, TensorType::new(DType::F32, [2]));
    t.output("late", &(state.erf() * &state));
    t.output_in_place("next", &(&state + 1.0), &state);
    let graph = t.finish().unwrap();
    let device = evaluator(&[Unary::Erf]);
    let executable = device.compile(&graph, &with_host()).unwrap();
    let given = vector(&[0.5, -1.5]);
    let outputs = executable.run(vec![Arg::Donate(upload(&device, &given))]).unwrap();
    let want = evaluate(&graph, &[given]).unwrap();
    assert_near(&device, &outputs, &want);
    assert_eq!(device.emitter().donated.load(Ordering::Relaxed), 0);
}
