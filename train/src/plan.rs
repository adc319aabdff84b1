//! Which parameters are trained, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use percept_graph::TensorType;
use percept_model::checkpoint::Checkpoint;
use percept_model::{Adapter, CausalModel, TrainedParameters, is_buffer, is_experts};

use crate::adapter::modules;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::optimizer::{OptimizerKind, ParameterKind};
use crate::patterns::Patterns;

/// Which parameters of a checkpoint are trained: all but the frozen ones, or low-rank adapters and what goes
/// with them.
pub struct TrainingPlan {
    whole: TrainedWhole,
    adapters: BTreeMap<String, Adapter>,
    drops: bool,
    groups: Vec<(Patterns, Group)>,
    usual: Group,
    /// Names of tables and heads, which optimizers for matrices inside the network leave out.
    outer: Vec<String>,
    /// Names of the model's bounds and statistics, which are never trained.
    constants: BTreeSet<String>,
}

/// Which parameters of the checkpoint are trained themselves.
enum TrainedWhole {
    AllBut(Patterns),
    /// What the first matches and the second does not.
    Only(Patterns, Patterns),
}

/// How a parameter's steps are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// The optimizer that takes its steps.
    pub kind: OptimizerKind,
    /// The learning rate at the schedule's height.
    pub rate: f64,
    /// The weight decay, as a share of the parameter at a rate of 1.
    pub decay: f64,
    /// Whether vectors, such as biases and norms, decay too.
    decay_vectors: bool,
    /// The optimizer is asked for by a group.
    own_kind: bool,
}

impl TrainingPlan {
    /// The plan of a run over a checkpoint and the model in it.
    ///
    /// # Errors
    /// When a pattern matches no parameter, or nothing is left to train.
    pub fn new(config: &Config, checkpoint: &Checkpoint, model: &dyn CausalModel) -> Result<Self> {
        let floats = || checkpoint.names().filter(|n| checkpoint.ty(n).is_some_and(|t| t.dtype.is_float()));
        let layers = || {
            let rank = |n: &str| checkpoint.ty(n).map(TensorType::rank);
            checkpoint.names().filter_map(move |n| match n.strip_suffix(".weight") {
                Some(layer) => (rank(n) == Some(2)).then_some(layer),
                None => (is_experts(n) && rank(n) == Some(3)).then_some(n),
            })
        };
        let balance = config.optimizer.balance.filter(|b| *b > 0.0);
        if balance.is_some() && model.decoder().stack.blocks.iter().all(|b| b.mixture.is_none()) {
            let why =
                "optimizer.balance balances the experts of mixtures, and the model has none; leave it out";
            return Err(Error::Setting(why.into()));
        }
        let freeze = Patterns::new(&config.model.freeze);
        freeze.check("model.freeze", checkpoint.names())?;
        let mut adapters = BTreeMap::new();
        let whole = match &config.lora {
            None => TrainedWhole::AllBut(freeze),
            Some(lora) => {
                let (on, also) = (Patterns::new(&lora.layers), Patterns::new(&lora.also));
                on.check("lora.layers", layers())?;
                also.check("lora.also", floats())?;
                let adapter = Adapter { rank: lora.rank, scale: lora.scale() as f32 };
                // What is frozen has no adapter, and what is trained whole needs none.
                let adapted = |l: &&str| {
                    let weight = if is_experts(l) { l.to_string() } else { format!("{l}.weight") };
                    on.matches(l) && !freeze.matches(&weight) && !also.matches(&weight)
                };
                adapters.extend(layers().filter(adapted).map(|l| (l.to_string(), adapter)));
                if let Some(stack) = adapters.keys().find(|l| is_experts(l)).filter(|_| lora.dropout > 0.0) {
                    return Err(Error::Setting(format!(
                        "lora.dropout: beside experts, such as '{stack}', nothing can be dropped, which PEFT does not open \
                         either; set it to 0, or name the experts in model.freeze, so that they have no adapters"
                    )));
                }
                let whole = floats().filter(|n| also.matches(n) && !freeze.matches(n));
                modules(&adapters.keys().map(String::as_str).collect(), whole)?;
                TrainedWhole::Only(also, freeze)
            }
        };
        let usual = Group {
            kind: config.optimizer.kind,
            rate: config.optimizer.rate,
            decay: config.optimizer.decay,
            decay_vectors: false,
            own_kind: false,
        };
        let group = |g: &crate::config::GroupConfig| {
            let patterns = Patterns::new(&g.names);
            let group = Group {
                kind: g.kind.unwrap_or(usual.kind),
                rate: g.rate.unwrap_or(usual.rate),
                decay: g.decay.unwrap_or(usual.decay),
                decay_vectors: g.decay.is_some(),
                own_kind: g.kind.is_some(),
            };
            (patterns, group)
        };
        let groups: Vec<_> = config.optimizer.groups.iter().map(group).collect();
        let drops = config.lora.as_ref().is_some_and(|l| l.dropout > 0.0);
        let constants = checkpoint.names().filter(|n| model.is_constant(n)).map(str::to_string).collect();
        let plan = Self { whole, adapters, drops, groups, usual, outer: Vec::new(), constants };
        let trained: Vec<String> = plan.candidates(checkpoint).collect();
        if trained.is_empty() {
            let why =
                match checkpoint.names().any(|n| checkpoint.ty(n).is_some_and(|t| t.dtype.is_quantized())) {
                    true => "; quantized weights are trained through adapters: add a [lora] table",
                    false => "; model.freeze matches all of them",
                };
            return Err(Error::Setting(format!("there are no parameters to train{why}")));
        }
        for (patterns, _) in &plan.groups {
            patterns.check("optimizer.group.match", trained.iter().map(String::as_str))?;
        }
        Ok(plan)
    }

    /// Tell which parameters are tables or heads.
    ///
    /// # Errors
    /// When a group asks for an optimizer that takes none of its parameters.
    pub fn with_outer(
        mut self,
        names: impl IntoIterator<Item = String>,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        self.outer.extend(names);
        for (patterns, group) in self.groups.iter().filter(|(_, g)| g.own_kind) {
            let own = |name: &String| patterns.matches(name) && self.own_group(name) == *group;
            let all: Vec<String> = self.candidates(checkpoint).filter(own).collect();
            let rank = |name: &str| {
                if self.adapted(name).is_some() {
                    2
                } else {
                    checkpoint.ty(name).map_or(0, |t| t.rank().min(2))
                }
            };
            let taken = |name: &String| group.kind.optimizer().takes(self.kind(name, rank(name)));
            if let Some(first) = all.first().filter(|_| !all.iter().any(taken)) {
                return Err(Error::Setting(format!(
                    "optimizer.group.match: {} takes none of the parameters that '{}' matches, such as {first}: {}",
                    group.kind.name(),
                    patterns.texts().join("', '"),
                    group.kind.optimizer().about()
                )));
            }
        }
        Ok(self)
    }

    /// Whether a graph's parameter is trained.
    pub fn trains(&self, name: &str) -> bool {
        self.is_master(name) || self.adapted(name).is_some()
    }

    /// The names of everything that may be trained, those of adapters included.
    pub fn candidates<'a>(&'a self, checkpoint: &'a Checkpoint) -> impl Iterator<Item = String> + 'a {
        let floats = |n: &&str| checkpoint.ty(n).is_some_and(|t| t.dtype.is_float());
        let masters = checkpoint.names().filter(floats).filter(|n| self.is_master(n)).map(str::to_string);
        let adapters = self.adapters.keys().flat_map(|l| ["A", "B"].map(|m| format!("{l}.lora_{m}.weight")));
        masters.chain(adapters)
    }

    /// Low-rank adapters by the layers that they stand beside.
    pub fn adapters(&self) -> &BTreeMap<String, Adapter> {
        &self.adapters
    }

    /// The adapter that a parameter belongs to.
    pub fn adapted(&self, name: &str) -> Option<Adapter> {
        let layer = name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight"))?;
        self.adapters.get(layer).copied()
    }

    /// How a parameter's steps are taken.
    pub fn group(&self, name: &str, ty: &TensorType) -> Group {
        let mut group = self.own_group(name);
        if ty.rank() < 2 && !group.decay_vectors {
            group.decay = 0.0;
        }
        if !group.kind.optimizer().takes(self.kind(name, ty.rank())) {
            group.kind = OptimizerKind::default();
        }
        group
    }

    /// What the settings say of a parameter, whatever it is.
    fn own_group(&self, name: &str) -> Group {
        self.groups.iter().find(|(p, _)| p.matches(name)).map_or(self.usual, |(_, g)| *g)
    }

    fn kind(&self, name: &str, rank: usize) -> ParameterKind {
        match rank {
            2 if self.outer.iter().any(|o| o == name) => ParameterKind::Table,
            2 => ParameterKind::Matrix,
            _ => ParameterKind::Other,
        }
    }
}

impl TrainedParameters for TrainingPlan {
    fn is_master(&self, name: &str) -> bool {
        if self.constants.contains(name) {
            return false;
        }
        match &self.whole {
            TrainedWhole::AllBut(frozen) => !frozen.matches(name) && !is_buffer(name),
            TrainedWhole::Only(also, frozen) => also.matches(name) && !frozen.matches(name),
        }
    }

    fn adapter(&self, name: &str) -> Option<Adapter> {
        self.adapters.get(name).copied()
    }

    fn drops(&self) -> bool {
        self.drops
    }
}

/// A plan that graphs can ask.
pub type SharedPlan = Arc<TrainingPlan>;
