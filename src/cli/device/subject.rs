//! What `--model` names for the checks of a device: a text graph, or a checkpoint whose decoder is run for one step, or
//! answers a prompt.

use std::path::Path;
use std::sync::Arc;

use percept::graph::{Graph, Role, TensorType};
use percept::hal::Device;
use percept::infer::{GenerateOptions, RecordedRun, Session, SessionOptions};
use percept::model::checkpoint::LoadOptions;
use percept::model::{CausalModel, Model, PassRows, PassShape, SequenceRows};

use super::values::{check_sizes, example};
use crate::cli::Failure;
use crate::cli::failure::read_text;
use crate::cli::model::conversation::Conversation;
use crate::cli::model::hub::is_hub_id;
use crate::cli::model::loading::weights;

/// Tokens of the step.
const ROWS: usize = 16;
/// Rows of its cache.
const CAPACITY: usize = 64;

/// What a model ran to answer.
pub struct Recorded {
    runs: Vec<RecordedRun>,
    model: Arc<dyn CausalModel>,
}

impl Recorded {
    /// Each run with the model's weights as its parameters, made when it is asked for.
    pub fn subjects(&self) -> impl ExactSizeIterator<Item = Result<Subject, Failure>> {
        self.runs.iter().map(|run| {
            let weights = self.model.weights();
            let inputs = run.graph.inputs().iter().zip(&run.inputs).map(|(input, bytes)| match bytes {
                Some(bytes) => Ok(bytes.clone()),
                None => Ok(weights.fetch(&input.name, run.graph.ty(input.value))?.bytes().to_vec()),
            });
            Ok(Subject { graph: Graph::clone(&run.graph), inputs: inputs.collect::<Result<_, Failure>>()? })
        })
    }
}

fn is_checkpoint(path: &Path) -> bool {
    let weights = ["safetensors", "gguf", "bin"];
    path.is_dir()
        || is_hub_id(path)
        || path.extension().is_some_and(|e| weights.iter().any(|w| e.eq_ignore_ascii_case(w)))
}

/// A graph and the bytes of its inputs.
pub struct Subject {
    pub graph: Graph,
    pub inputs: Vec<Vec<u8>>,
}

impl Subject {
    /// A checkpoint with its own weights, or a text graph with seeded values, checked against the device's
    /// limits before any value is made.
    pub fn open(path: &Path, seed: u64, device: &dyn Device) -> Result<Self, Failure> {
        if is_checkpoint(path) { Self::of_model(path, device) } else { Self::of_text(path, seed, device) }
    }

    /// The runs of a model that answers a conversation on `cpu`: encoders of its media, the prompt, a step for each token.
    pub fn of_conversation(
        path: &Path,
        conversation: &Conversation,
        tokens: usize,
        cpu: &Arc<dyn Device>,
    ) -> Result<Recorded, Failure> {
        if !is_checkpoint(path) {
            let why = "is a text graph, which answers no prompt; give a checkpoint, or leave the prompt out";
            return Err(Failure::Usage(format!("{} {why}", path.display())));
        }
        let weights = weights(path, None, &[], LoadOptions::default(), false)?;
        let Model::Causal(model) = percept::model::open_weights(weights)? else {
            let why = "does not generate text, so it answers no prompt";
            return Err(Failure::Usage(format!("{} {why}", path.display())));
        };
        let messages = conversation.messages()?;
        let media = conversation.media(&messages, &*model)?;
        let inputs = model.processor().chat(&messages, &media).map_err(percept::infer::Error::from)?;
        let mut session = Session::new(cpu.clone(), model, SessionOptions::default())?;
        session.record_runs();
        let options = GenerateOptions { max_tokens: Some(tokens), ..GenerateOptions::default() };
        session.generate(&inputs, &options, &mut |_| {})?;
        Ok(Recorded { runs: session.take_recorded_runs(), model: session.shared_model() })
    }

    fn of_text(path: &Path, seed: u64, device: &dyn Device) -> Result<Self, Failure> {
        let wrong =
            |e: percept::graph::ParseError| Failure::Content { path: path.into(), why: e.to_string() };
        let graph: Graph = read_text(path)?.parse().map_err(wrong)?;
        check_sizes(&graph, device)?;
        let seeded = graph.inputs().iter().zip(seed + 1..);
        let inputs = seeded.map(|(input, seed)| example(graph.ty(input.value), seed)).collect();
        Ok(Self { graph, inputs })
    }

    fn of_model(path: &Path, device: &dyn Device) -> Result<Self, Failure> {
        let weights = weights(path, None, &[], LoadOptions::default(), false)?;
        let Model::Causal(model) = percept::model::open_weights(weights)? else {
            return Err(Failure::Usage(format!(
                "{}: only models that continue text are taken apart; give one, or a text graph",
                path.display()
            )));
        };
        let (decoder, weights) = (model.decoder(), model.weights());
        let shape = PassShape::single(decoder, ROWS, CAPACITY);
        let graph = decoder.step(weights, &shape)?;
        check_sizes(&graph, device)?;
        let positions: Vec<f32> = (0..ROWS).map(|at| at as f32).collect();
        let mut rows = PassRows {
            ids: (0..ROWS).map(|i| (i * 7919 % decoder.vocab) as i32).collect(),
            sequences: vec![SequenceRows::single(decoder, 0, ROWS, CAPACITY)],
            ..PassRows::default()
        };
        rows.add_angles(decoder, &[&positions], ROWS);
        let given = shape.fill(decoder, &rows)?;
        let mut inputs = Vec::new();
        for input in graph.inputs() {
            let ty: &TensorType = graph.ty(input.value);
            inputs.push(match input.role {
                Role::Parameter => weights.fetch(&input.name, ty)?.bytes().to_vec(),
                // The cache holds nothing yet.
                Role::State => vec![0; ty.bytes()],
                _ => {
                    let found = given.iter().find(|(name, _)| *name == input.name);
                    let missing = || Failure::from(percept::infer::Error::NotGiven(input.name.clone()));
                    found.map(|(_, array)| array.bytes().to_vec()).ok_or_else(missing)?
                }
            });
        }
        Ok(Self { graph, inputs })
    }
}
