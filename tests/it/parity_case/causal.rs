//! The cases of decoders: what the processor makes, the logits of the prompt, and the greedy continuation.

use std::sync::Arc;

use percept::hal::Device;
use percept::infer::{Sampler, Sampling, Session, SessionOptions};
use percept::model::CausalModel;

use super::{Case, compare_inputs, distance};

/// What was compared, or what differs. A case has the logits of every row, or of the last one; of its tokens at most so
/// many are chosen.
pub fn check(
    case: &Case,
    device: &Arc<dyn Device>,
    model: Box<dyn CausalModel>,
    most: usize,
) -> Result<String, String> {
    fn text(e: impl std::fmt::Display) -> String {
        e.to_string()
    }
    let media = case.media(model.processor())?;
    let inputs = model.processor().chat(&case.messages()?, &media).map_err(text)?;
    compare_inputs(case, &inputs)?;

    let (vocab, ends) = (model.decoder().vocab, model.ends().map_err(text)?);
    let options = SessionOptions { strict: true, ..SessionOptions::default() };
    let mut session = Session::new(device.clone(), model, options).map_err(text)?;
    let expected = &case.expected["generated"].values;
    let expected = &expected[..expected.len().min(most)];
    let (mut sequence, logits) = session.prefill(&inputs, expected.len(), 0).map_err(text)?;
    let mut last = logits[logits.len() - vocab..].to_vec();
    let known = &case.expected["logits"].values;
    let error = distance(if known.len() == vocab { &last } else { &logits }, known)?;
    // `distance` gives no NaN.
    if error > case.tolerance {
        return Err(format!("logits are off by {error:.2e}, allowed is {:.0e}", case.tolerance));
    }
    let sampling = Sampling { suppressed: ends, ..Sampling::default() };
    let mut sampler = Sampler::new(sampling, &[], vocab).map_err(text)?;
    let mut tokens = Vec::new();
    while tokens.len() < expected.len() {
        let id = sampler.choose(&mut last);
        tokens.push(id as f64);
        last = session.decode(&mut sequence, id).map_err(text)?;
    }
    if tokens != *expected {
        return Err(format!("continues with {tokens:?} instead of {expected:?}"));
    }
    Ok(format!("{} rows, logits within {error:.1e}, {} tokens", known.len() / vocab, tokens.len()))
}
