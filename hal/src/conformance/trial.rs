//! Holds a WGSL kernel that somebody else wrote to an operation's cases.
//!
//! The kernel sees the operation's operands, then its results, as storage buffers at `@group(0)`; at
//! `@group(1) @binding(0)` a uniform struct with one `vec4<u32>` per buffer, its extents with ones in front.
//! A comment `// groups: rows` (the default) says that workgroup g makes row g of the first result, `//
//! groups: elements` that it makes the g-th run of as many elements as it has invocations. A kernel that says
//! `const WG: u32 = 64;` is tried with several sizes.

use percept_graph::{DType, Graph, HostTensor, Op, TensorType, reference};
use percept_kernels::{Module, Needs, WgslError, validate};

use super::agreement::compare;
use super::case::Check;
use super::cases::all;
use super::problem::build;
use super::tolerance::Class;
use crate::error::{Error, Result};
use crate::kernel_device::{Dispatch, KernelDevice, Window};

/// One set of operands for the kernel under trial.
pub struct TrialCase {
    /// What a report calls it.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// The operands of the operation.
    pub inputs: Vec<HostTensor>,
    /// What each result is held to.
    pub classes: Vec<Class>,
}

/// The ladder's cases of an operation that a foreign kernel can be held to: 32-bit elements, up to four
/// dimensions, nothing empty, no subnormals. None when there is no such operation.
pub fn trial_cases(op: &str) -> Vec<TrialCase> {
    all().iter().filter(|c| c.op == op).filter_map(trial_case).collect()
}

fn trial_case(case: &super::case::Case) -> Option<TrialCase> {
    let Check::Values(recipe) = &case.check else { return None };
    let problem = build(&case.id, recipe).ok()?;
    let [node] = problem.graph.nodes() else { return None };
    let operands = problem.graph.inputs().iter().map(|i| i.value);
    let results = problem.graph.outputs().iter().map(|o| o.value);
    let whole = node.inputs.iter().copied().eq(operands) && node.outputs.iter().copied().eq(results);
    let bindable = |t: &TensorType| t.rank() <= 4 && t.numel() > 0 && is_word(t.dtype);
    let fits = problem.graph.values().iter().all(|v| bindable(&v.ty));
    (whole && fits && !problem.subnormal).then(|| TrialCase {
        name: case.id.clone(),
        op: node.op.clone(),
        inputs: problem.inputs,
        classes: problem.classes,
    })
}

/// Why a kernel was rejected.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It is not valid WGSL.
    #[error("{0}")]
    Wgsl(#[from] WgslError),
    /// It has no compute entry point, or several.
    #[error("the module has {0} compute entry points; a kernel has one, called main")]
    EntryPoints(usize),
    /// It binds what the operation does not have.
    #[error("the kernel binds {bound} storage buffers, the operation has {expected} operands and results")]
    Bindings {
        /// Storage buffers of group 0.
        bound: usize,
        /// Operands and results of the operation.
        expected: usize,
    },
    /// The operation is not one this can try.
    #[error("case {case}: {why}")]
    Case {
        /// The name of the case.
        case: String,
        /// What does not fit.
        why: String,
    },
    /// A result is wrong.
    #[error("case {case}, workgroup size {workgroup}, {groups} of {all} workgroups: {why}")]
    Wrong {
        /// The name of the case.
        case: String,
        /// Invocations of a workgroup.
        workgroup: u32,
        /// The number of workgroups dispatched.
        groups: usize,
        /// Workgroups the whole result takes.
        all: usize,
        /// What is wrong and what kind of fault does that.
        why: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] Error),
}

/// Workgroup sizes for a kernel with a size to choose.
const SIZES: [u32; 4] = [64, 32, 128, 1];
/// Runs of every dispatch; a race need not show in one.
const REPEATS: usize = 3;
/// Fills results before a run: a NaN that no arithmetic makes.
const POISON: u32 = 0x7FC5_A5A5;

/// How the kernel divides a result among workgroups.
#[derive(Clone, Copy, PartialEq)]
enum Partition {
    Rows,
    Elements,
}

/// Try a kernel on every case; gives the number of dispatches that were checked.
///
/// Results are poisoned before each run; part of the workgroups is dispatched as well as all of them, so that
/// a write outside a workgroup's own rows shows; operands must not change; repeated runs must give the same
/// bits.
pub fn try_kernel<K: KernelDevice>(device: &K, wgsl: &str, cases: &[TrialCase]) -> Result<usize, Rejection> {
    let module = validate(wgsl)?;
    if module.entry_points.len() != 1 || module.entry_points[0].name != "main" {
        return Err(Rejection::EntryPoints(module.entry_points.len()));
    }
    let bound = module
        .global_variables
        .iter()
        .filter(|(_, v)| v.binding.as_ref().is_some_and(|b| b.group == 0))
        .count();
    let declared: u32 = module.entry_points[0].workgroup_size.iter().product();
    let elements = wgsl.lines().any(|l| l.trim_start().starts_with("// groups: elements"));
    let partition = if elements { Partition::Elements } else { Partition::Rows };
    let mut checked = 0;
    for (text, workgroup) in sized(wgsl, declared) {
        for case in cases {
            let trial = Trial::prepare(case, bound, partition, workgroup)?;
            checked += trial.run(device, &text)?;
        }
    }
    Ok(checked)
}

/// The kernel at each workgroup size it can be tried with.
fn sized(wgsl: &str, declared: u32) -> Vec<(String, u32)> {
    let marker = "const WG: u32 = ";
    let Some(at) = wgsl.find(marker).map(|i| i + marker.len()) else {
        return vec![(wgsl.to_string(), declared)];
    };
    let end = at + wgsl[at..].find(';').unwrap_or(0);
    SIZES.iter().map(|size| (format!("{}{size}{}", &wgsl[..at], &wgsl[end..]), *size)).collect()
}

/// A case made ready: expected values, shapes as parameters, the division of the work.
struct Trial<'a> {
    case: &'a TrialCase,
    outputs: Vec<TensorType>,
    expected: Vec<Vec<f64>>,
    params: Vec<u32>,
    /// Workgroups for the whole result, and elements of the first result that each makes.
    groups: usize,
    per_group: usize,
    workgroup: u32,
}

impl<'a> Trial<'a> {
    fn prepare(
        case: &'a TrialCase,
        bound: usize,
        partition: Partition,
        workgroup: u32,
    ) -> Result<Self, Rejection> {
        let bad = |why: String| Rejection::Case { case: case.name.clone(), why };
        let mut graph = Graph::new(case.name.clone());
        let mut operands = Vec::new();
        for (i, x) in case.inputs.iter().enumerate() {
            let added = graph.add_input(format!("{i}"), percept_graph::Role::Data, x.ty().clone());
            operands.push(added.map_err(|e| bad(e.to_string()))?);
        }
        let results = graph.add(case.op.clone(), &operands, &"".into()).map_err(|e| bad(e.to_string()))?;
        for (i, v) in results.iter().enumerate() {
            graph.add_output(format!("{i}"), *v, None).map_err(|e| bad(e.to_string()))?;
        }
        let outputs = graph.types(&results);
        let tensors: Vec<&TensorType> = case.inputs.iter().map(|x| x.ty()).chain(&outputs).collect();
        if bound != tensors.len() {
            return Err(Rejection::Bindings { bound, expected: tensors.len() });
        }
        if let Some(t) = tensors.iter().find(|t| t.rank() > 4 || t.numel() == 0 || !is_word(t.dtype)) {
            return Err(bad(format!("{t} cannot be bound: up to four dimensions of 32-bit elements")));
        }
        let params = tensors.iter().flat_map(|t| {
            let mut dims = [1u32; 4];
            for (to, d) in dims[4 - t.rank()..].iter_mut().zip(&t.dims) {
                *to = *d as u32;
            }
            dims
        });
        let exact: Vec<_> = case.inputs.iter().map(reference::ExactTensor::from).collect();
        let expected = reference::evaluate_exact(&graph, &exact, reference::DEFAULT_MAX_ELEMENTS)
            .map_err(|e| bad(e.to_string()))?;
        let numel = outputs[0].numel();
        let per_group = match partition {
            Partition::Rows => outputs[0].dims.last().copied().unwrap_or(1),
            Partition::Elements => workgroup as usize,
        };
        Ok(Self {
            case,
            params: params.collect(),
            expected: expected.into_iter().map(|e| e.values).collect(),
            groups: numel.div_ceil(per_group),
            per_group,
            workgroup,
            outputs,
        })
    }

    /// Dispatch parts and the whole, repeatedly, and check everything after each.
    fn run<K: KernelDevice>(&self, device: &K, text: &str) -> Result<usize, Rejection> {
        let mut parts = vec![1, self.groups / 2, self.groups.saturating_sub(1), self.groups];
        parts.retain(|g| *g > 0);
        parts.sort_unstable();
        parts.dedup();
        let mut checked = 0;
        for groups in parts {
            let mut first: Option<Vec<Vec<u8>>> = None;
            for _ in 0..REPEATS {
                let results = self.dispatch(device, text, groups)?;
                self.check(&results, groups)?;
                if let Some(first) = &first
                    && *first != results
                {
                    return Err(self.wrong(groups, "two runs differ: invocations race".into()));
                }
                first = Some(results);
                checked += 1;
            }
        }
        Ok(checked)
    }

    fn dispatch<K: KernelDevice>(
        &self,
        device: &K,
        text: &str,
        groups: usize,
    ) -> Result<Vec<Vec<u8>>, Rejection> {
        let inputs = self.case.inputs.iter().map(|x| device.upload(x.bytes(), "an operand"));
        let poison = |t: &TensorType| POISON.to_le_bytes().repeat(t.numel());
        let outputs = self.outputs.iter().map(|t| device.upload(&poison(t), "a result"));
        let memories = inputs.chain(outputs).collect::<Result<Vec<_>>>()?;
        let sizes =
            self.case.inputs.iter().map(|x| x.ty().bytes()).chain(self.outputs.iter().map(|t| t.bytes()));
        let windows = sizes
            .enumerate()
            .map(|(memory, bytes)| Window { memory, offset: 0, bytes: bytes as u64 })
            .collect();
        let dispatch = Dispatch {
            module: Module {
                key: format!("user-{:016x}", hash(text)),
                source: text.into(),
                needs: Needs::default(),
            },
            checked: true,
            groups: [groups as u32, 1, 1],
            params: self.params.clone(),
            bindings: windows,
            op: self.case.name.clone(),
        };
        let batch = device.record(vec![dispatch])?;
        device.submit(&batch, &memories.iter().collect::<Vec<_>>())?;
        let read = |i: usize, bytes: usize| device.read(&memories[i], 0, bytes as u64)?.wait();
        for (i, x) in self.case.inputs.iter().enumerate() {
            if read(i, x.ty().bytes())? != x.bytes() {
                return Err(self.wrong(groups, format!("operand {i} was written")));
            }
        }
        let n = self.case.inputs.len();
        Ok(self.outputs.iter().enumerate().map(|(i, t)| read(n + i, t.bytes())).collect::<Result<_>>()?)
    }

    /// Elements of the dispatched workgroups are right, the others are still poison.
    fn check(&self, results: &[Vec<u8>], groups: usize) -> Result<(), Rejection> {
        for (o, (bytes, expected)) in results.iter().zip(&self.expected).enumerate() {
            let dtype = self.outputs[o].dtype;
            let words: Vec<&[u8]> = bytes.chunks_exact(4).collect();
            // Only the first result says which workgroup an element belongs to.
            let made = if o == 0 { (groups * self.per_group).min(words.len()) } else { words.len() };
            if o > 0 && groups < self.groups {
                continue;
            }
            let poison = POISON.to_le_bytes();
            if let Some(i) = words[..made].iter().position(|w| **w == poison) {
                return Err(self.wrong(groups, format!("element {i} of result {o} was never written")));
            }
            if let Some(i) = words[made..].iter().position(|w| **w != poison).map(|i| i + made) {
                let owner = i / self.per_group;
                let why = format!(
                    "element {i} of result {o} belongs to workgroup {owner}, which did not run, yet it was written: \
                     workgroups conflict"
                );
                return Err(self.wrong(groups, why));
            }
            let got: Vec<f64> = words[..made].iter().map(|w| percept_graph::decode(dtype, w)).collect();
            let bounds = self.case.classes.get(o).unwrap_or(&Class::Exact).tolerance(dtype);
            if let Some(fault) = compare(dtype, &got, &expected[..made], &[], &bounds).fault {
                return Err(self.wrong(groups, format!("result {o}: {fault}")));
            }
        }
        Ok(())
    }

    fn wrong(&self, groups: usize, why: String) -> Rejection {
        let case = self.case.name.clone();
        Rejection::Wrong { case, workgroup: self.workgroup, groups, all: self.groups, why }
    }
}

/// Whether one word holds an element.
fn is_word(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32)
}

/// FNV-1a, 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ b as u64).wrapping_mul(0x0000_0100_0000_01b3))
}
