//! One table of small differentiable graphs that covers every differentiable operation: its gradients are
//! checked against central differences on the reference, and devices' gradients against the reference's.

mod composites;
mod primitives;

use crate::dtype::DType;
use crate::error::{GraphError, Result};
use crate::graph::{Graph, Role};
use crate::host_tensor::HostTensor;
use crate::op::Op;
use crate::tensor_type::{Literal, TensorType};
use crate::trace::{Tensor, Trace};

/// A graph with a scalar output `loss`, values for its inputs, and the inputs to differentiate with respect
/// to.
///
/// The loss is a weighted sum over all results of the operation the case is about, so that no gradient
/// vanishes by symmetry. The values lie away from kinks and ties; [`grad_graph`](crate::grad_graph) gives the
/// gradients.
#[derive(Debug, Clone)]
pub struct GradientCase {
    /// The operation and what is special: `gather/duplicates`.
    pub name: String,
    /// The forward graph; its output is `loss`.
    pub graph: Graph,
    /// Names of the differentiated inputs.
    pub wrt: Vec<String>,
    /// A value for each input of the graph, in order.
    pub inputs: Vec<HostTensor>,
}

/// The table for operands of a float dtype; operations that are defined on f32 alone keep it.
///
/// # Errors
/// When `dtype` is not a float.
pub fn gradient_cases(dtype: DType) -> Result<Vec<GradientCase>> {
    let mut table = Table { dtype, cases: Vec::new(), error: None };
    primitives::all(&mut table);
    composites::all(&mut table);
    table.error.map_or(Ok(table.cases), Err)
}

struct Table {
    dtype: DType,
    cases: Vec<GradientCase>,
    error: Option<GraphError>,
}

impl Table {
    /// Add a case whose operation gives the results of `f`; those that are not floats are left out of the
    /// loss.
    fn add(&mut self, name: impl Into<String>, f: impl FnOnce(&mut Case) -> Vec<Tensor>) {
        let name = name.into();
        let mut case =
            Case { trace: Trace::new(&name), dtype: self.dtype, inputs: Vec::new(), wrt: Vec::new() };
        let results = f(&mut case);
        let weighted = results.iter().filter(|y| y.dtype().is_float()).map(|y| {
            // Multiples of 1/64, which every float dtype has.
            let weights: Vec<f64> =
                spread(y.ty().numel(), -64.0, 83.0, 0).into_iter().map(|w| w.round() / 64.0).collect();
            let weights = Literal::dense(y.ty(), &weights);
            let weights = weights.map_or_else(|| case.trace.poison(), |w| case.trace.constant(w));
            (y * weights).sum((0..y.rank()).collect::<Vec<_>>()).cast(DType::F32)
        });
        let loss = weighted.reduce(|a, b| a + b);
        case.trace.output("loss", &loss.unwrap_or_else(|| case.trace.poison()));
        match case.trace.finish() {
            Ok(graph) => self.cases.push(GradientCase { name, graph, wrt: case.wrt, inputs: case.inputs }),
            Err(e) => {
                self.error.get_or_insert(e);
            }
        }
    }

    /// A case of one result.
    fn one(&mut self, name: impl Into<String>, f: impl FnOnce(&mut Case) -> Tensor) {
        self.add(name, |c| vec![f(c)]);
    }
}

/// A case being written: each method adds an input with values.
struct Case {
    trace: Trace,
    dtype: DType,
    inputs: Vec<HostTensor>,
    wrt: Vec<String>,
}

impl Case {
    /// A differentiated operand of distinct values of both signs.
    fn x(&mut self, dims: impl Into<Vec<usize>>) -> Tensor {
        self.within(dims, -1.4, 1.6)
    }

    /// A differentiated operand of distinct positive values.
    fn positive(&mut self, dims: impl Into<Vec<usize>>) -> Tensor {
        self.within(dims, 0.4, 2.0)
    }

    /// A differentiated operand of distinct values between bounds.
    fn within(&mut self, dims: impl Into<Vec<usize>>, low: f64, high: f64) -> Tensor {
        self.spread(TensorType::new(self.dtype, dims), low, high)
    }

    /// A differentiated operand of f32, whatever the table's dtype.
    fn single(&mut self, dims: impl Into<Vec<usize>>, low: f64, high: f64) -> Tensor {
        self.spread(TensorType::new(DType::F32, dims), low, high)
    }

    fn spread(&mut self, ty: TensorType, low: f64, high: f64) -> Tensor {
        let values = spread(ty.numel(), low, high, self.inputs.len());
        self.input(HostTensor::from_f64(ty, &values), true)
    }

    /// A differentiated operand of given values.
    fn given(&mut self, dims: impl Into<Vec<usize>>, values: &[f64]) -> Tensor {
        self.input(HostTensor::from_f64(TensorType::new(self.dtype, dims), values), true)
    }

    /// An integer operand.
    fn ints(&mut self, dims: impl Into<Vec<usize>>, values: &[i32]) -> Tensor {
        self.input(HostTensor::from_i32(dims, values), false)
    }

    /// A quantized weight of arbitrary blocks, whose f16 scales are below 1.
    fn quantized(&mut self, dtype: DType, dims: impl Into<Vec<usize>>) -> Tensor {
        let ty = TensorType::new(dtype, dims);
        let bytes: Vec<u8> = (0..ty.bytes()).map(|i| ((i * 37 + 11) % 56) as u8).collect();
        self.input(HostTensor::new(ty, bytes), false)
    }

    fn input<E: ToString>(&mut self, value: Result<HostTensor, E>, differentiated: bool) -> Tensor {
        let name = format!("x{}", self.inputs.len());
        match value {
            Ok(value) => {
                let x = self.trace.input(&name, Role::Data, value.ty().clone());
                self.inputs.push(value);
                self.wrt.extend(differentiated.then_some(name));
                x
            }
            Err(e) => {
                self.trace.fail(name, Vec::new(), e.to_string());
                self.trace.poison()
            }
        }
    }

    fn op(&self, op: Op, inputs: &[&Tensor]) -> Tensor {
        self.trace.op(op, inputs)
    }
}

/// `n` distinct values in a scattered order, evenly spaced between bounds; different operands interleave.
fn spread(n: usize, low: f64, high: f64, operand: usize) -> Vec<f64> {
    let gcd = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let golden = (n as f64 * 0.618) as usize;
    let step = (golden.max(1)..).find(|&s| gcd(s, n) == 1).unwrap_or(1);
    let offset = (0.43 + 0.29 * operand as f64) % 1.0;
    let value = |i: usize| ((i * step + operand) % n) as f64 + offset;
    (0..n).map(|i| low + (high - low) * value(i) / n as f64).collect()
}
