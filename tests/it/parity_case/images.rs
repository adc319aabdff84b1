//! The cases of encoders of images: what the processor makes, all rows, and the one that stands for the image.

use std::sync::Arc;

use percept::hal::{CompileOptions, Device};
use percept::infer::ImageEmbedder;
use percept::modalities::Inputs;
use percept::model::ImageEncoder;

use super::{Case, compare_inputs, distance, picture};

/// What was compared, or what differs.
pub fn check(case: &Case, device: &Arc<dyn Device>, model: Box<ImageEncoder>) -> Result<String, String> {
    fn text(e: impl std::fmt::Display) -> String {
        e.to_string()
    }
    let names = case.description["media"]["images"].as_array().into_iter().flatten();
    let pictures = names.filter_map(|n| n.as_str()).map(|n| picture(&case.medium(n)));
    let pixels = model.prepare(&pictures.collect::<Result<Vec<_>, _>>()?).map_err(text)?;
    let mut inputs = Inputs::default();
    inputs.arrays.insert("pixel_values".into(), pixels.clone());
    compare_inputs(case, &inputs)?;

    let options = CompileOptions { strict: true, ..CompileOptions::default() };
    let states = ImageEmbedder::new(model, device.clone(), options).states(&pixels).map_err(text)?;
    let mut worst = 0f64;
    for (name, found) in [("pooled", states.pooled), ("last_hidden", states.hidden)] {
        let error = distance(&found, &case.expected[name].values)?;
        if error.is_nan() || error > case.tolerance {
            return Err(format!("{name} are off by {error:.2e}, allowed is {:.0e}", case.tolerance));
        }
        worst = worst.max(error);
    }
    Ok(format!("rows within {worst:.1e}"))
}
