//! The cases find what is wrong, and whose fault it is.

use std::collections::HashMap;

use percept::graph::{Graph, OpDesc, Tensor, Trace, ValueId};
use percept::hal::{Buffer, DeviceInfo, Executable, MemoryUse, Pending, Result, Support};

use super::*;

/// The cpu with one operation that is off by a hundredth.
struct Spoiled {
    cpu: Arc<dyn Device>,
    info: DeviceInfo,
    op: &'static str,
}

impl Spoiled {
    fn new(op: &'static str) -> Self {
        let cpu = percept::registry().open("cpu").unwrap();
        let info = DeviceInfo { id: "spoiled".into(), ..cpu.info().clone() };
        Self { cpu, info, op }
    }
}

impl Device for Spoiled {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn supports(&self, op: &OpDesc<'_>) -> Support {
        self.cpu.supports(op)
    }
    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer> {
        self.cpu.upload(ty, bytes)
    }
    fn zeros(&self, ty: &TensorType) -> Result<Buffer> {
        self.cpu.zeros(ty)
    }
    fn load_weight(&self, weight: &Weight) -> Result<Buffer> {
        self.cpu.load_weight(weight)
    }
    fn read_async(&self, src: &Buffer) -> Result<Pending> {
        self.cpu.read_async(src)
    }
    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Box<dyn Executable>> {
        self.cpu.compile(&spoil(graph, self.op), options)
    }
    fn synchronize(&self) -> Result<()> {
        self.cpu.synchronize()
    }
    fn memory(&self) -> MemoryUse {
        self.cpu.memory()
    }
}

/// The same graph, with the first result of every such operation a hundredth larger, and by one more hundredth: a norm behind
/// it would undo a factor alone.
fn spoil(graph: &Graph, op: &str) -> Graph {
    let t = Trace::new(graph.name());
    let mut known: HashMap<ValueId, Tensor> = HashMap::new();
    for input in graph.inputs() {
        known.insert(input.value, t.input(&*input.name, input.role, graph.ty(input.value).clone()));
    }
    for node in graph.nodes() {
        let operands: Vec<&Tensor> = node.inputs.iter().map(|v| &known[v]).collect();
        let mut results = t.ops(node.op.clone(), &operands);
        if node.op.name() == op && results[0].dtype().is_float() {
            results[0] = &results[0] * 1.01 + 0.01;
        }
        known.extend(node.outputs.iter().copied().zip(results));
    }
    for output in graph.outputs() {
        match output.alias {
            Some(input) => {
                t.output_in_place(&*output.name, &known[&output.value], &known[&graph.inputs()[input].value])
            }
            None => t.output(&*output.name, &known[&output.value]),
        }
    }
    t.finish().unwrap()
}

/// Whether the graphs of a part have an operation.
fn uses(family: &Family, part: Part, op: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let cpu = percept::registry().open("cpu").unwrap();
    let description = family.read().unwrap();
    let runs = subjects(description.make(folder.path()).unwrap(), &description, part, &cpu).unwrap();
    runs.iter().any(|run| run.graph.nodes().iter().any(|node| node.op.name() == op))
}

#[test]
fn a_fault_is_put_down_to_its_operation_in_every_family_that_uses_it() {
    for op in ["attention", "rms_norm", "layer_norm"] {
        let tested = Tested::new(Arc::new(Spoiled::new(op)));
        let mut caught = Vec::new();
        for family in Family::all() {
            let part = if family.read().unwrap().writes() { Part::Prefill } else { Part::Encoders };
            if !uses(&family, part, op) {
                continue;
            }
            let case =
                cases().into_iter().find(|c| c.id == format!("L5/{}/{}", family.name, part.name())).unwrap();
            let outcome = case.run(&tested);
            let named = outcome.note.contains(&format!(", {op}"));
            assert!(named, "{} with a fault in {op}: {:?} {}", case.id, outcome.status, outcome.note);
            caught.push(family.name);
        }
        assert!(caught.len() > 3, "{op} is used by {caught:?} alone");
    }
}

#[test]
fn every_family_has_its_tiny_model() {
    let there: Vec<&str> = Family::all().map(|f| f.name).collect();
    let missing: Vec<&str> = percept::model::family_names().filter(|name| !there.contains(name)).collect();
    assert!(missing.is_empty(), "add src/cli/device/families/tiny/NAME.json for {missing:?}");
}
