//! Whisper's cases: features, the encoder's rows, the logits of the prompt and the tokens of greedy decoding.

use std::sync::Arc;

use percept::hal::{CompileOptions, Device};
use percept::infer::SpeechModel;
use percept::modalities::{Inputs, Values, audio};
use percept::model::family::Whisper;

use super::{Case, compare_inputs, distance};

/// What was compared, or what differs.
pub fn check(case: &Case, device: &Arc<dyn Device>, model: Box<Whisper>) -> Result<String, String> {
    fn text(e: impl std::fmt::Display) -> String {
        e.to_string()
    }
    let file = case.medium(case.description["media"]["audio"].as_str().ok_or("the case names no audio")?);
    let sound = audio::decode(&file, model.features().rate(), &audio::Limits::default()).map_err(text)?;
    let features = model.features().features(&sound).map_err(text)?;
    let Values::F32(values) = features.values.clone() else { return Err("features are no floats".into()) };
    let mut inputs = Inputs::default();
    inputs.arrays.insert("input_features".into(), features);
    // What the decoder begins with is the case's, not the processor's.
    let prompt: Vec<i32> = case.inputs["decoder_input_ids"].values.iter().map(|&id| id as i32).collect();
    let ids = percept::modalities::Array {
        dims: vec![1, prompt.len()],
        values: Values::I64(prompt.iter().map(|&id| i64::from(id)).collect()),
    };
    inputs.arrays.insert("decoder_input_ids".into(), ids);
    compare_inputs(case, &inputs)?;

    let vocab = model.decoder().vocab;
    let options = CompileOptions { strict: true, ..CompileOptions::default() };
    let mut model = SpeechModel::new(model, device.clone(), options).map_err(text)?;
    model.start_window(&values).map_err(text)?;
    let rows = distance(&model.encoder_rows().map_err(text)?, &case.expected["encoder"].values)?;
    let all: Vec<usize> = (0..prompt.len()).collect();
    let mut logits = model.decode(&prompt, 0, &all).map_err(text)?;
    let error = distance(&logits, &case.expected["logits"].values)?;
    let tolerance = case.tolerance;
    if !(rows <= tolerance && error <= tolerance) {
        return Err(format!("rows are off by {rows:.2e}, logits by {error:.2e}, allowed is {tolerance:.0e}"));
    }
    let expected: Vec<i32> = case.expected["generated"].values.iter().map(|&id| id as i32).collect();
    let mut tokens = Vec::new();
    while tokens.len() < expected.len() {
        let last = &logits[logits.len() - vocab..];
        let best =
            (0..vocab).max_by(|&a, &b| last[a].total_cmp(&last[b]).then(b.cmp(&a))).unwrap_or(0) as i32;
        tokens.push(best);
        logits = model.decode(&[best], prompt.len() + tokens.len() - 1, &[0]).map_err(text)?;
    }
    if tokens != expected {
        return Err(format!("generates {tokens:?} instead of {expected:?}"));
    }
    Ok(format!("rows within {rows:.1e}, logits within {error:.1e}, {} tokens", tokens.len()))
}
