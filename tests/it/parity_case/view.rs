//! What a model is given, as the view states it, beside the inputs that transformers made for the same case.

use std::sync::Arc;

use percept::infer::view::Tensor;
use percept::infer::{TranscribeOptions, View};
use percept::modalities::{Media, Values, audio};
use percept::model::Model;
use percept::model::checkpoint::Checkpoint;

use super::{Case, compare_inputs, picture};

/// Arrays that only tell padding or kinds of tokens apart, which not every processor makes.
const OPTIONAL: [&str; 4] = ["attention_mask", "mm_token_type_ids", "token_type_ids", "batch_num_images"];

/// The view of a case.
pub fn of_case(case: &Case) -> Result<View, String> {
    fn text(e: impl std::fmt::Display) -> String {
        e.to_string()
    }
    let checkpoint = Checkpoint::open(case.folder.join("model")).map_err(text)?;
    let names = |v: &serde_json::Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|v| Some(v.as_str()?.to_string())).collect()
    };
    match percept::model::open(Arc::new(checkpoint)).map_err(text)? {
        Model::Causal(model) => {
            let media = case.media(model.processor())?;
            View::of_chat(&*model, &case.messages()?, &media).map_err(text)
        }
        Model::Contrastive(model) => {
            let pictures = names(&case.description["media"]["images"]);
            let pictures =
                pictures.iter().map(|n| picture(&case.medium(n))).collect::<Result<Vec<_>, _>>()?;
            View::of_contrastive(&model, &names(&case.description["messages"]), &pictures).map_err(text)
        }
        Model::ImageEncoder(model) => {
            let pictures = names(&case.description["media"]["images"]);
            let pictures =
                pictures.iter().map(|n| picture(&case.medium(n))).collect::<Result<Vec<_>, _>>()?;
            View::of_image_encoder(&model, &pictures).map_err(text)
        }
        Model::TextEncoder(_) => Err("encoders of texts have tests of their own".into()),
        Model::Frames(model) => {
            let (_, sound) = super::frames::inputs(case, &model)?;
            View::of_frames(&model, &Media { audios: vec![sound], ..Media::default() }).map_err(text)
        }
        Model::Speech(model) => {
            let file = case.medium(case.description["media"]["audio"].as_str().unwrap());
            let rate = model.features().rate();
            let sound = audio::decode(&file, rate, &audio::Limits::default()).map_err(text)?;
            let media = Media { audios: vec![sound], ..Media::default() };
            View::of_speech(&model, &media, &TranscribeOptions::default()).map_err(text)
        }
    }
}

/// Compares shapes and hashes; gives how many arrays of floats of pixels are equal to the last bit, and how many there are.
/// The rest are within one step of 8 bits, and features of sound within 1e-4 of the original's, which sums in another order.
pub fn check(case: &Case, view: &View) -> Result<[usize; 2], String> {
    compare_inputs(case, view.inputs())?;
    let mut pixels = [0, 0];
    for (name, golden) in case.inputs {
        let Some(tensor) = view.tensors.iter().find(|t| t.name == *name) else {
            if OPTIONAL.contains(&&name[..]) {
                continue;
            }
            return Err(format!("the view has no '{name}'"));
        };
        let values = match tensor.dtype {
            "i64" => Values::I64(golden.values.iter().map(|&v| v as i64).collect()),
            _ => Values::F32(golden.values.iter().map(|&v| v as f32).collect()),
        };
        let same = view.inputs().arrays[name].values == values;
        let expected = Tensor::of(name, &golden.dims, &values);
        if tensor.shape != expected.shape || (tensor.sha256 == expected.sha256) != same {
            return Err(format!("'{name}' is {tensor:?}, expected {expected:?}"));
        }
        if tensor.dtype == "i64" && !same {
            return Err(format!("'{name}' has other numbers than the case's"));
        }
        if name.starts_with("pixel_values") {
            pixels = [pixels[0] + usize::from(same), pixels[1] + 1];
        }
    }
    check_ranges(view)?;
    Ok(pixels)
}

/// Every range begins and ends with its placeholder and has as many of them as the medium has features; no placeholder
/// stands outside.
fn check_ranges(view: &View) -> Result<(), String> {
    let mut last = 0;
    for (i, medium) in view.media.iter().enumerate() {
        let Some([a, b]) = medium.range else { continue };
        let tokens = &view.tokens[a..b];
        let id = tokens[0].id;
        let count = |from: usize, to: usize| view.tokens[from..to].iter().filter(|t| t.id == id).count();
        if a < last || tokens[tokens.len() - 1].id != id || count(a, b) != medium.features {
            return Err(format!("medium {i} at {a}..{b} has {} of {}", count(a, b), medium.features));
        }
        let others = view.media.iter().filter(|m| m.kind == medium.kind);
        if others.map(|m| m.features).sum::<usize>() > count(0, view.tokens.len()) {
            return Err(format!("medium {i} claims placeholders that are not there"));
        }
        last = b;
    }
    Ok(())
}
