//! Checkpoints as others publish them: the files of one model with some of them replaced, and what transformers makes of
//! them (`tests/published/expected.json`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::infer::{GenerateOptions, Generation, Recommended, Session, SessionOptions};
use percept::modalities::{Media, Message};
use percept::model::Model;
use percept::model::checkpoint::Checkpoint;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published")
}

/// What transformers makes of a case.
pub fn expected(case: &str) -> serde_json::Value {
    let text = std::fs::read(folder().join("expected.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()[case].clone()
}

/// The model's answer of ten tokens to the messages of a file of the case, or to a greeting; `change` asks for another.
pub fn answer(
    case: &str,
    messages: Option<&str>,
    change: impl FnOnce(&mut GenerateOptions),
) -> Result<Generation, String> {
    let whole = tempfile::tempdir().unwrap();
    for from in ["model", case] {
        let Ok(files) = std::fs::read_dir(folder().join(from)) else { continue };
        for file in files {
            let file = file.unwrap();
            std::fs::copy(file.path(), whole.path().join(file.file_name())).unwrap();
        }
    }
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let messages: Vec<Message> = match messages {
        Some(file) => serde_json::from_slice(&std::fs::read(whole.path().join(file)).unwrap()).unwrap(),
        None => serde_json::from_str(r#"[{"role": "user", "content": "Hello there"}]"#).unwrap(),
    };
    let checkpoint = Checkpoint::open(whole.path()).map_err(|e| text(&e))?;
    let Model::Causal(model) = percept::model::open(Arc::new(checkpoint)).map_err(|e| text(&e))? else {
        return Err("it is no decoder".into());
    };
    let inputs = model.processor().chat(&messages, &Media::default()).map_err(|e| text(&e))?;
    let recommended = std::fs::read(whole.path().join("generation_config.json")).unwrap();
    let recommended = Recommended::read(&recommended).map_err(|e| text(&e))?;
    let mut options = GenerateOptions {
        max_tokens: Some(10),
        sampling: recommended.sampling(),
        ..GenerateOptions::default()
    };
    change(&mut options);
    let device = percept::registry().open("cpu").unwrap();
    let mut session = Session::new(device, model, SessionOptions::default()).map_err(|e| text(&e))?;
    session.generate(&inputs, &options, &mut |_| {}).map_err(|e| text(&e))
}
