//! The bodies of requests to the server, as far as a model is given what they ask.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use percept::infer::{Session, SessionOptions};
use percept::model::Model;
use percept::model::checkpoint::Checkpoint;
use percept::serve::{Limits, Loaded, Source, Understanding};

/// The small models of parity cases that requests name.
const MODELS: [&str; 2] = ["qwen2", "gemma3"];

/// The first byte says which endpoint is asked, the others are the body. `parity` is the folder of the parity cases.
pub fn run(parity: &Path, data: &[u8]) {
    static UNDERSTANDING: OnceLock<Understanding> = OnceLock::new();
    let understanding = UNDERSTANDING.get_or_init(|| {
        let limits = Limits { pixels: 1 << 20, seconds: 10, ..Limits::default() };
        let sources = MODELS.map(|case| source(case, parity)).into();
        Understanding::of(sources, limits).expect("the models are sound")
    });
    let Some((which, body)) = data.split_first() else { return };
    let path = Understanding::PATHS[usize::from(*which) % Understanding::PATHS.len()];
    if let Err(failure) = understanding.read(path, body) {
        assert!(!failure.status.is_server_error(), "{path}: {failure:?}");
    }
}

fn source(case: &str, parity: &Path) -> Source {
    let folder = parity.join(case).join("model");
    let open = move || {
        let checkpoint = Checkpoint::open(&folder).map_err(|error| error.to_string())?;
        let model = percept::model::open(Arc::new(checkpoint)).map_err(|error| error.to_string())?;
        let Model::Causal(model) = model else { return Err("it generates no text".into()) };
        let device = percept::registry().open("cpu").map_err(|error| error.to_string())?;
        let session =
            Session::new(device, model, SessionOptions::default()).map_err(|error| error.to_string())?;
        Ok(Loaded::Language(Box::new(session)))
    };
    Source { name: case.into(), parent: None, open: Box::new(open), over: None }
}
