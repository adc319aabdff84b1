//! The ladder on the reference itself: every case must build, and the judge must pass its own examination.

use std::collections::HashSet;
use std::sync::Arc;

use percept_graph::{DType, Graph, GraphError, Op, OpDesc, TensorType, ValueId};
use percept_hal::conformance::{Level, ReferenceDevice, Report, Status, Subject, cases};
use percept_hal::{
    Buffer, CompileOptions, Device, DeviceInfo, Executable, MemoryUse, Pending, Result, Support,
};

#[test]
fn the_reference_climbs_every_rung() {
    let mut subject = Subject::new(Arc::new(ReferenceDevice::new()));
    subject.soak_runs = 200;
    let mut faults = Vec::new();
    for case in cases() {
        let outcome = case.run(&subject);
        if outcome.status != Status::Passed {
            faults.push(format!("{}: {:?} {}", outcome.case, outcome.status, outcome.note));
        }
    }
    assert!(faults.is_empty(), "{} cases do not pass:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_table_is_large_and_its_ids_differ() {
    let all = cases();
    let graded = all.iter().filter(|c| (Level::L1..=Level::L3).contains(&c.level)).count();
    assert!(graded >= 1500, "{graded} cases in L1 to L3");
    let ids: HashSet<&str> = all.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids.len(), all.len());
    assert!(all.iter().all(|c| !c.id.contains(char::is_whitespace)));
}

#[test]
fn a_compiler_alone_is_held_to_every_graph_and_to_no_run() {
    let mut subject = Subject::new(Arc::new(ReferenceDevice::new()));
    (subject.compile_only, subject.strict) = (true, true);
    for case in cases().iter().filter(|c| c.id.contains("softmax") || c.level == Level::L0) {
        let outcome = case.run(&subject);
        // A promise holds of runs.
        let promise = case.level == Level::L0 || case.op == "rows_alone";
        let (status, placed) = if promise { (Status::Skipped, false) } else { (Status::Passed, true) };
        assert_eq!(
            (outcome.status, outcome.placement.is_some()),
            (status, placed),
            "{}: {}",
            case.id,
            outcome.note
        );
        assert_eq!(outcome.error_ulp, None, "{}: nothing ran", case.id);
    }
}

/// The reference, but for what it has in f32, which it holds in another dtype after every operation.
struct Half {
    inner: ReferenceDevice,
    info: DeviceInfo,
    holds: DType,
}

impl Half {
    fn new(holds: DType, says: DType) -> Self {
        let inner = ReferenceDevice::new();
        let info = DeviceInfo { id: "half".into(), computes_in: says, ..inner.info().clone() };
        Self { inner, info, holds }
    }

    /// The graph with every value of f32 rounded.
    fn rounded(&self, graph: &Graph) -> std::result::Result<Graph, GraphError> {
        let mut made = Graph::new(graph.name());
        let round = |made: &mut Graph, value: ValueId| -> std::result::Result<ValueId, GraphError> {
            if made.ty(value).dtype != DType::F32 {
                return Ok(value);
            }
            let held = made.add(Op::Cast { to: self.holds }, &[value], &"".into())?[0];
            Ok(made.add(Op::Cast { to: DType::F32 }, &[held], &"".into())?[0])
        };
        let mut map = vec![ValueId(0); graph.values().len()];
        for input in graph.inputs() {
            let added = made.add_input(&input.name, input.role, graph.ty(input.value).clone())?;
            map[input.value.index()] = round(&mut made, added)?;
        }
        for node in graph.nodes() {
            let operands: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
            for (from, to) in node.outputs.iter().zip(made.add(node.op.clone(), &operands, &node.path)?) {
                map[from.index()] = round(&mut made, to)?;
            }
        }
        for output in graph.outputs() {
            made.add_output(&output.name, map[output.value.index()], output.alias)?;
        }
        Ok(made)
    }
}

impl Device for Half {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, op: &OpDesc<'_>) -> Support {
        self.inner.supports(op)
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer> {
        self.inner.upload(ty, bytes)
    }

    fn zeros(&self, ty: &TensorType) -> Result<Buffer> {
        self.inner.zeros(ty)
    }

    fn read_async(&self, src: &Buffer) -> Result<Pending> {
        self.inner.read_async(src)
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Box<dyn Executable>> {
        self.inner.compile(&self.rounded(graph)?, options)
    }

    fn synchronize(&self) -> Result<()> {
        self.inner.synchronize()
    }

    fn memory(&self) -> MemoryUse {
        self.inner.memory()
    }
}

#[test]
fn a_device_is_judged_by_the_dtype_that_it_says_it_computes_in() {
    let ops = ["add", "exp", "reduce_sum", "dot", "transpose", "softmax", "rms_norm", "attention", "linear"];
    let climb = |holds, says| {
        let subject = Subject::new(Arc::new(Half::new(holds, says)));
        let chosen = cases().into_iter().filter(|c| {
            (Level::L1..=Level::L2).contains(&c.level)
                && ops.contains(&c.op.as_str())
                && c.id.contains("/f32")
        });
        Report::new("half", chosen.map(|case| case.run(&subject)).collect())
    };
    for holds in [DType::F16, DType::BF16] {
        let report = climb(holds, holds);
        let counts = report.counts(None);
        assert!(counts.passed > 30 && counts.failed == 0, "{holds}: {report}");
        assert_eq!(report.computes_in(), Some(holds));
        assert_eq!(report.to_json()["computes_in"], holds.name());
        assert!(report.to_string().contains(&format!("errors are in units of {holds}")), "{report}");
    }
    // One that says nothing of it is wrong nearly everywhere, and one that computes in less than it says where rounding is all there is.
    let silent = climb(DType::F16, DType::F32).counts(None);
    assert!(silent.failed > silent.passed, "{silent:?}");
    let boasting = climb(DType::BF16, DType::F16);
    assert!(boasting.failures().any(|o| o.op == "transpose"), "{boasting}");
    assert!(boasting.failures().any(|o| o.op == "add"), "{boasting}");
    let exact = climb(DType::F32, DType::F32);
    assert_eq!((exact.counts(None).failed, exact.computes_in()), (0, None));
}
