//! A graph with inputs, and what its outputs are held to.

use std::sync::Arc;

use percept_graph::{DType, Graph, GraphError, HostTensor, Role, Tensor, TensorType, Trace, grad};

use super::tolerance::Class;
use super::values::{Fill, Random};

/// A graph with inputs, and the class of each output.
pub struct Problem {
    /// The graph to run.
    pub graph: Graph,
    /// One tensor per input.
    pub inputs: Vec<HostTensor>,
    /// One class per output.
    pub classes: Vec<Class>,
    /// Inputs hold subnormals, which devices may take for zeros.
    pub subnormal: bool,
}

/// Records a [`Problem`]: inputs come with values, outputs with a class.
pub struct Build {
    /// The graph being recorded.
    pub trace: Trace,
    random: Random,
    inputs: Vec<HostTensor>,
    classes: Vec<Class>,
    subnormal: bool,
}

impl Build {
    /// Start; the name seeds the values.
    pub fn new(name: &str) -> Self {
        Self {
            trace: Trace::new(name),
            random: Random::named(name),
            inputs: Vec::new(),
            classes: Vec::new(),
            subnormal: false,
        }
    }

    /// An input filled with values.
    pub fn input(&mut self, role: Role, ty: TensorType, fill: Fill) -> Tensor {
        self.subnormal |= fill == Fill::Denormal;
        let values = self.random.tensor(&ty, fill);
        self.given(role, values)
    }

    /// An input with these values.
    pub fn given(&mut self, role: Role, values: HostTensor) -> Tensor {
        let t = self.trace.input(format!("x{}", self.inputs.len()), role, values.ty().clone());
        self.inputs.push(values);
        t
    }

    /// Add a data input of float values.
    pub fn data(&mut self, dtype: DType, dims: &[usize], fill: Fill) -> Tensor {
        self.input(Role::Data, TensorType::new(dtype, dims), fill)
    }

    /// A weight, which the device may lay out as it likes.
    pub fn weight(&mut self, dtype: DType, dims: &[usize], fill: Fill) -> Tensor {
        self.input(Role::Parameter, TensorType::new(dtype, dims), fill)
    }

    /// An i32 data input.
    pub fn integers(&mut self, dims: &[usize], values: &[i64]) -> Tensor {
        let ty = TensorType::new(DType::I32, dims);
        let values: Vec<f64> = values.iter().map(|&v| v as f64).collect();
        match HostTensor::from_f64(ty, &values) {
            Ok(t) => self.given(Role::Data, t),
            Err(e) => {
                self.trace.fail("input".into(), Vec::new(), e.to_string());
                self.trace.full(DType::I32, dims, 0.0)
            }
        }
    }

    /// An output held to a class.
    pub fn output(&mut self, value: &Tensor, class: Class) {
        self.trace.output(format!("y{}", self.classes.len()), value);
        self.classes.push(class);
    }

    /// An output that replaces an input.
    pub fn output_in_place(&mut self, value: &Tensor, input: &Tensor, class: Class) {
        self.trace.output_in_place(format!("y{}", self.classes.len()), value, input);
        self.classes.push(class);
    }

    /// Another value of the sequence the inputs come from.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The problem, or the first error of its recording.
    pub fn finish(self) -> Result<Problem, GraphError> {
        let graph = self.trace.finish()?;
        Ok(Problem { graph, inputs: self.inputs, classes: self.classes, subnormal: self.subnormal })
    }
}

/// What records a problem.
pub type Recipe = Arc<dyn Fn(&mut Build) + Send + Sync>;

/// The problem a recipe records under a name.
pub fn build(name: &str, recipe: &Recipe) -> Result<Problem, GraphError> {
    let mut b = Build::new(name);
    recipe(&mut b);
    b.finish()
}

impl Problem {
    /// The gradients of a random linear form of the float outputs with respect to every float input.
    pub fn gradient(&self, name: &str, terms: usize) -> Result<Problem, GraphError> {
        let mut b = Build::new(name);
        let x: Vec<Tensor> = self
            .graph
            .inputs()
            .iter()
            .zip(&self.inputs)
            .map(|(i, values)| b.given(i.role, values.clone()))
            .collect();
        let y = b.trace.inline(&self.graph, &x.iter().collect::<Vec<_>>());
        let forms: Vec<Tensor> = y
            .iter()
            .filter(|y| y.dtype().is_float())
            .map(|y| {
                let weights = b.data(DType::F32, &y.dims(), Fill::Normal);
                let all: Vec<usize> = (0..y.rank()).collect();
                (y.cast(DType::F32) * weights).sum(all)
            })
            .collect();
        let loss =
            forms.into_iter().reduce(|a, f| a + f).unwrap_or_else(|| b.trace.full(DType::F32, [], 0.0));
        let wrt: Vec<&Tensor> = x.iter().filter(|x| x.dtype().is_float()).collect();
        for g in grad(&loss, &wrt) {
            b.output(&g, Class::Gradient { terms });
        }
        b.finish()
    }
}
