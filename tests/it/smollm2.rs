//! SmolLM2-135M-Instruct in Q4_1: the prompt's tokens and, teacher-forced on the continuation that Hugging Face
//! transformers gives for the same weights dequantized (tests/golden/smollm2.py), the choices are its own. A choice that
//! differs counts where the golden's two best logits are more than 0.02 apart. With products in int8 the choices are
//! those of llama.cpp (tests/golden/smollm2_int8.py).

use std::sync::Arc;

use percept::hal::Device;
use percept::infer::{GenerateOptions, Sampler, Sampling, Session, SessionOptions};
use percept::modalities::{Content, Inputs, Media, Message};
use percept::model::checkpoint::{Checkpoint, LoadOptions};
use percept::model::{CausalModel, Model, Weights, input_ids};
use serde_json::Value;

use crate::{assets, devices};

/// Two logits nearer than this may change places by rounding.
const MARGIN: f64 = 0.02;
/// The same beside llama.cpp, which keeps scales, keys and values in f16.
const INT8_MARGIN: f64 = 0.3;

fn model() -> Box<dyn CausalModel> {
    let path = assets::asset("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    match percept::model::open(Arc::new(Checkpoint::open(path).unwrap())).unwrap() {
        Model::Causal(model) => model,
        _ => panic!("SmolLM2 continues text"),
    }
}

fn session() -> Session {
    session_with(devices::whole_cpu(), false)
}

fn session_with(device: Arc<dyn Device>, int8: bool) -> Session {
    let options = SessionOptions { strict: true, int8, ..SessionOptions::default() };
    Session::new(device, model(), options).unwrap()
}

fn golden() -> Vec<Value> {
    let golden: Value = serde_json::from_str(include_str!("../golden/smollm2.json")).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn integers(v: &Value) -> Vec<i32> {
    v.as_array().unwrap().iter().map(|v| v.as_i64().unwrap() as i32).collect()
}

fn chat(model: &dyn CausalModel, prompt: &str) -> Inputs {
    let message = Message::new("user", Content::Text(prompt.into()));
    model.processor().chat(&[message], &Media::default()).unwrap()
}

/// Teacher-forced choices on a device.
pub fn choices_agree(device: Arc<dyn Device>) {
    let mut session = session_with(device, false);
    let cases = golden();
    for case in &cases {
        let inputs = chat(session.model(), case["prompt"].as_str().unwrap());
        assert_eq!(input_ids(&inputs).unwrap(), integers(&case["prompt_ids"]), "{}", case["prompt"]);
    }
    choices_are(&mut session, &cases, MARGIN);
}

/// The session chooses the tokens of the cases, each after those before it, where they lead by more than `least`.
fn choices_are(session: &mut Session, cases: &[Value], least: f64) {
    let vocab = session.model().decoder().vocab;
    let device = session.device().info().id.clone();
    assert_eq!(cases.len(), 3);
    let mut compared = 0;
    for case in cases {
        let inputs = chat(session.model(), case["prompt"].as_str().unwrap());
        let tokens = integers(&case["tokens"]);
        let logits = session.score(&inputs, &tokens).unwrap();
        assert_eq!(logits.len(), tokens.len() * vocab);
        let mut sampler = Sampler::new(Sampling::default(), &[], vocab).unwrap();
        for (i, (row, &expected)) in logits.chunks_exact(vocab).zip(&tokens).enumerate() {
            let chosen = sampler.choose(&mut row.to_vec());
            let margin = case["margins"][i].as_f64().unwrap();
            assert!(
                chosen == expected || margin <= least,
                "{} on {device}: token {i} is {chosen}, expected {expected}, which leads by {margin}",
                case["prompt"]
            );
            compared += 1;
        }
    }
    assert!(compared >= 60, "only {compared} choices were compared");
}

#[test]
fn choices_are_those_of_transformers_on_cpu() {
    choices_agree(devices::whole_cpu());
}

#[test]
fn choices_are_those_of_transformers_on_an_adapter() {
    if let Some(device) = devices::gpu() {
        choices_agree(device);
    }
}

#[test]
fn choices_in_int8_are_those_of_llama_cpp() {
    let golden: Value = serde_json::from_str(include_str!("../golden/smollm2_int8.json")).unwrap();
    choices_are(
        &mut session_with(devices::whole_cpu(), true),
        golden["cases"].as_array().unwrap(),
        INT8_MARGIN,
    );
}

#[test]
fn int8_without_quantized_weights_is_refused() {
    let path = assets::asset("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    let dense = LoadOptions { dtype: Some(percept::graph::DType::F16), dequantize: true };
    let weights = Weights::new(Arc::new(Checkpoint::open_with(path, dense).unwrap()));
    let Model::Causal(model) = percept::model::open_weights(weights).unwrap() else {
        panic!("no causal model")
    };
    let options = SessionOptions { int8: true, ..SessionOptions::default() };
    let error = Session::new(devices::whole_cpu(), model, options).err().unwrap();
    assert!(error.to_string().contains("no weight is quantized"), "{error}");
}

#[test]
fn it_answers_and_streams_what_it_answers() {
    let mut session = session();
    let case = &golden()[0];
    let inputs = chat(session.model(), case["prompt"].as_str().unwrap());
    let mut streamed = String::new();
    let options = GenerateOptions { max_tokens: Some(48), ..GenerateOptions::default() };
    let answer = session.generate(&inputs, &options, &mut |text| streamed.push_str(text)).unwrap();
    assert_eq!(answer.text, case["text"].as_str().unwrap());
    assert_eq!(streamed, answer.text);
    // The golden continuation ends with the token that ends it.
    let tokens = integers(&case["tokens"]);
    assert_eq!(answer.tokens, tokens[..tokens.len() - 1]);
    assert_eq!(answer.finish, percept::infer::Finish::Stop);
}

#[test]
fn what_does_not_fit_the_context_is_refused_before_memory_is_taken() {
    let mut session = session();
    let held = session.device().memory();
    let inputs = chat(session.model(), &"word ".repeat(20_000));
    let options = GenerateOptions { max_tokens: Some(1), ..GenerateOptions::default() };
    let error = session.generate(&inputs, &options, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("the model's context holds"), "{error}");
    assert_eq!(session.device().memory(), held);
}
