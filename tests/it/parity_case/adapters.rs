//! Adapters that PEFT saved over the models of the cases, and what PEFT computes with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::hal::Device;
use percept::model::checkpoint::Checkpoint;
use percept::model::{Model, Weights};
use serde::Deserialize;

use super::{Case, causal, contrastive, frames, read_tensors, speech};

/// A line of tests/adapters/cases.json.
#[derive(Deserialize)]
pub struct Adapted {
    pub name: String,
    /// The parity case whose model and inputs are used.
    pub base: String,
    /// Folders and weights, in order.
    pub adapters: Vec<(String, f64)>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters")
}

/// Every adapter, and its parity case with PEFT's results in place of the model's own.
pub fn cases() -> Vec<(Adapted, Case)> {
    let listed = std::fs::read(folder().join("cases.json")).unwrap();
    let listed: Vec<Adapted> = serde_json::from_slice(&listed).unwrap();
    let mut expected = read_tensors(&folder().join("expected.safetensors"));
    let with_results = |adapted: Adapted| {
        let mut case = Case::read(folder().join("../parity").join(&adapted.base));
        let prefix = format!("{}/", adapted.name);
        let own: Vec<String> = expected.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
        let take = |key: String| (key[prefix.len()..].to_string(), expected.remove(&key).unwrap());
        case.expected = Box::leak(Box::new(own.into_iter().map(take).collect()));
        (adapted, case)
    };
    listed.into_iter().map(with_results).collect()
}

impl Adapted {
    /// The base with the adapters beside its layers.
    pub fn weights(&self, case: &Case) -> Result<Weights, String> {
        let base = Checkpoint::open(case.folder.join("model")).map_err(|e| e.to_string())?;
        let mut weights = Weights::new(Arc::new(base));
        for (name, weight) in &self.adapters {
            weights =
                weights.with_weighted_adapter(&folder().join(name), *weight).map_err(|e| e.to_string())?;
        }
        if !weights.doubts().is_empty() {
            return Err(format!("is doubted: {:?}", weights.doubts()));
        }
        Ok(weights)
    }
}

/// What was compared, or what differs. Ten tokens are chosen where `far` says so, otherwise the first one.
pub fn check(case: &Case, weights: Weights, device: &Arc<dyn Device>, far: bool) -> Result<String, String> {
    match percept::model::open_weights(weights).map_err(|e| e.to_string())? {
        Model::Causal(model) => causal::check(case, device, model, if far { usize::MAX } else { 1 }),
        Model::Contrastive(model) => contrastive::check(case, device, model),
        Model::ImageEncoder(model) => super::images::check(case, device, model),
        Model::TextEncoder(_) => Err("encoders of texts have tests of their own".into()),
        Model::Speech(model) => speech::check(case, device, model),
        Model::Frames(model) => frames::check(case, device, model),
    }
}
