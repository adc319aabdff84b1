//! The graphs of a step: a batch's gradients, added up or used at once, and the update.

use std::collections::BTreeMap;

use percept_graph::{DType, Graph, Role, Tensor, TensorType, Trace, ValueId, grad_graph, passes};

use crate::config::{Config, PrecisionConfig};
use crate::error::{Error, Result};
use crate::optimizer::{Trainee, update};
use crate::plan::TrainingPlan;
use crate::router::{BALANCE, LOADS};

/// The trained parameters by name.
pub type TrainedTypes = BTreeMap<String, TensorType>;

/// The name of a parameter's accumulated gradient.
pub fn sum_name(name: &str) -> String {
    format!("sum.{name}")
}

/// A forward graph with gradients of its trained parameters, in the precision of the run.
pub struct Differentiated {
    graph: Graph,
    /// The gradient of each trained parameter, by its name.
    gradients: BTreeMap<String, ValueId>,
}

impl Differentiated {
    /// Differentiate `objective` with respect to the trained parameters that the graph has.
    ///
    /// # Errors
    /// When one of them has no gradient, naming it.
    pub fn new(forward: &Graph, trains: impl Fn(&str) -> bool, precision: &PrecisionConfig) -> Result<Self> {
        let names: Vec<&str> = forward
            .inputs()
            .iter()
            .filter(|i| i.role == Role::Parameter && trains(&i.name))
            .map(|i| &i.name[..])
            .collect();
        let mut graph = grad_graph(forward, "objective", &names).map_err(|e| match e.op.as_str() {
            "grad" => Error::NoGradient(format!(
                "{}; freeze it with model.freeze if it is not meant to be trained",
                e.why
            )),
            _ => e.into(),
        })?;
        if precision.compute != DType::F32 {
            graph = passes::mixed_precision(&graph, precision.compute)?;
        }
        if precision.rematerialize {
            let scopes = blocks(&graph);
            let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
            graph = passes::rematerialize(&graph, &scopes)?;
        }
        let gradient = |name: &&str| {
            let i = graph.output_index(&format!("grad.{name}"))?;
            Some((name.to_string(), graph.outputs()[i].value))
        };
        let gradients = names.iter().filter_map(gradient).collect();
        graph.retain_outputs(|name| ["loss", BALANCE, LOADS].contains(&name));
        Ok(Self { graph, gradients })
    }

    /// The graph, whose outputs are the loss and, of a model with mixtures, what is said of its routers.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph that adds a batch's gradients to sums that are updated in place.
    ///
    /// # Errors
    /// When a graph cannot be put together.
    pub fn accumulate(self) -> Result<Graph> {
        let t = Trace::resume(self.graph);
        for (name, gradient) in &self.gradients {
            let gradient = t.value(*gradient);
            let sum = t.input(sum_name(name), Role::State, gradient.ty());
            t.output_in_place(sum_name(name), &(&sum + &gradient), &sum);
        }
        Ok(t.finish()?)
    }

    /// The graph that uses a batch's gradients at once.
    ///
    /// # Errors
    /// When a graph cannot be put together.
    pub fn fused(self, trained: &TrainedTypes, plan: &TrainingPlan, config: &Config) -> Result<Graph> {
        let own: BTreeMap<String, ValueId> =
            self.graph.inputs().iter().map(|i| (i.name.clone(), i.value)).collect();
        let t = Trace::resume(self.graph);
        let trainee = |(name, ty): (&String, &TensorType)| {
            let value = match own.get(name) {
                Some(v) => t.value(*v),
                None => t.input(name, Role::Parameter, ty.clone()),
            };
            // What this batch did not use has a gradient of zero, as it has among sums.
            let gradient = match self.gradients.get(name) {
                Some(g) => t.value(*g),
                None => t.full(ty.dtype, ty.dims.clone(), 0.0),
            };
            Trainee { name: name.clone(), value, gradient }
        };
        let trainees: Vec<Trainee> = trained.iter().map(trainee).collect();
        let scale = own.get("scale").map(|v| t.value(*v));
        update(&t, &trainees, &config.optimizer, plan, scale);
        Ok(t.finish()?)
    }
}

/// The graph that uses the summed gradients and begins new sums.
///
/// # Errors
/// When a graph cannot be put together.
pub fn update_graph(trained: &TrainedTypes, plan: &TrainingPlan, config: &Config) -> Result<Graph> {
    let t = Trace::new("update");
    let mut trainees = Vec::new();
    let mut sums: Vec<(String, Tensor)> = Vec::new();
    for (name, ty) in trained {
        let value = t.input(name, Role::Parameter, ty.clone());
        let gradient = t.input(sum_name(name), Role::State, ty.clone());
        sums.push((sum_name(name), gradient.clone()));
        trainees.push(Trainee { name: name.clone(), value, gradient });
    }
    let scalar = || t.input("scale", Role::Scalar, TensorType::new(DType::F32, []));
    update(&t, &trainees, &config.optimizer, plan, scaled(config).then(scalar));
    for (name, sum) in &sums {
        t.output_in_place(name, &t.full(sum.dtype(), sum.dims(), 0.0), sum);
    }
    Ok(t.finish()?)
}

/// Whether the loss is scaled before it is differentiated.
pub fn scaled(config: &Config) -> bool {
    config.precision.compute == DType::F16
}

/// The paths of the blocks that the forward part of a graph consists of: up to the first number in them.
fn blocks(graph: &Graph) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for node in graph.nodes() {
        let parts: Vec<&str> = node.path.split('.').collect();
        let number = parts.iter().position(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
        let Some(end) = number.filter(|_| !parts.contains(&"grad")) else { continue };
        let path = parts[..=end].join(".");
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss in which one parameter has a part only through an operation without a derivative.
    fn cut() -> Graph {
        let t = Trace::new("cut");
        let x = t.data("x", DType::F32, [3]);
        let [w, lost] = ["w", "layers.4.lost"].map(|n| t.parameter(n, DType::F32, [3]));
        let h = {
            let _scope = t.scope("layers.4");
            let inner = &x * &w;
            &inner * &inner + lost.argmax(0).cast(DType::F32)
        };
        let loss = (&h * &h).sum([0]);
        t.output("loss", &loss);
        t.output("objective", &(&loss * 1.0));
        t.finish().unwrap()
    }

    #[test]
    fn a_parameter_without_a_gradient_is_named() {
        let precision = PrecisionConfig::default();
        let e = Differentiated::new(&cut(), |_| true, &precision).err().unwrap().to_string();
        assert!(e.contains("layers.4.lost") && e.contains("model.freeze"), "{e}");
        let good = Differentiated::new(&cut(), |n| n == "w", &precision).unwrap();
        assert_eq!(good.gradients.keys().collect::<Vec<_>>(), ["w"]);
        assert_eq!(good.graph().outputs().len(), 1);
    }

    #[test]
    fn blocks_are_the_paths_up_to_a_number() {
        let precision = PrecisionConfig { rematerialize: true, ..PrecisionConfig::default() };
        let graph = Differentiated::new(&cut(), |n| n == "w", &precision).unwrap();
        assert_eq!(blocks(&cut()), ["layers.4"]);
        let barriers = graph.graph().nodes().iter().filter(|n| matches!(n.op, percept_graph::Op::Barrier));
        assert_eq!(barriers.count(), 1);
    }
}
