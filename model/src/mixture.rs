//! Mixtures of experts: a router gives each row the few experts that it goes through (Shazeer et al. 2017), beside
//! experts that all rows share (Dai et al. 2024).
//!
//! Scores, choice and weights are f32 whatever the weights' dtype. Of the experts' matrices only those are read that a
//! row has chosen, where the device has ragged products of its own.

use percept_graph::{Activation, DType, ReduceKind, Tensor};

use crate::block::{Norm, join};
use crate::names::BesideNames;
use crate::parameters::Parameters;

/// A mixture in place of a block's MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// How many experts there are.
    pub experts: usize,
    /// How many of them a row goes through.
    pub chosen: usize,
    /// Features between an expert's two layers; its first is gated.
    pub width: usize,
    /// The function of the gates.
    pub activation: Activation,
    /// How a row chooses.
    pub router: Router,
    /// Experts that every row goes through.
    pub shared: Option<Shared>,
    /// The weight that training gives to the loss which balances the experts' loads; 0 for none.
    pub balance: f32,
    /// What its parameters are called below the block's prefix.
    pub names: MixtureNames,
}

/// How rows choose experts, and how much they make of what each says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Router {
    /// What logits become.
    pub scores: Scores,
    /// A learnt number for each expert is added to its score for the choice alone (Wang et al. 2024).
    pub corrected: bool,
    /// Experts lie in groups of which only some are looked at.
    pub groups: Option<Groups>,
    /// The chosen scores are divided by their sum plus this.
    pub renormalized: Option<f32>,
    /// Multiplies the weights.
    pub scale: f32,
    /// A learnt number for each expert multiplies its weight.
    pub expert_scale: bool,
}

/// What a router's logits become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// The softmax over all experts.
    Softmax,
    /// The logistic function of each by itself.
    Sigmoid,
}

/// Groups of neighbouring experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// How many there are; divides the number of experts.
    pub count: usize,
    /// How many of them a row may choose from.
    pub kept: usize,
    /// How many of its best scores a group is judged by, summed.
    pub best: usize,
}

/// Experts that every row goes through, as one gated MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// Features between its two layers.
    pub width: usize,
    /// What it says is multiplied by the logistic function of a product of the row with a vector.
    pub gated: bool,
}

/// Names below a block's prefix. Matrices of experts are `{experts}.gate_up_proj` [experts, 2 width, hidden], gates first,
/// and `{experts}.down_proj` [experts, hidden, width], whatever the file has: see [`crate::checkpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MixtureNames {
    /// The router's matrix [experts, hidden], without `.weight`.
    pub router: &'static str,
    /// The whole name of [`Router::corrected`]'s vector.
    pub correction: &'static str,
    /// The whole name of [`Router::expert_scale`]'s vector.
    pub expert_scale: &'static str,
    pub experts: &'static str,
    /// The prefix of the shared experts' `gate_proj`, `up_proj` and `down_proj`.
    pub shared: &'static str,
    /// The vector [1, hidden] of [`Shared::gated`], without `.weight`.
    pub shared_gate: &'static str,
}

/// The names of Qwen's and DeepSeek's mixtures.
pub const MIXTURE: MixtureNames = MixtureNames {
    router: "mlp.gate",
    correction: "mlp.gate.e_score_correction_bias",
    expert_scale: "",
    experts: "mlp.experts",
    shared: "mlp.shared_experts",
    shared_gate: "mlp.shared_expert_gate",
};

/// The stacks of a mixture's matrices, in the order in which transformers' modules have them.
pub const EXPERT_STACKS: [&str; 2] = ["gate_up_proj", "down_proj"];

/// Whether a tensor of a checkpoint is a stack of a mixture's matrices.
pub fn is_experts(name: &str) -> bool {
    let (module, stack) = name.rsplit_once('.').unwrap_or_default();
    EXPERT_STACKS.contains(&stack) && module.rsplit('.').next() == Some("experts")
}

/// Whether a tensor of a checkpoint is a number that its maker set by other means than gradients, so that training leaves
/// it as it is.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(MIXTURE.correction)
}

/// What a router has made of its rows.
#[derive(Clone)]
pub struct Routing {
    /// The chosen experts of each row, i32[rows, chosen], the best first.
    pub experts: Tensor,
    /// What each one's result is multiplied by, f32[rows, chosen].
    pub weights: Tensor,
    /// The scores of all experts before any correction, f32[rows, experts].
    pub scores: Tensor,
}

impl Router {
    /// The softmax over all experts, of which the chosen ones' is divided by its sum where `renormalized` says so.
    pub const fn softmax(renormalized: bool) -> Self {
        Self {
            scores: Scores::Softmax,
            corrected: false,
            groups: None,
            renormalized: if renormalized { Some(0.0) } else { None },
            scale: 1.0,
            expert_scale: false,
        }
    }
}

impl Mixture {
    /// The mixture on normalized x f32[b,t,hidden], and what its router has chosen. Rows at negative `places` i32[b t] go to
    /// no expert, so that none is read for them.
    pub fn trace(
        &self,
        p: &Parameters,
        path: &str,
        x: &Tensor,
        places: Option<&Tensor>,
    ) -> (Tensor, Routing) {
        let routing = kept(self.route(p, path, x), places);
        let rows = x.reshape([x.dim(0) * x.dim(1), x.dim(2)]);
        let mut y = self.combine(p, path, &rows, &routing).reshape(x.dims());
        if let Some(shared) = self.shared {
            y = y + self.share(p, path, x, shared);
        }
        (y, routing)
    }

    /// The mixture beside an MLP that makes `dense` of x f32[b,t,hidden], neither of which is normalized: the sum of what both
    /// say, and what the router has chosen (Gemma 4).
    pub fn beside(
        &self,
        p: &Parameters,
        path: &str,
        (x, dense): (&Tensor, &Tensor),
        (norm, names): (Norm, &BesideNames),
        places: Option<&Tensor>,
    ) -> (Tensor, Routing) {
        let named = |x: &Tensor, name: &str| norm.trace(p, &join(path, name), x);
        let hidden = x.dim(2);
        let scale = p.get(&join(path, names.router_scale), [hidden]) * (hidden as f64).powf(-0.5);
        let read = Norm::bare(norm.eps).trace(p, "", x) * scale;
        let routing = kept(self.route(p, path, &read), places);
        let rows = named(x, names.experts_norm).reshape([x.dim(0) * x.dim(1), hidden]);
        let y = self.combine(p, path, &rows, &routing).reshape(x.dims());
        (named(dense, names.mlp_out_norm) + named(&y, names.experts_out_norm), routing)
    }

    /// What the router chooses for the rows of x f32[b,t,hidden].
    pub fn route(&self, p: &Parameters, path: &str, x: &Tensor) -> Routing {
        let (rows, count) = (x.dim(0) * x.dim(1), self.experts);
        let logits = p.linear_in_f32(x, &join(path, self.names.router), count).reshape([rows, count]);
        let scores = match self.router.scores {
            Scores::Softmax => logits.softmax(),
            Scores::Sigmoid => logits.logistic(),
        };
        let corrected = match self.router.corrected {
            true => &scores + p.get(&join(path, self.names.correction), [count]),
            false => scores.clone(),
        };
        let among = self.router.groups.map_or(corrected.clone(), |groups| groups.keep(&corrected));
        let [best, experts] = among.top_k(self.chosen);
        let mut weights = match self.router.corrected {
            true => {
                let first = p.trace().iota(DType::I32, [rows, self.chosen], 0) * count as f64;
                scores.reshape([rows * count]).gather(&(&experts + first), 0)
            }
            false => best,
        };
        if let Some(least) = self.router.renormalized {
            let sum = weights.sum([1]).unsqueeze(1);
            weights = if least == 0.0 { weights / sum } else { weights / (sum + f64::from(least)) };
        }
        if self.router.scale != 1.0 {
            weights = weights * f64::from(self.router.scale);
        }
        if self.router.expert_scale {
            let scales = p.get(&join(path, self.names.expert_scale), [count]);
            weights = weights * scales.gather(&experts, 0);
        }
        Routing { experts, weights, scores }
    }

    /// The weighted sum of what the chosen experts make of x f32[rows,hidden].
    pub fn combine(&self, p: &Parameters, path: &str, x: &Tensor, routing: &Routing) -> Tensor {
        let (rows, hidden, width) = (x.dim(0), x.dim(1), self.width);
        let products = |x: &Tensor, which: usize, dims: [usize; 2], experts: &Tensor| {
            let name = join(path, &format!("{}.{}", self.names.experts, EXPERT_STACKS[which]));
            p.ragged(x, &name, [self.experts, dims[0], dims[1]], experts)
        };
        let both = products(x, 0, [2 * width, hidden], &routing.experts);
        let inner = both.narrow(2, 0, width).gated(self.activation, &both.narrow(2, width, 2 * width));
        let pairs = rows * self.chosen;
        let chosen = routing.experts.reshape([pairs, 1]);
        let each = products(&inner.reshape([pairs, width]), 1, [hidden, width], &chosen);
        (each.reshape([rows, self.chosen, hidden]) * routing.weights.unsqueeze(2)).sum([1])
    }

    /// What the shared experts make of x f32[b,t,hidden].
    fn share(&self, p: &Parameters, path: &str, x: &Tensor, shared: Shared) -> Tensor {
        let name = |part: &str| join(path, &format!("{}.{part}", self.names.shared));
        let gate = p.linear(x, &name("gate_proj"), shared.width, false, None);
        let inner = gate.gated(self.activation, &p.linear(x, &name("up_proj"), shared.width, false, None));
        let y = p.linear(&inner, &name("down_proj"), x.dim(2), false, None);
        match shared.gated {
            true => y * p.linear(x, &join(path, self.names.shared_gate), 1, false, None).logistic(),
            false => y,
        }
    }
}

/// A routing in which rows at negative places go to no expert.
fn kept(mut routing: Routing, places: Option<&Tensor>) -> Routing {
    if let Some(places) = places {
        let is_row = places.ge(&places.like(0.0)).unsqueeze(1);
        routing.experts = is_row.select(&routing.experts, &routing.experts.like(-1.0));
    }
    routing
}

impl Groups {
    /// Scores [rows,experts] with those outside of the kept groups at -inf.
    fn keep(self, scores: &Tensor) -> Tensor {
        let (rows, each) = (scores.dim(0), scores.dim(1) / self.count.max(1));
        let by_group = scores.reshape([rows, self.count, each]);
        let [best, _] = by_group.top_k(self.best.min(each));
        let [_, kept] = best.sum([2]).top_k(self.kept);
        let numbers = scores.trace().iota(DType::I32, [rows, self.kept, self.count], 2);
        let is_kept = kept.unsqueeze(2).eq(&numbers).reduce(ReduceKind::Or, [1]);
        is_kept
            .unsqueeze(2)
            .select(&by_group, &by_group.like(f64::NEG_INFINITY))
            .reshape([rows, each * self.count])
    }
}
