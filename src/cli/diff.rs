//! `percept device diff`: where does a device first disagree with the cpu?

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use percept::graph::{DType, Graph, Literal, LiteralData, Node, Op, Role, TensorType, ValueId};
use percept::hal::{Arg, CompileOptions, Device, chrome_trace};

use super::Failure;
use super::failure::{read_text, write_file};
use super::values::{check_sizes, example, numbers};

#[derive(Args)]
pub struct Diff {
    /// The device to check, such as wgpu:0
    id: String,
    /// A text graph
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Seed of the input values
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Largest normalized mean square error of an operation; the default depends on its dtype
    #[arg(long)]
    nmse: Option<f64>,
    /// Where to write the graph that reproduces a difference [default: MODEL with .diff.graph]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also run the whole graph on the device and write a Chrome timeline of it
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

impl Diff {
    pub fn run(self) -> Result<(), Failure> {
        let text = read_text(&self.model)?;
        let graph: Graph = text.parse().map_err(|e: percept::graph::ParseError| Failure::Content {
            path: self.model.clone(),
            why: e.to_string(),
        })?;
        let registry = percept::registry();
        let (cpu, device) = (registry.open("cpu")?, registry.open(&self.id)?);
        check_sizes(&graph, &*device)?;
        let mut known: Vec<Option<Vec<u8>>> = vec![None; graph.values().len()];
        for (i, input) in graph.inputs().iter().enumerate() {
            known[input.value.index()] = Some(example(graph.ty(input.value), self.seed + i as u64 + 1));
        }
        if let Some(file) = &self.trace {
            self.write_trace(&graph, &known, &*device, &cpu, file)?;
        }
        for (index, node) in graph.nodes().iter().enumerate() {
            let single = isolate(&graph, node)?;
            let args: Vec<(&TensorType, &[u8])> = node
                .inputs
                .iter()
                .map(|v| (graph.ty(*v), known[v.index()].as_deref().unwrap_or(&[])))
                .collect();
            let expected = evaluate(&single, &args, &*cpu, &CompileOptions::default())?;
            let options = CompileOptions { host: Some(cpu.clone()), ..CompileOptions::default() };
            let given = evaluate(&single, &args, &*device, &options)?;
            for ((v, e), g) in node.outputs.iter().zip(&expected).zip(&given) {
                let ty = graph.ty(*v);
                let error = nmse(&numbers(ty, e), &numbers(ty, g));
                let allowed = self.nmse.unwrap_or(tolerance(ty.dtype));
                // A NaN error must count as a difference.
                if !matches!(
                    error.partial_cmp(&allowed),
                    Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
                ) {
                    return self.report(&single, node, index, error, allowed, &args);
                }
            }
            for (v, bytes) in node.outputs.iter().zip(expected) {
                known[v.index()] = Some(bytes);
            }
        }
        println!("{} agrees with cpu in all {} operations", self.id, graph.nodes().len());
        Ok(())
    }

    fn write_trace(
        &self,
        graph: &Graph,
        known: &[Option<Vec<u8>>],
        device: &dyn Device,
        cpu: &Arc<dyn Device>,
        file: &std::path::Path,
    ) -> Result<(), Failure> {
        let options = CompileOptions { host: Some(cpu.clone()), ..CompileOptions::default() };
        let executable = device.compile(graph, &options)?;
        let upload = |v: ValueId| device.upload(graph.ty(v), known[v.index()].as_deref().unwrap_or(&[]));
        let args =
            graph.inputs().iter().map(|i| upload(i.value).map(Arg::Donate)).collect::<Result<Vec<_>, _>>()?;
        let (_, events) = executable.run_traced(args)?;
        write_file(file, chrome_trace(&events).to_string().as_bytes())?;
        eprintln!("timeline of {} steps written to {}", events.len(), file.display());
        Ok(())
    }

    fn report(
        &self,
        single: &Graph,
        node: &Node,
        index: usize,
        error: f64,
        allowed: f64,
        args: &[(&TensorType, &[u8])],
    ) -> Result<(), Failure> {
        let out = self.out.clone().unwrap_or_else(|| self.model.with_extension("diff.graph"));
        write_file(&out, with_constants(single, args)?.to_string().as_bytes())?;
        let place = if node.path.is_empty() { String::new() } else { format!(" in {}", node.path) };
        Err(Failure::Negative(format!(
            "operation {index}, {}{place}, differs on {}: error {error:.3e}, allowed {allowed:.0e}; {} reproduces it",
            node.op.name(),
            self.id,
            out.display()
        )))
    }
}

/// A graph of one node whose inputs are its operands.
fn isolate(graph: &Graph, node: &Node) -> Result<Graph, Failure> {
    let mut single = Graph::new(node.op.name());
    let mut operands = Vec::new();
    for (i, v) in node.inputs.iter().enumerate() {
        operands.push(single.add_input(format!("x{i}"), Role::Data, graph.ty(*v).clone())?);
    }
    for (i, v) in single.add(node.op.clone(), &operands, &node.path)?.into_iter().enumerate() {
        single.add_output(format!("y{i}"), v, None)?;
    }
    Ok(single)
}

/// The single-node graph with its dense operands as constants, so that the text alone reproduces the difference.
fn with_constants(single: &Graph, args: &[(&TensorType, &[u8])]) -> Result<Graph, Failure> {
    let mut graph = Graph::new(single.name());
    let mut map = vec![ValueId(0); single.values().len()];
    for (input, (ty, bytes)) in single.inputs().iter().zip(args) {
        map[input.value.index()] = if ty.dtype.is_quantized() {
            graph.add_input(input.name.clone(), Role::Data, (*ty).clone())?
        } else {
            let literal = Literal { ty: (*ty).clone(), data: LiteralData::Dense((*bytes).into()) };
            graph.add(Op::Constant(literal), &[], &Arc::from(""))?[0]
        };
    }
    for node in single.nodes() {
        let operands: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
        for (from, to) in node.outputs.iter().zip(graph.add(node.op.clone(), &operands, &node.path)?) {
            map[from.index()] = to;
        }
    }
    for o in single.outputs() {
        graph.add_output(o.name.clone(), map[o.value.index()], None)?;
    }
    Ok(graph)
}

fn evaluate(
    graph: &Graph,
    args: &[(&TensorType, &[u8])],
    device: &dyn Device,
    options: &CompileOptions,
) -> Result<Vec<Vec<u8>>, Failure> {
    let executable = device.compile(graph, options)?;
    let args =
        args.iter().map(|(ty, b)| device.upload(ty, b).map(Arg::Donate)).collect::<Result<Vec<_>, _>>()?;
    let outputs = executable.run(args)?;
    Ok(outputs.iter().map(|b| device.read(b)).collect::<Result<Vec<_>, _>>()?)
}

/// Mean square of the difference over the mean square of the expected; infinite where only one side is not finite.
fn nmse(expected: &[f64], given: &[f64]) -> f64 {
    let (mut error, mut power) = (0.0, 0.0);
    for (e, g) in expected.iter().zip(given) {
        let same = e == g || e.is_nan() && g.is_nan();
        if !same {
            error += (e - g) * (e - g);
        }
        if e.is_finite() {
            power += e * e;
        }
    }
    if error == 0.0 { 0.0 } else { error / power.max(f64::MIN_POSITIVE) }
}

/// Rounding noise of one operation: the square of a few hundred units in the last place; integers are exact.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-9,
        DType::F16 => 1e-5,
        DType::BF16 => 1e-3,
        _ => 0.0,
    }
}
