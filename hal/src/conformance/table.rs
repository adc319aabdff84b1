//! The table of cases.

use std::sync::Arc;

use super::case::{Case, Check, Fault, Level, Subject};
use super::problem::Build;

/// Cases in the making.
#[derive(Default)]
pub struct Table(Vec<Case>);

impl Table {
    /// The cases, lowest rung first, otherwise in the order they were added.
    pub fn finish(mut self) -> Vec<Case> {
        self.0.sort_by_key(|c| c.level);
        self.0
    }

    fn push(&mut self, level: Level, op: &str, variant: &str, check: Check) {
        let id = format!("{level}/{op}/{variant}");
        debug_assert!(self.0.iter().all(|c| c.id != id), "{id} is there twice");
        self.0.push(Case { id, level, op: op.to_string(), check });
    }

    /// A graph that is held to the reference.
    pub fn values(
        &mut self,
        level: Level,
        op: &str,
        variant: impl AsRef<str>,
        recipe: impl Fn(&mut Build) + Send + Sync + 'static,
    ) {
        self.push(level, op, variant.as_ref(), Check::Values(Arc::new(recipe)));
    }

    /// A graph that is held to the reference, and on L3 its gradients too; the longest sum has `terms` terms.
    pub fn differentiable(
        &mut self,
        level: Level,
        op: &str,
        variant: impl AsRef<str>,
        terms: usize,
        recipe: impl Fn(&mut Build) + Send + Sync + 'static,
    ) {
        let recipe: super::problem::Recipe = Arc::new(recipe);
        self.push(level, op, variant.as_ref(), Check::Values(recipe.clone()));
        self.push(Level::L3, &format!("grad.{op}"), variant.as_ref(), Check::Gradient(recipe, terms));
    }

    /// The gradients alone of a graph; the longest sum has `terms` terms.
    pub fn gradient(
        &mut self,
        op: &str,
        variant: impl AsRef<str>,
        terms: usize,
        recipe: impl Fn(&mut Build) + Send + Sync + 'static,
    ) {
        self.push(
            Level::L3,
            &format!("grad.{op}"),
            variant.as_ref(),
            Check::Gradient(Arc::new(recipe), terms),
        );
    }

    /// A promise of the contract.
    pub fn promise(
        &mut self,
        level: Level,
        op: &str,
        variant: impl AsRef<str>,
        promise: impl Fn(&Subject) -> Result<(), Fault> + Send + Sync + 'static,
    ) {
        self.push(level, op, variant.as_ref(), Check::Promise(Arc::new(promise)));
    }

    /// A graph that is timed.
    pub fn speed(
        &mut self,
        op: &str,
        variant: impl AsRef<str>,
        recipe: impl Fn(&mut Build) + Send + Sync + 'static,
    ) {
        self.push(Level::L4, op, variant.as_ref(), Check::Speed(Arc::new(recipe)));
    }

    /// A model whose operations are timed.
    pub fn model(&mut self, variant: &str, recipe: impl Fn(&mut Build) + Send + Sync + 'static) {
        self.push(Level::L4, "model_time", variant, Check::Model(Arc::new(recipe)));
    }
}
