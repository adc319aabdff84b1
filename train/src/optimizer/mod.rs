//! The optimizers, recorded into a graph. Each is one file here and one line of the table;
//! docs/add-an-optimizer.md says how one is added.

mod adamw;
mod kind;
mod muon;
mod sgd;

use percept_graph::{DType, Role, Tensor, TensorType, Trace};

use crate::config::OptimizerConfig;
use crate::plan::TrainingPlan;

pub use kind::OptimizerKind;

/// Every optimizer, in the order in which users are told of them.
pub const ALL: &[&dyn Optimizer] = &[adamw::OPTIMIZER, muon::OPTIMIZER, sgd::OPTIMIZER];

/// What has the parameters that an optimizer does not take.
pub const REST: &dyn Optimizer = adamw::OPTIMIZER;

/// A rule for the steps of parameters.
pub trait Optimizer: Sync {
    /// What a run's file calls it.
    fn name(&self) -> &'static str;

    /// What it is and where its formula is from, in a sentence or two for users.
    fn about(&self) -> &'static str;

    /// The keys of `[optimizer]` that it reads, of those that not every optimizer does.
    fn settings(&self) -> &'static [&'static str];

    /// The names of what it keeps for a parameter: f32 tensors of the parameter's shape, 0 at first. The
    /// first of them is 0 wherever every gradient so far was, which tells parameters that the loss does not
    /// depend on.
    fn state(&self) -> &'static [&'static str];

    /// Which parameters it takes. The others have [`REST`].
    fn takes(&self, _kind: ParameterKind) -> bool {
        true
    }

    /// Record the update of one parameter.
    fn update(&self, p: &Operands) -> Updated;
}

/// What a parameter is in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// A matrix inside the network.
    Matrix,
    /// A table of embeddings, or the head.
    Table,
    /// Whatever has another rank than 2: norms, biases, kernels of convolutions.
    Other,
}

/// A parameter at one step, and what its update is made of.
pub struct Operands<'a> {
    /// What it is recorded into.
    pub trace: &'a Trace,
    /// The parameter before the step.
    pub value: &'a Tensor,
    /// Its gradient, clipped.
    pub gradient: &'a Tensor,
    /// What the optimizer keeps for it, in the order of [`Optimizer::state`].
    pub state: &'a [Tensor],
    /// f32[], the learning rate of this step.
    pub rate: &'a Tensor,
    /// f32[], the number of this step, from 1 on.
    pub number: &'a Tensor,
    /// The weight decay of this parameter.
    pub decay: f64,
    /// The settings of the run.
    pub config: &'a OptimizerConfig,
}

/// What an update gives.
pub struct Updated {
    /// The parameter after the step.
    pub value: Tensor,
    /// What is kept for it, in the order of [`Optimizer::state`].
    pub state: Vec<Tensor>,
}

/// The optimizer of this name.
pub fn find(name: &str) -> Option<&'static dyn Optimizer> {
    ALL.iter().copied().find(|o| o.name() == name)
}

/// The name of a tensor that an optimizer keeps for a parameter.
pub fn state_name(state: &str, name: &str) -> String {
    format!("{state}.{name}")
}

/// The parameter for which a tensor of this name is the first that some optimizer keeps.
pub fn parameter_of(kept: &str) -> Option<&str> {
    let (state, name) = kept.split_once('.')?;
    ALL.iter().any(|o| o.state().first() == Some(&state)).then_some(name)
}

/// A trained parameter with its gradient f32 of the same shape.
pub struct Trainee {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its value before the step.
    pub value: Tensor,
    /// The gradient of the objective.
    pub gradient: Tensor,
}

/// The name of the running mean of a parameter.
pub fn mean_name(name: &str) -> String {
    format!("ema.{name}")
}

/// Record an update of all trained parameters.
///
/// `scale` f32[] is what the objective was multiplied by, if it was. Inputs: `rate` f32[], the schedule's
/// factor; `step` f32[], counted from 1; what optimizers keep, as [`state_name`] calls it, and `ema.NAME`
/// where means are kept. Outputs: `norm` f32[], of all gradients before they were clipped, and the parameters
/// and what is kept in place.
///
/// A step whose norm is not finite changes no parameter.
pub fn update(
    t: &Trace,
    trainees: &[Trainee],
    config: &OptimizerConfig,
    plan: &TrainingPlan,
    scale: Option<Tensor>,
) {
    let _scope = t.scope("update");
    let scalar = |name: &str| t.input(name, Role::Scalar, TensorType::new(DType::F32, []));
    let (rate, step) = (scalar("rate"), scalar("step"));
    let unscale = scale.map(|s| s.like(1.0) / &s);
    let squares = |x: &Trainee| (&x.gradient * &x.gradient).sum((0..x.gradient.rank()).collect::<Vec<_>>());
    let Some(total) = trainees.iter().map(squares).reduce(|a, b| a + b) else { return };
    let norm = unscale.iter().fold(total.sqrt(), |n, u| n * u);
    t.output("norm", &norm);
    let finite = norm.is_finite();
    let zero = norm.like(0.0);
    let mut factor = unscale.unwrap_or_else(|| norm.like(1.0));
    if config.clip > 0.0 {
        // As torch.nn.utils.clip_grad_norm_ does.
        factor = factor * (norm.like(config.clip) / (&norm + 1e-6)).minimum(&norm.like(1.0));
    }
    let rate = finite.select(&rate, &zero);
    for x in trainees {
        let _scope = t.scope(x.name.clone());
        let group = plan.group(&x.name, &x.value.ty());
        let gradient = finite.select(&(&x.gradient * &factor), &zero);
        let own_rate = &rate * group.rate;
        let state = |prefix: &str| t.input(state_name(prefix, &x.name), Role::State, x.value.ty());
        let optimizer = group.kind.optimizer();
        let kept: Vec<Tensor> = optimizer.state().iter().map(|p| state(p)).collect();
        let operands = Operands {
            trace: t,
            value: &x.value,
            gradient: &gradient,
            state: &kept,
            rate: &own_rate,
            number: &step,
            decay: group.decay,
            config,
        };
        let new = optimizer.update(&operands);
        if new.state.len() != kept.len() {
            let why = format!("it gives {} tensors of state, and declares {}", new.state.len(), kept.len());
            t.fail(format!("the optimizer {}", optimizer.name()), vec![x.value.ty()], why);
            return;
        }
        t.output_in_place(x.name.clone(), &new.value, &x.value);
        for ((prefix, old), new) in optimizer.state().iter().zip(&kept).zip(&new.state) {
            t.output_in_place(state_name(prefix, &x.name), new, old);
        }
        if config.ema > 0.0 {
            let mean = state("ema");
            let decay = config.ema;
            let next = &mean * decay + &new.value * (1.0 - decay);
            t.output_in_place(mean_name(&x.name), &finite.select(&next, &mean), &mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// docs/add-an-optimizer.md: one file, and its lines in this one.
    #[test]
    fn the_files_of_an_optimizer_are_those_of_the_guide() {
        let guide = include_str!("../../../docs/add-an-optimizer.md");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/optimizer");
        let table: Vec<&str> = guide.lines().filter(|l| l.starts_with("| ") && l.contains("src/")).collect();
        assert!(table.len() == 2 && table[0].contains("NAME.rs") && table[1].contains("optimizer/mod.rs"));
        for o in ALL {
            let own = std::fs::read_to_string(folder.join(format!("{}.rs", o.name()))).unwrap();
            assert!(own.contains("pub const OPTIMIZER: &dyn Optimizer"), "{}", o.name());
            let line = format!("mod {};\n", o.name());
            assert!(include_str!("mod.rs").contains(&line), "{line}");
        }
    }

    #[test]
    fn optimizers_have_names_and_a_state_that_tells_the_gradient() {
        let names: BTreeSet<&str> = ALL.iter().map(|o| o.name()).collect();
        assert_eq!(names.len(), ALL.len());
        for o in ALL {
            assert!(find(o.name()).is_some_and(|found| found.name() == o.name()) && !o.about().is_empty());
            let first = o.state().first().expect("a first state");
            assert_eq!(parameter_of(&state_name(first, "a.weight")), Some("a.weight"), "{}", o.name());
            // Names of checkpoints: a mean is nobody's state.
            assert!(!o.state().contains(&"ema") && !o.state().contains(&"sum"), "{}", o.name());
        }
        assert!(
            [ParameterKind::Matrix, ParameterKind::Table, ParameterKind::Other]
                .into_iter()
                .all(|p| REST.takes(p))
        );
        assert_eq!(parameter_of("v.a.weight"), None);
    }
}
