//! The optimizers, recorded into a graph.

mod muon;

use percept_graph::{Composite, DType, Op, Role, Tensor, TensorType, Trace};

use crate::config::{OptimizerConfig, OptimizerKind};
use crate::plan::Plan;

/// A trained parameter with its gradient f32 of the same shape.
pub struct Trainee {
    /// Its name.
    pub name: String,
    /// What it is now.
    pub value: Tensor,
    /// The gradient of the objective.
    pub gradient: Tensor,
}

/// What an optimizer keeps for a parameter, by the prefixes of its names.
pub fn moments(kind: OptimizerKind) -> &'static [&'static str] {
    match kind {
        OptimizerKind::AdamW => &["m", "v"],
        OptimizerKind::Muon => &["m"],
    }
}

/// The name of the running mean of a parameter.
pub fn mean_name(name: &str) -> String {
    format!("ema.{name}")
}

/// Record an update of all trained parameters.
///
/// `scale` f32[] is what the objective was multiplied by, if it was. Inputs: `rate` f32[], the schedule's factor; `step`
/// f32[], counted from 1; the moments `m.NAME` and `v.NAME`, and `ema.NAME` where means are kept. Outputs: `norm`
/// f32[], of all gradients before they were clipped, and the parameters and moments in place.
///
/// A step whose norm is not finite changes no parameter.
pub fn update(t: &Trace, trainees: &[Trainee], config: &OptimizerConfig, plan: &Plan, scale: Option<Tensor>) {
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
        let state = |prefix: &str| t.input(format!("{prefix}.{}", x.name), Role::State, x.value.ty());
        let kept: Vec<Tensor> = moments(group.kind).iter().map(|p| state(p)).collect();
        let results = match (group.kind, &kept[..]) {
            (OptimizerKind::AdamW, [m, v]) => {
                let op = Composite::AdamW {
                    beta1: config.betas[0],
                    beta2: config.betas[1],
                    eps: config.eps,
                    weight_decay: group.decay as f32,
                };
                t.ops(Op::Composite(op), &[&x.value, &gradient, m, v, &own_rate, &step])
            }
            (_, [m, ..]) => muon::update(&x.value, &gradient, m, &own_rate, config.momentum, group.decay),
            _ => Vec::new(),
        };
        let [new, moved @ ..] = &results[..] else { continue };
        t.output_in_place(x.name.clone(), new, &x.value);
        for ((prefix, old), new) in moments(group.kind).iter().zip(&kept).zip(moved) {
            t.output_in_place(format!("{prefix}.{}", x.name), new, old);
        }
        if config.ema > 0.0 {
            let mean = state("ema");
            let decay = config.ema;
            let next = &mean * decay + new * (1.0 - decay);
            t.output_in_place(mean_name(&x.name), &finite.select(&next, &mean), &mean);
        }
    }
}
