//! The cases of CLIP and SigLIP: what processors make, embeddings, and how alike pictures and texts are.

use std::sync::Arc;

use percept::hal::{CompileOptions, Device};
use percept::infer::Embedder;
use percept::modalities::Inputs;
use percept::model::Contrastive;

use super::{Case, compare_inputs, distance, picture};

/// What was compared, or what differs.
pub fn check(case: &Case, device: &Arc<dyn Device>, model: Box<Contrastive>) -> Result<String, String> {
    fn text(e: impl std::fmt::Display) -> String {
        e.to_string()
    }
    let names = |v: &serde_json::Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|v| Some(v.as_str()?.to_string())).collect()
    };
    let texts = names(&case.description["messages"]);
    let pictures = names(&case.description["media"]["images"]);
    let pictures = pictures.iter().map(|n| picture(&case.medium(n))).collect::<Result<Vec<_>, _>>()?;
    let mut inputs = Inputs::default();
    inputs.arrays.extend(model.prepare(&pictures).map_err(text)?);
    inputs.arrays.insert("input_ids".into(), model.tokens(&texts).map_err(text)?);
    compare_inputs(case, &inputs)?;

    let options = CompileOptions { strict: true, ..CompileOptions::default() };
    let mut embedder = Embedder::new(model, device.clone(), options);
    let images = embedder.images(&pictures).map_err(text)?;
    let texts = embedder.texts(&texts).map_err(text)?;
    let logits = embedder.compare(&images, &texts).map_err(text)?;
    let mut worst = 0f64;
    for (name, found) in [("image_embeds", images), ("text_embeds", texts), ("logits", logits)] {
        let error = distance(&found.concat(), &case.expected[name].values)?;
        if error.is_nan() || error > case.tolerance {
            return Err(format!("{name} are off by {error:.2e}, allowed is {:.0e}", case.tolerance));
        }
        worst = worst.max(error);
    }
    Ok(format!("embeddings and logits within {worst:.1e}"))
}
