//! `percept export`: the graph of a model as a file that other runtimes and compilers read.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use percept::graph::{Graph, Role};
use percept::hal::Weight;
use percept::model::checkpoint::LoadOptions;
use percept::model::{Model, PassShape, Weights};
use percept_onnx::{ExportError, Family, Style, export};
use serde_json::json;

use super::loading::weights;
use crate::cli::Failure;

#[derive(Args)]
pub struct Export {
    /// A Hugging Face folder, a .safetensors, a .gguf or a CTranslate2 Whisper folder
    path: PathBuf,
    /// The format of the file
    #[arg(long, value_enum)]
    to: Format,
    /// The file to write. More than a GiB of weights lies beside it, in FILE.data
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which graph of the model; by default the decoder of one that continues text, the image tower of one
    /// that embeds images and texts, and the encoder of one that transcribes speech or embeds texts
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// The operators: single functions (plain), whole ones of newer ONNX too (fused), and those of ONNX
    /// Runtime for quantized weights (microsoft)
    #[arg(long, default_value = "plain")]
    style: Family,
    /// The operator set, 17 to 26; by default the oldest that has the style's operators
    #[arg(long, value_name = "N")]
    opset: Option<i64>,
    /// Tokens that a step of the decoder reads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    rows: u32,
    /// Tokens that the decoder's cache has room for, or of each text that an encoder of texts reads
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    capacity: u32,
    /// Images or texts of one run of a tower
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Formats of files.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// An ONNX model with its weights inside
    Onnx,
}

/// Graphs of models.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// A step of the decoder, with its cache as inputs and outputs
    Decoder,
    /// The tower that embeds images
    Image,
    /// The tower that embeds texts
    Text,
    /// The encoder of speech
    Audio,
    /// The keys and values that the decoder of speech reads of the encoder's rows
    CrossKeys,
}

impl Export {
    pub fn run(self) -> Result<(), Failure> {
        let style = Style::new(self.style, self.opset).map_err(|e| Failure::Usage(e.to_string()))?;
        let found = weights(&self.path, None, &[], LoadOptions::default(), false)?;
        let model = percept::model::open_weights(found)?;
        let (graph, weights) = self.graph(&model)?;
        let written = match self.to {
            Format::Onnx => write_onnx(&graph, weights, style, &self.out)?,
        };
        self.report(&graph, style, &written);
        Ok(())
    }

    /// The graph that is asked for, and where its parameters come from.
    fn graph<'m>(&self, model: &'m Model) -> Result<(Graph, &'m Weights), Failure> {
        let (rows, capacity, batch) = (self.rows as usize, self.capacity as usize, self.batch as usize);
        match (model, self.part) {
            (Model::Causal(m), None | Some(Part::Decoder)) => {
                let shape = PassShape::single(m.decoder(), rows, capacity);
                Ok((m.decoder().step(m.weights(), &shape)?, m.weights()))
            }
            (Model::Contrastive(m), None | Some(Part::Image)) => Ok((m.image_graph(batch)?, &m.weights)),
            (Model::Contrastive(m), Some(Part::Text)) => Ok((m.text_graph(batch)?, &m.weights)),
            (Model::Speech(m), None | Some(Part::Audio)) => Ok((m.encode()?, m.weights())),
            (Model::Speech(m), Some(Part::CrossKeys)) => Ok((m.cross_keys()?, m.weights())),
            (Model::Speech(m), Some(Part::Decoder)) => Ok((m.step(&m.step_shape(rows, rows))?, m.weights())),
            (Model::Frames(m), None | Some(Part::Audio)) => {
                // As many frames of sound as --rows asks for rows.
                let frames = rows.saturating_mul(m.encoder.factor()).min(1 << 16);
                Ok((m.run(&vec![0.0; frames * m.encoder.bands], frames)?.graph, &m.weights))
            }
            (Model::TextEncoder(m), None | Some(Part::Text)) => Ok((m.graph(batch, capacity)?, &m.weights)),
            (model, part) => Err(self.lacks(model, part)),
        }
    }

    fn lacks(&self, model: &Model, part: Option<Part>) -> Failure {
        let (kind, parts) = match model {
            Model::Causal(_) => (
                "a model that continues text",
                "decoder; its towers are made anew for each image's size, so there is no one graph to export",
            ),
            Model::Contrastive(_) => ("a model that embeds images and texts", "image, text"),
            Model::Speech(_) => ("a model that transcribes speech", "audio, cross-keys, decoder"),
            Model::Frames(_) => ("a model that names a token for every row of sound", "audio"),
            Model::TextEncoder(_) => ("a model that embeds texts", "text"),
            Model::ImageEncoder(_) => (
                "a model that embeds images",
                "none; its tower is made anew for each image's size, so there is no one graph to export",
            ),
        };
        let name = part.and_then(|part| part.to_possible_value());
        let name = name.map_or("to export".to_string(), |value| format!("'{}'", value.get_name()));
        Failure::Usage(format!(
            "{} is {kind} and has no part {name}; its parts: {parts}",
            self.path.display()
        ))
    }

    fn report(&self, graph: &Graph, style: Style, written: &[PathBuf]) {
        let inputs = graph.inputs().iter().filter(|i| i.role != Role::Parameter);
        let inputs: Vec<(&str, String)> =
            inputs.map(|i| (i.name.as_str(), graph.ty(i.value).to_string())).collect();
        let outputs = graph.outputs().iter();
        let outputs: Vec<(&str, String)> =
            outputs.map(|o| (o.name.as_str(), graph.ty(o.value).to_string())).collect();
        if self.json {
            let pairs = |list: &[(&str, String)]| {
                list.iter().map(|(name, ty)| json!({ "name": name, "type": ty })).collect::<Vec<_>>()
            };
            let document = json!({
                "files": written, "style": style.family.to_string(), "opset": style.opset,
                "inputs": pairs(&inputs), "outputs": pairs(&outputs),
            });
            println!("{document}");
            return;
        }
        for file in written {
            println!("{} written, {} in operator set {}", file.display(), style.family, style.opset);
        }
        let shown = |kind: &str, list: &[(&str, String)]| {
            for (name, ty) in list {
                println!("{kind} {name}: {ty}");
            }
        };
        shown("input", &inputs);
        shown("output", &outputs);
    }
}

fn write_onnx(graph: &Graph, weights: &Weights, style: Style, out: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut held: Vec<Option<Weight>> = Vec::new();
    for input in graph.inputs() {
        held.push(match input.role {
            Role::Parameter => Some(weights.fetch(&input.name, graph.ty(input.value))?),
            _ => None,
        });
    }
    let bytes = |i: usize| held[i].as_ref().map(Weight::bytes);
    export(graph, style, &bytes, out).map_err(|e| match e {
        ExportError::File { path, source } => Failure::File { path, source },
        e => Failure::Negative(e.to_string()),
    })
}
