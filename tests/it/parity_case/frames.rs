//! The cases of models that name a token for every row of sound: features, logits and the tokens of all rows.

use std::sync::Arc;

use percept::hal::{CompileOptions, Device};
use percept::infer::{FrameTranscriber, Transcribe, TranscribeOptions};
use percept::modalities::{Array, Inputs, Values, audio};
use percept::model::FrameModel;

use super::{Case, compare_inputs, distance};

/// What the model reads of the case's sound.
pub fn inputs(case: &Case, model: &FrameModel) -> Result<(Inputs, audio::Waveform), String> {
    let text = |e: percept::modalities::Error| e.to_string();
    let file = case.medium(case.description["media"]["audio"].as_str().ok_or("the case names no audio")?);
    let sound = audio::decode(&file, model.features.rate(), &audio::Limits::default()).map_err(text)?;
    let features = model.features.features(&sound).map_err(text)?;
    let (frames, heard) = (features.dims[1], model.features.heard(sound.samples.len()));
    let mask = (0..frames).map(|frame| i64::from(frame < heard)).collect();
    let mut inputs = Inputs::default();
    inputs.arrays.insert("input_features".into(), features);
    let mask = Array { dims: vec![1, frames], values: Values::I64(mask) };
    inputs.arrays.insert("attention_mask".into(), mask);
    Ok((inputs, sound))
}

/// What was compared, or what differs.
pub fn check(case: &Case, device: &Arc<dyn Device>, model: Box<FrameModel>) -> Result<String, String> {
    fn text(e: impl std::fmt::Display) -> String {
        e.to_string()
    }
    let (inputs, sound) = inputs(case, &model)?;
    compare_inputs(case, &inputs)?;
    let Values::F32(features) = &inputs.arrays["input_features"].values else {
        return Err("features are no floats".into());
    };
    let (vocab, blank) = (model.vocab, model.blank);
    let heard = model.features.heard(sound.samples.len());
    let rows = model.rows(heard);
    let options = CompileOptions { strict: true, ..CompileOptions::default() };
    let mut model =
        FrameTranscriber::new(model, device.clone(), options, TranscribeOptions::default()).map_err(text)?;
    let named = model.named(&sound.samples).map_err(text)?;
    let mut pieces = [Ok(sound.samples)].into_iter();
    let said = model.transcribe_pieces(&mut pieces, &mut |_| (), &mut |_| ()).map_err(text)?;
    let expected = case.description["checks"]["text"].as_str().unwrap_or_default();
    if said.text != expected {
        return Err(format!("says '{}' instead of '{expected}'", said.text));
    }
    if let Some(rows) = case.expected.get("rows") {
        // A transducer's tokens depend on one another, so they are compared with their rows.
        let tokens: Vec<f64> = named.iter().map(|named| f64::from(named.token)).collect();
        let found: Vec<f64> = named.iter().flat_map(|named| named.rows).map(|row| row as f64).collect();
        if tokens != case.expected["generated"].values || found != rows.values {
            return Err(format!("names {named:?}"));
        }
        return Ok(format!("{} tokens, '{}'", tokens.len(), said.text));
    }
    let logits = model.encode(features, heard).map_err(text)?;
    let error = distance(&logits, &case.expected["logits"].values)?;
    if error > case.tolerance {
        return Err(format!("logits are off by {error:.2e}, allowed is {:.0e}", case.tolerance));
    }
    let best = |(i, row): (usize, &[f32])| {
        let best = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap_or(blank);
        if i < rows { best as f64 } else { blank as f64 }
    };
    let tokens: Vec<f64> = logits.chunks_exact(vocab).enumerate().map(best).collect();
    if tokens != case.expected["generated"].values {
        return Err(format!("names {tokens:?} instead of {:?}", case.expected["generated"].values));
    }
    Ok(format!("{} rows, logits within {error:.1e}, '{}'", tokens.len(), said.text))
}
