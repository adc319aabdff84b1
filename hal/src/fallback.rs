//! Segments of a graph that run on the host device in the middle of a device's program.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use percept_graph::{Graph, Node, Op, Role, TensorType, ValueId};

use crate::buffer::Arg;
use crate::device::{CompileOptions, Device, Executable};
use crate::error::{Error, Result};
use crate::report::OpTiming;

/// Consecutive nodes compiled for the host, with the values that cross over.
pub struct HostCall {
    host: Arc<dyn Device>,
    executable: Box<dyn Executable>,
    inputs: Vec<(ValueId, TensorType)>,
    outputs: Vec<ValueId>,
    name: String,
    path: String,
}

impl HostCall {
    /// Compile a range of nodes for the options' host.
    ///
    /// # Errors
    /// When there is no host, or it cannot run them either.
    pub fn compile(graph: &Graph, range: Range<usize>, options: &CompileOptions) -> Result<Self> {
        let nodes = &graph.nodes()[range.clone()];
        let names: Vec<String> = nodes.iter().map(|n| n.op.name()).collect();
        let path = nodes.first().map(|n| n.path.to_string()).unwrap_or_default();
        let Some(host) = options.host.clone() else {
            let why = "there is no host device to run it on".to_string();
            return Err(Error::Unsupported { device: String::new(), op: names.join(", "), path, why });
        };
        let mut segment = Graph::new(names.join("+"));
        let mut map = vec![None; graph.values().len()];
        let mut inputs = Vec::new();
        let made: HashSet<ValueId> = nodes.iter().flat_map(|n| n.outputs.iter().copied()).collect();
        for v in nodes.iter().flat_map(|n| &n.inputs).filter(|v| !made.contains(v)) {
            if map[v.index()].is_none() {
                let ty = graph.ty(*v).clone();
                map[v.index()] = Some(segment.add_input(format!("v{}", v.0), Role::Data, ty.clone())?);
                inputs.push((*v, ty));
            }
        }
        for node in nodes {
            let operands: Vec<ValueId> = node.inputs.iter().filter_map(|v| map[v.index()]).collect();
            for (from, to) in node.outputs.iter().zip(segment.add(node.op.clone(), &operands, &node.path)?) {
                map[from.index()] = Some(to);
            }
        }
        let later: HashSet<ValueId> = graph.nodes()[range.end..]
            .iter()
            .flat_map(|n| n.inputs.iter().copied())
            .chain(graph.outputs().iter().map(|o| o.value))
            .collect();
        let mut outputs: Vec<ValueId> = made.into_iter().filter(|v| later.contains(v)).collect();
        outputs.sort_unstable();
        for v in &outputs {
            if let Some(inner) = map[v.index()] {
                segment.add_output(format!("v{}", v.0), inner, None)?;
            }
        }
        let host_options = CompileOptions { host: None, ..options.clone() };
        let executable = host.compile(&segment, &host_options)?;
        Ok(Self { host, executable, inputs, outputs, name: names.join("+"), path })
    }

    /// Run with functions that read a value's bytes from the device and write them back.
    pub fn run(
        &self,
        read: &dyn Fn(ValueId) -> Result<Vec<u8>>,
        write: &dyn Fn(ValueId, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let args = self
            .inputs
            .iter()
            .map(|(v, ty)| self.host.upload(ty, &read(*v)?).map(Arg::Donate))
            .collect::<Result<Vec<_>>>()?;
        let results = self.executable.run(args)?;
        self.outputs.iter().zip(results).try_for_each(|(v, b)| write(*v, &self.host.read(&b)?))
    }

    /// The timing of the call, as a timed run reports it.
    pub fn timing(&self, start: Duration, duration: Duration) -> OpTiming {
        OpTiming {
            name: self.name.as_str().into(),
            path: self.path.as_str().into(),
            place: format!("{} (host)", self.host.info().id).into(),
            start_us: start.as_secs_f64() * 1e6,
            duration_us: duration.as_secs_f64() * 1e6,
            waiting_us: 0.0,
            cost: None,
        }
    }
}

/// Nodes to move to the host beside those that must go there: a node whose operands all come from the host,
/// whose results all go there, and that costs less to compute than its values cost to copy.
pub fn absorb(graph: &Graph, host: &mut HashSet<usize>) {
    let users = users(graph);
    loop {
        let before = host.len();
        for (i, node) in graph.nodes().iter().enumerate() {
            if !host.contains(&i) && between_host_nodes(graph, host, &users, node) && is_light(&node.op) {
                host.insert(i);
            }
        }
        if host.len() == before {
            return;
        }
    }
}

fn users(graph: &Graph) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); graph.values().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        for v in &node.inputs {
            users[v.index()].push(i);
        }
    }
    users
}

fn between_host_nodes(graph: &Graph, host: &HashSet<usize>, users: &[Vec<usize>], node: &Node) -> bool {
    use percept_graph::Source;
    let from_host = |v: &ValueId| match graph.values()[v.index()].source {
        Source::Node(n) => host.contains(&n) || matches!(graph.nodes()[n].op, Op::Constant(_)),
        Source::Input(_) => false,
    };
    let to_host = |v: &ValueId| {
        let used = &users[v.index()];
        !used.is_empty()
            && used.iter().all(|u| host.contains(u))
            && graph.outputs().iter().all(|o| o.value != *v)
    };
    !node.inputs.is_empty() && node.inputs.iter().all(from_host) && node.outputs.iter().all(to_host)
}

/// Work in proportion to the bytes moved.
fn is_light(op: &Op) -> bool {
    !matches!(op, Op::Dot(_) | Op::Sort { .. } | Op::Composite(_) | Op::Constant(_))
}
