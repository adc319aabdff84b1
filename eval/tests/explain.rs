//! Devices with a planted fault: the score falls, and the operation at fault is named with its module.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept_eval::explain::explain;
use percept_eval::metric::interval::Bootstrap;
use percept_eval::run::{Agreement, Options, Outcome, agreement, run};
use percept_eval::task::Task;
use percept_graph::{Binary, Composite, DType, Graph, Literal, Op, OpDesc, TensorType, ValueId};
use percept_hal::conformance::ReferenceDevice;
use percept_hal::{
    Buffer, CompileOptions, Device, DeviceInfo, Executable, MemoryUse, Pending, Result, Support,
};
use percept_infer::{Session, SessionOptions};
use percept_model::Model;
use percept_model::checkpoint::Checkpoint;
use serde_json::json;

/// What is wrong with a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// RMS norms are wrong from column [`TILE`] on.
    NormPastTile,
    /// Attention keeps its queries in f16, scaled so that they overflow.
    AttentionOverflow,
}

/// Columns of a row that are right.
const TILE: usize = 24;
/// What queries are multiplied by before they become f16: those above 1/16 overflow.
const SCALE: f64 = 1_048_576.0;

/// A device that compiles another graph than it was given: one with a fault in one kind of operation.
struct FaultyDevice(ReferenceDevice, Fault);

impl Device for FaultyDevice {
    fn info(&self) -> &DeviceInfo {
        self.0.info()
    }

    fn supports(&self, op: &OpDesc<'_>) -> Support {
        self.0.supports(op)
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer> {
        self.0.upload(ty, bytes)
    }

    fn zeros(&self, ty: &TensorType) -> Result<Buffer> {
        self.0.zeros(ty)
    }

    fn read_async(&self, src: &Buffer) -> Result<Pending> {
        self.0.read_async(src)
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Box<dyn Executable>> {
        self.0.compile(&spoilt(graph, self.1)?, options)
    }

    fn synchronize(&self) -> Result<()> {
        self.0.synchronize()
    }

    fn memory(&self) -> MemoryUse {
        self.0.memory()
    }
}

/// A graph with a fault in each operation of a kind.
fn spoilt(graph: &Graph, fault: Fault) -> Result<Graph> {
    let mut other = Graph::new(graph.name());
    let mut map = vec![ValueId(0); graph.values().len()];
    for input in graph.inputs() {
        map[input.value.index()] = other.add_input(&input.name, input.role, graph.ty(input.value).clone())?;
    }
    for node in graph.nodes() {
        let mut operands: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
        let is_attention = matches!(node.op, Op::Composite(Composite::Attention(_)));
        if fault == Fault::AttentionOverflow && is_attention {
            operands[0] = through_f16(&mut other, operands[0], &node.path)?;
        }
        let mut results = other.add(node.op.clone(), &operands, &node.path)?;
        let is_norm = matches!(node.op, Op::Composite(Composite::RmsNorm { .. }));
        if fault == Fault::NormPastTile && is_norm {
            results[0] = doubled_past_tile(&mut other, results[0], &node.path)?;
        }
        for (from, to) in node.outputs.iter().zip(results) {
            map[from.index()] = to;
        }
    }
    for output in graph.outputs() {
        other.add_output(&output.name, map[output.value.index()], output.alias)?;
    }
    Ok(other)
}

fn doubled_past_tile(graph: &mut Graph, value: ValueId, path: &Arc<str>) -> Result<ValueId> {
    let dims = graph.ty(value).dims.to_vec();
    let axis = dims.len() - 1;
    let columns = |graph: &mut Graph, from: usize, to: usize| {
        let (mut start, mut limit) = (vec![0; dims.len()], dims.clone());
        (start[axis], limit[axis]) = (from, to);
        let slice = Op::Slice { start, limit, stride: vec![1; dims.len()] };
        Ok::<_, percept_hal::Error>(graph.add(slice, &[value], path)?[0])
    };
    let (good, rest) = (columns(graph, 0, TILE)?, columns(graph, TILE, dims[axis])?);
    let bad = graph.add(Op::Binary(Binary::Add), &[rest, rest], path)?[0];
    Ok(graph.add(Op::Concat { axis }, &[good, bad], path)?[0])
}

fn through_f16(graph: &mut Graph, value: ValueId, path: &Arc<str>) -> Result<ValueId> {
    let ty = graph.ty(value).clone();
    let times = |graph: &mut Graph, value: ValueId, factor: f64| {
        let all = graph.add(Op::Constant(Literal::splat(ty.clone(), factor)), &[], path)?[0];
        Ok::<_, percept_hal::Error>(graph.add(Op::Binary(Binary::Mul), &[value, all], path)?[0])
    };
    let large = times(graph, value, SCALE)?;
    let half = graph.add(Op::Cast { to: DType::F16 }, &[large], path)?[0];
    let back = graph.add(Op::Cast { to: DType::F32 }, &[half], path)?[0];
    times(graph, back, 1.0 / SCALE)
}

fn session(device: Arc<dyn Device>) -> Session {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/llama/model");
    let checkpoint = Arc::new(Checkpoint::open(folder).unwrap());
    let Model::Causal(model) = percept_model::open(checkpoint).unwrap() else { panic!("llama generates") };
    Session::new(device, model, SessionOptions { batch_invariant: true, ..SessionOptions::default() })
        .unwrap()
}

fn host() -> Arc<dyn Device> {
    Arc::new(ReferenceDevice::new())
}

fn reference() -> Session {
    session(host())
}

/// Short questions, whose right answers are what the model says on the reference.
fn ask(session: &mut Session, folder: &Path, right: &[String]) -> Outcome {
    let rows: String = (0..4)
        .map(|at| {
            let right = right.get(at).cloned().unwrap_or_default();
            format!("{}\n", json!({"q": format!("say {at}"), "right": right}))
        })
        .collect();
    std::fs::write(folder.join("rows.jsonl"), rows).unwrap();
    let text = "name = \"x\"\n[data]\nfiles = \"*.jsonl\"\n[ask]\nprompt = \"{{ q }}\"\nmax_tokens = 3\n\
                [score]\nmetric = \"exact\"\nanswer = \"right\"\n";
    let task = Task::parse(Path::new("x.toml"), text).unwrap();
    let options = Options {
        batch: 2,
        limit: None,
        shard: (0, 1),
        bootstrap: Bootstrap { draws: 20, ..Bootstrap::default() },
        out: None,
        ran: json!({}),
        keep: 4,
    };
    run(session, &task, folder, &options, &mut |_| ()).unwrap()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    (folder, path)
}

#[test]
fn a_norm_that_is_wrong_past_a_tile_costs_score_and_is_named() {
    let (_kept, folder) = folder();
    let said: Vec<String> = ask(&mut reference(), &folder, &[])
        .asked
        .iter()
        .map(|asked| asked.line.answer.said.clone())
        .collect();
    let fine = ask(&mut reference(), &folder, &said);
    assert_eq!(fine.scores.metrics["exact_match"].value, 1.0);
    let device: Arc<dyn Device> = Arc::new(FaultyDevice(ReferenceDevice::new(), Fault::NormPastTile));
    let mut faulty = session(device);
    let outcome = ask(&mut faulty, &folder, &said);
    assert!(outcome.scores.metrics["exact_match"].value < 1.0, "the score falls");
    let held: Agreement = agreement(&mut faulty, &mut reference(), &outcome.kept).unwrap();
    assert!(held.kl > 1e-3, "{held:?}");
    let found = explain(&faulty, &mut reference(), &host(), &outcome.kept, &held).unwrap().unwrap();
    let first = found.first.as_ref().unwrap();
    assert!(first.op.contains("rms_norm"), "{found}");
    // The first norm of the model.
    assert!(first.module.contains("layers.0"), "{found}");
    assert!(found.to_string().contains(&first.module), "{found}");
    let again: Graph = first.graph.parse().unwrap();
    assert_eq!(
        again.nodes().len(),
        1 + again.nodes().iter().filter(|n| matches!(n.op, Op::Constant(_))).count()
    );
    // The same device without the fault has nothing to explain.
    let mut twin = reference();
    let held = agreement(&mut twin, &mut reference(), &fine.kept).unwrap();
    let found = explain(&twin, &mut reference(), &host(), &fine.kept, &held).unwrap().unwrap();
    assert!(found.first.is_none() && found.operations > 50 && found.runs >= 2, "{found}");
}

#[test]
fn attention_that_overflows_in_f16_is_named_though_its_logits_are_no_numbers() {
    let (_kept, folder) = folder();
    let fine = ask(&mut reference(), &folder, &[]);
    let device: Arc<dyn Device> = Arc::new(FaultyDevice(ReferenceDevice::new(), Fault::AttentionOverflow));
    let mut faulty = session(device);
    let held = agreement(&mut faulty, &mut reference(), &fine.kept).unwrap();
    let found = explain(&faulty, &mut reference(), &host(), &fine.kept, &held).unwrap().unwrap();
    let first = found.first.as_ref().unwrap();
    assert!(first.op.contains("attention") && first.module.contains("layers.0"), "{found}");
    assert!(first.error.is_none(), "{found}");
}
