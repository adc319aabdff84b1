//! What a run's file cannot say: values that cannot be, and settings that would do nothing.

use percept_data::augment::Augmentation;

use super::{Config, Curve, EvaluateConfig, OptimizerConfig, PrecisionConfig, SourceConfig};
use crate::optimizer::{OptimizerKind, ParameterKind};

/// A complaint, or nothing.
type Checked = Result<(), String>;

fn positive(name: &str, v: f64) -> Checked {
    match v.is_finite() && v > 0.0 {
        true => Ok(()),
        false => Err(format!("{name} is {v}; it must be positive")),
    }
}

fn not_negative(name: &str, v: f64) -> Checked {
    match v.is_finite() && v >= 0.0 {
        true => Ok(()),
        false => Err(format!("{name} is {v}; it must not be negative")),
    }
}

fn share(name: &str, v: f64) -> Checked {
    match (0.0..1.0).contains(&v) {
        true => Ok(()),
        false => Err(format!("{name} is {v}; it must be at least 0 and below 1")),
    }
}

impl Config {
    /// Hold every setting to what it can be, and to whether it does anything beside the others. What stages
    /// change is checked with each of them.
    pub(crate) fn check(&self) -> Checked {
        match self.epochs {
            Some(_) if self.steps > 0 => {
                return Err("steps and epochs are both given; one says how long".into());
            }
            Some(epochs) => positive("epochs", epochs)?,
            None if self.steps == 0 && self.stages.is_empty() => {
                return Err("steps is 0 or missing, and so is epochs; nothing would be trained".into());
            }
            None => {}
        }
        self.check_name()?;
        if self.model.init && self.model.adapter.is_some() {
            return Err("model.adapter changes weights that are there; with model.init there are none".into());
        }
        self.check_schedule()?;
        self.check_data()?;
        self.check_optimizer()?;
        if let Some(lora) = &self.lora {
            if lora.rank == 0 {
                return Err("lora.rank is 0; adapters need a rank of at least 1".into());
            }
            if lora.layers.is_empty() {
                return Err("lora.layers names no layer; leave [lora] out, and name what stays as it is in model.freeze".into());
            }
            positive("lora.alpha", lora.alpha.unwrap_or(1.0))?;
            share("lora.dropout", lora.dropout)?;
        }
        self.check_precision()?;
        if self.checkpoint.keep == 0 {
            return Err("checkpoint.keep is 0; the last checkpoint at least is kept".into());
        }
        self.check_evaluate()
    }

    fn check_schedule(&self) -> Checked {
        let s = &self.schedule;
        if !(0.0..=1.0).contains(&s.end) {
            return Err(format!("schedule.end is {}; it is a share of the rate, from 0 to 1", s.end));
        }
        if s.decay > 0 && s.kind != Curve::Wsd {
            return Err("schedule.decay belongs to kind = \"wsd\"; other curves fall over all steps".into());
        }
        if s.kind == Curve::Wsd && s.decay == 0 {
            return Err(
                "schedule.kind is wsd, which needs schedule.decay: the steps of the fall at the end".into()
            );
        }
        if self.steps > 0 {
            self.check_steps(self.steps)?;
        }
        if s.end > 0.0 && s.kind == Curve::Constant {
            return Err("schedule.end has no meaning where the rate is constant".into());
        }
        Ok(())
    }

    /// Hold the schedule to the steps of the run.
    pub(crate) fn check_steps(&self, steps: u64) -> Checked {
        let s = &self.schedule;
        match s.kind == Curve::Wsd && s.warmup.saturating_add(s.decay) > steps {
            true => Err(format!(
                "schedule.decay is {} after {} steps of schedule.warmup, and the run has {steps} steps: together they are \
                 longer than the run, which would change the rate otherwise than they say",
                s.decay, s.warmup
            )),
            false => Ok(()),
        }
    }

    fn check_data(&self) -> Checked {
        let data = &self.data;
        for (name, n) in [("data.length", data.length), ("data.rows", data.rows)] {
            if n == 0 && self.stages.is_empty() {
                return Err(format!("{name} is missing or 0"));
            }
        }
        if data.samples == Some(0) {
            return Err("data.samples is 0; leave it out to take as many as fit a step".into());
        }
        if data.rows > 0 && data.accumulate > data.rows {
            return Err(format!(
                "data.accumulate is {}, and a step has {} rows (data.rows), which cannot be cut into more pieces",
                data.accumulate, data.rows
            ));
        }
        data.train.iter().filter_map(|s| s.augment.as_ref()).try_for_each(augmentation)?;
        data.held_out.iter().try_for_each(SourceConfig::check_held_out)
    }

    fn check_optimizer(&self) -> Checked {
        let o = &self.optimizer;
        positive("optimizer.rate", o.rate)?;
        positive("optimizer.eps", o.eps as f64)?;
        share("optimizer.betas[0]", o.betas[0] as f64)?;
        share("optimizer.betas[1]", o.betas[1] as f64)?;
        not_negative("optimizer.decay", o.decay)?;
        not_negative("optimizer.clip", o.clip)?;
        share("optimizer.momentum", o.momentum)?;
        share("optimizer.ema", o.ema)?;
        share("optimizer.smoothing", o.smoothing as f64)?;
        not_negative("optimizer.balance", o.balance.unwrap_or(0.0) as f64)?;
        for (i, group) in o.groups.iter().enumerate() {
            let name = format!("optimizer.group {}", i + 1);
            if group.names.is_empty() {
                return Err(format!("{name} has an empty match, so that it is of no parameter"));
            }
            if group.rate.is_none() && group.decay.is_none() && group.kind.is_none() {
                return Err(format!("{name} changes nothing; give it a rate, a decay or a kind"));
            }
            not_negative(&format!("the rate of {name}"), group.rate.unwrap_or(0.0))?;
            not_negative(&format!("the decay of {name}"), group.decay.unwrap_or(0.0))?;
        }
        self.check_optimizer_reads()
    }

    /// Each setting that only some optimizers read is read by one of those that the run has.
    fn check_optimizer_reads(&self) -> Checked {
        let (o, usual) = (&self.optimizer, OptimizerConfig::default());
        let mut kinds = vec![o.kind];
        kinds.extend(o.groups.iter().filter_map(|g| g.kind));
        let all = [ParameterKind::Matrix, ParameterKind::Table, ParameterKind::Other];
        let leaves = |kind: &OptimizerKind| all.iter().any(|p| !kind.optimizer().takes(*p));
        if kinds.iter().any(leaves) {
            kinds.push(OptimizerKind::default());
        }
        let given = [
            ("betas", o.betas != usual.betas),
            ("eps", o.eps != usual.eps),
            ("momentum", o.momentum != usual.momentum),
        ];
        let reads = |key: &str| kinds.iter().any(|k| k.optimizer().settings().contains(&key));
        match given.into_iter().find(|(key, given)| *given && !reads(key)) {
            Some((key, _)) => {
                let names: Vec<&str> = kinds.iter().map(|k| k.name()).collect();
                Err(format!(
                    "optimizer.{key} is given, and no optimizer of the run has it: {}",
                    names.join(", ")
                ))
            }
            None => Ok(()),
        }
    }

    fn check_precision(&self) -> Checked {
        let (p, usual) = (&self.precision, PrecisionConfig::default());
        if !p.compute.is_float() {
            return Err(format!("precision.compute is {}; it can be f32, bf16 or f16", p.compute));
        }
        positive("precision.loss_scale", p.loss_scale)?;
        if p.loss_scale_steps == 0 {
            return Err(
                "precision.loss_scale_steps is 0; the loss scale is doubled after at least 1 step".into()
            );
        }
        let scaled = [
            ("loss_scale", p.loss_scale != usual.loss_scale),
            ("loss_scale_steps", p.loss_scale_steps != usual.loss_scale_steps),
        ];
        match scaled.into_iter().find(|(_, given)| *given && p.compute != percept_graph::DType::F16) {
            Some((key, _)) => Err(format!(
                "precision.{key} belongs to compute = \"f16\"; in {} the loss is not scaled",
                p.compute
            )),
            None => Ok(()),
        }
    }

    fn check_evaluate(&self) -> Checked {
        let (e, usual) = (&self.evaluate, EvaluateConfig::default());
        if e.limit == 0 {
            return Err("evaluate.limit is 0; leave data.held_out out to measure nothing".into());
        }
        let given = [
            ("every", e.every != usual.every),
            ("limit", e.limit != usual.limit),
            // To show none is what happens.
            ("show", e.show != usual.show && e.show > 0),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) if self.data.held_out.is_empty() && self.stages.is_empty() => {
                Err(format!("evaluate.{key} is given, and data.held_out names no corpus to measure on"))
            }
            _ => Ok(()),
        }
    }

    /// A name is a folder's, and no folder of the run has it.
    fn check_name(&self) -> Checked {
        let Some(name) = &self.name else { return Ok(()) };
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':']);
        let taken = ["checkpoints", "initial", "merged", "model"].contains(&&name[..]);
        match plain && !taken {
            true => Ok(()),
            false => {
                Err(format!("name is {name:?}; it must be a folder's plain name, and none of the run's own"))
            }
        }
    }
}

impl SourceConfig {
    /// What says how a corpus is trained on says nothing of one that is measured on.
    fn check_held_out(&self) -> Checked {
        let keys = [
            ("train_on_held_out", self.train_on_held_out),
            ("weight", self.weight != 1),
            ("augment", self.augment.is_some()),
        ];
        match keys.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(format!(
                "data.held_out: {} has {key}, which is for data.train; nothing in data.held_out is trained on, and its \
                 samples are measured as they are",
                self.path.display()
            )),
            None => Ok(()),
        }
    }
}

fn augmentation(a: &Augmentation) -> Checked {
    for (name, v) in
        [("rotation", a.rotation), ("shift", a.shift), ("gains", a.gains), ("contrast", a.contrast)]
    {
        not_negative(&format!("data.train.augment.{name}"), v)?;
    }
    let (smallest, largest) = a.scale;
    positive("data.train.augment.scale[0]", smallest)?;
    positive("data.train.augment.scale[1]", largest)?;
    match smallest <= largest {
        true => Ok(()),
        false => {
            Err(format!("data.train.augment.scale is [{smallest}, {largest}]; the smallest comes first"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const RUN: &str = "out = 'runs/a'\nsteps = 10\n[model]\npath = 'base'\n[data]\nlength = 64\nrows = 4\n";

    fn parse(text: &str, set: &[&str]) -> crate::Result<Config> {
        let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
        Config::parse(Path::new("run.toml"), text, &set)
    }

    #[test]
    fn impossible_values_are_refused() {
        for (set, word) in [
            ("optimizer.rate=0.0", "positive"),
            ("optimizer.betas=[0.9, 1.0]", "below 1"),
            ("data.length=0", "data.length"),
            ("steps=0", "nothing"),
            ("precision.compute=q4_0", "f32, bf16 or f16"),
            ("lora.rank=0", "layers"),
            ("optimizer.kind=adamv", "expected one of `adamw`, `muon`, `sgd`"),
            ("optimizer.kind=adamv", "did you mean `adamw`?"),
            ("lora={rank=1, layers=['a'], dropout=1.0}", "below 1"),
            ("lora={rank=1, layers=['a'], from='tack'}", "did you mean `stack`?"),
            ("schedule={kind='wsd', decay=11}", "the run has 10 steps"),
            ("schedule={kind='wsd', decay=8, warmup=3}", "longer than the run"),
            ("epochs=0.0", "positive"),
            ("name='a/b'", "plain name"),
            ("name='model'", "the run's own"),
            ("schedule.decay=3", "wsd"),
            ("schedule.kind=wsd", "schedule.decay"),
            ("schedule={kind='constant', end=0.1}", "constant"),
            ("schedule.end=1.5", "share"),
            ("data.accumulate=5", "4 rows"),
            ("data.samples=0", "as many as fit"),
            ("data.train=[{path='a', augment={scale=[1.2, 0.8]}}]", "the smallest comes first"),
            ("data.train=[{path='a', augment={shift=-1.0}}]", "augment.shift is -1"),
            ("optimizer.decay=-0.1", "not be negative"),
            ("optimizer.clip=-1.0", "not be negative"),
            ("optimizer.group=[{match=['a'], decay=-1.0}]", "the decay of optimizer.group 1"),
            ("precision={compute='f16', loss_scale_steps=0}", "at least 1 step"),
            ("evaluate.limit=0", "evaluate.limit is 0"),
            ("checkpoint.keep=0", "checkpoint.keep is 0"),
        ] {
            let e = parse(RUN, &[set]).unwrap_err().to_string();
            assert!(e.contains(word), "{set}: {e}");
        }
    }

    #[test]
    fn settings_that_would_do_nothing_are_refused_by_name() {
        let held_out = "held_out=[{ path = 'b', ";
        for (set, word) in [
            (format!("data.{held_out}weight = 2 }}]"), "b has weight, which is for data.train"),
            (format!("data.{held_out}augment = {{}} }}]"), "b has augment, which is for data.train"),
            (format!("data.{held_out}train_on_held_out = true }}]"), "b has train_on_held_out"),
            ("evaluate.every=5".into(), "evaluate.every is given, and data.held_out names no corpus"),
            ("evaluate.limit=5".into(), "evaluate.limit is given"),
            ("evaluate.show=1".into(), "evaluate.show is given"),
            ("precision.loss_scale=8.0".into(), "loss_scale belongs to compute = \"f16\""),
            ("precision={compute='bf16', loss_scale_steps=5}".into(), "loss_scale_steps belongs"),
            (
                "optimizer.momentum=0.5".into(),
                "optimizer.momentum is given, and no optimizer of the run has it: adamw",
            ),
            ("optimizer={kind='sgd', betas=[0.5, 0.5]}".into(), "optimizer.betas is given"),
            ("optimizer={kind='sgd', eps=0.5}".into(), "optimizer.eps is given"),
            ("optimizer.group=[{match=['a']}]".into(), "optimizer.group 1 changes nothing"),
            ("optimizer.group=[{match=[], rate=1.0}]".into(), "optimizer.group 1 has an empty match"),
            ("lora={rank=1, layers=[], also=['a']}".into(), "lora.layers names no layer"),
        ] {
            let e = parse(RUN, &[&set]).unwrap_err().to_string();
            assert!(e.contains(word), "{set}: {e}");
        }
        // What is set to what it is anyhow says nothing, as in the settings that a run keeps.
        let same = "evaluate={limit=256, show=0}";
        parse(RUN, &[same, "precision.loss_scale=65536.0", "data.held_out=[{path='b', weight=1}]"]).unwrap();
        parse(RUN, &["precision={compute='f16', loss_scale=8.0}"]).unwrap();
        // AdamW has what Muon does not take.
        parse(RUN, &["optimizer={kind='muon', momentum=0.5, betas=[0.5, 0.5]}"]).unwrap();
        parse(RUN, &["optimizer={momentum=0.5, group=[{match=['a'], kind='sgd'}]}"]).unwrap();
    }
}
