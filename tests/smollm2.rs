//! SmolLM2-135M-Instruct in Q4_1: the prompt's tokens and, teacher-forced on the continuation that Hugging Face
//! transformers gives for the same weights dequantized (tests/golden/smollm2.py), the choices are its own. A choice that
//! differs counts where the golden's two best logits are more than 0.02 apart.

mod assets;

use std::sync::Arc;

use percept::infer::{Engine, EngineOptions, GenerateOptions, Sampler, Sampling};
use percept::modalities::{Content, Inputs, Media, Message};
use percept::model::checkpoint::Checkpoint;
use percept::model::{CausalModel, Model, input_ids};
use serde_json::Value;

/// Two logits nearer than this may change places by rounding.
const MARGIN: f64 = 0.02;

fn model() -> Box<dyn CausalModel> {
    let path = assets::asset("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    match percept::model::open(Arc::new(Checkpoint::open(path).unwrap())).unwrap() {
        Model::Causal(model) => model,
        _ => panic!("SmolLM2 continues text"),
    }
}

fn engine(device: &str) -> Engine {
    let options = EngineOptions { strict: true, ..EngineOptions::default() };
    Engine::new(percept::registry().open(device).unwrap(), model(), options).unwrap()
}

fn golden() -> Vec<Value> {
    let golden: Value = serde_json::from_str(include_str!("golden/smollm2.json")).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn integers(v: &Value) -> Vec<i32> {
    v.as_array().unwrap().iter().map(|v| v.as_i64().unwrap() as i32).collect()
}

fn chat(model: &dyn CausalModel, prompt: &str) -> Inputs {
    let message = Message { role: "user".into(), content: Content::Text(prompt.into()) };
    model.processor().chat(&[message], &Media::default()).unwrap()
}

/// Teacher-forced choices on a device.
fn choices_agree(device: &str) {
    let mut engine = engine(device);
    let vocab = engine.model().decoder().vocab;
    let cases = golden();
    assert_eq!(cases.len(), 3);
    let mut compared = 0;
    for case in &cases {
        let inputs = chat(engine.model(), case["prompt"].as_str().unwrap());
        assert_eq!(input_ids(&inputs).unwrap(), integers(&case["prompt_ids"]), "{}", case["prompt"]);
        let tokens = integers(&case["tokens"]);
        let logits = engine.score(&inputs, &tokens).unwrap();
        assert_eq!(logits.len(), tokens.len() * vocab);
        let mut sampler = Sampler::new(Sampling::default(), &[], vocab).unwrap();
        for (i, (row, &expected)) in logits.chunks_exact(vocab).zip(&tokens).enumerate() {
            let chosen = sampler.choose(&mut row.to_vec());
            let margin = case["margins"][i].as_f64().unwrap();
            assert!(
                chosen == expected || margin <= MARGIN,
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
    choices_agree("cpu");
}

#[test]
fn choices_are_those_of_transformers_on_an_adapter() {
    if percept::registry().list().iter().all(|d| d.id != "wgpu:0") {
        eprintln!("SKIPPED: this machine has no wgpu:0; install a Vulkan driver (cargo xtask setup)");
        return;
    }
    choices_agree("wgpu:0");
}

#[test]
fn it_answers_and_streams_what_it_answers() {
    let mut engine = engine("cpu");
    let case = &golden()[0];
    let inputs = chat(engine.model(), case["prompt"].as_str().unwrap());
    let mut streamed = String::new();
    let options = GenerateOptions { max_tokens: Some(48), ..GenerateOptions::default() };
    let answer = engine.generate(&inputs, &options, &mut |text| streamed.push_str(text)).unwrap();
    assert_eq!(answer.text, case["text"].as_str().unwrap());
    assert_eq!(streamed, answer.text);
    // The golden continuation ends with the token that ends it.
    let tokens = integers(&case["tokens"]);
    assert_eq!(answer.tokens, tokens[..tokens.len() - 1]);
    assert_eq!(answer.finish, percept::infer::Finish::Stop);
}

#[test]
fn what_does_not_fit_the_context_is_refused_before_memory_is_taken() {
    let mut engine = engine("cpu");
    let held = engine.device().memory();
    let inputs = chat(engine.model(), &"word ".repeat(20_000));
    let options = GenerateOptions { max_tokens: Some(1), ..GenerateOptions::default() };
    let error = engine.generate(&inputs, &options, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("the model's context holds"), "{error}");
    assert_eq!(engine.device().memory(), held);
}
