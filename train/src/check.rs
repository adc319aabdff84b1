//! Stages held to their models and data before the first of them begins.

use std::sync::Arc;

use percept_model::Weights;
use percept_model::checkpoint::{Base, Checkpoint};

use crate::adapter::{Form, OtherBase, other_base};
use crate::batch::Batch;
use crate::config::{Config, Onward};
use crate::error::{Error, Result};
use crate::feed::{Feed, held_out};
use crate::forward::{Purpose, forward};
use crate::initial;
use crate::outlook;
use crate::plan::TrainingPlan;
use crate::run::borrowed;
use crate::stages::Stage;
use crate::steps::Differentiated;
use crate::trainer::causal;

/// Held-out samples that are tried at first.
const TRIED: usize = 4;

/// A stage as far as it is known before it runs.
struct Known {
    /// A checkpoint whose tensors have the names and shapes of those that the stage will see.
    checkpoint: Arc<Checkpoint>,
    /// The form of the adapters that it leaves.
    form: Form,
}

/// Hold all stages to the models that they will see and to their data: patterns, adapters, paths, splits,
/// processors, lengths, gradients. Those before `next` are finished, and `next` itself meets its data before
/// its first step anyhow. What is given back is to be said: adapters whose base may be another.
///
/// # Errors
/// With the stage that is wrong, and why; an adapter of another base too where that is `strict`.
pub fn check(stages: &[Stage], next: usize, strict: bool) -> Result<Vec<String>> {
    let mut before: Option<Known> = None;
    let mut said = Vec::new();
    for (i, stage) in stages.iter().enumerate() {
        let known = known(stage, before.as_ref(), i > next).map_err(|e| stage.wrong(e))?;
        if i >= next && !stage.goes_on {
            said.extend(bases(&stage.config, strict).map_err(|e| stage.wrong(e))?);
        }
        before = Some(known);
    }
    Ok(said)
}

/// What is to be said of the bases of the adapters that a run begins with.
fn bases(config: &Config, strict: bool) -> Result<Vec<String>> {
    let beside = config.lora.as_ref().and_then(|l| l.path.as_deref()).map(|a| (a, config.base_path()));
    let merged = config.model.adapter.as_deref().map(|a| (a, config.model.path.clone()));
    let mut said = Vec::new();
    for (adapter, path) in [beside, merged].into_iter().flatten() {
        let base = Base::of(&Checkpoint::open(path)?)?;
        match other_base(adapter, &base)? {
            Some(OtherBase::Differs(how)) if strict => return Err(Error::Setting(how)),
            Some(OtherBase::Differs(how) | OtherBase::Unknown(how)) => said.push(how),
            None => {}
        }
    }
    Ok(said)
}

fn known(stage: &Stage, before: Option<&Known>, tries: bool) -> Result<Known> {
    let config = &stage.config;
    let before = before.filter(|_| stage.goes_on);
    let checkpoint = match before {
        Some(before) => before.checkpoint.clone(),
        None => Arc::new(initial::open(config)?),
    };
    let model = causal(Weights::new(checkpoint.clone()))?;
    let plan = Arc::new(TrainingPlan::new(config, &checkpoint, &*model)?);
    let mut form = Form::planned(&plan, &checkpoint);
    if let Some((from, path)) = config.lora.as_ref().and_then(|l| Some((l.from, l.path.as_deref()?))) {
        let own = match before {
            Some(before) => before.form.clone(),
            None => Form::read(path, checkpoint.clone())?,
        };
        match from {
            Onward::Stack => form = form.on_top_of(&own),
            Onward::Continue | Onward::Merge => own.check(path, &form)?,
        }
    }
    if tries {
        let weights = Weights::new(checkpoint.clone()).for_training(plan.clone());
        try_data(config, causal(weights)?.into(), &plan)?;
    }
    Ok(Known { checkpoint, form })
}

/// Draw the first step, and trace its gradients; read some held-out samples.
fn try_data(config: &Config, model: Arc<dyn percept_model::CausalModel>, plan: &TrainingPlan) -> Result<()> {
    outlook::steps(&model, config)?;
    let (decoder, checkpoint) = (model.decoder(), model.weights().checkpoint());
    TrainingPlan::new(config, checkpoint, &*model)?
        .with_outer([decoder.table.clone(), decoder.head.clone()], checkpoint)?;
    let first = Feed::new(model.clone(), &config.data, config.seed, None)?.next_step()?;
    let batch = Batch::new(&*model, &borrowed(&first.rows), config.data.length)?;
    let purpose = Purpose::training(config);
    let graph = forward(&*model, &batch.shape, &batch.runs, purpose)?;
    Differentiated::new(&graph, |name| plan.trains(name), &config.precision)?;
    for source in &config.data.held_out {
        let few = config.evaluate.limit.min(TRIED);
        if held_out(&*model, source, &config.data, few).is_err() {
            held_out(&*model, source, &config.data, config.evaluate.limit)?;
        }
    }
    Ok(())
}
