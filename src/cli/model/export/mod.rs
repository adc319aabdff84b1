//! `percept export`: the graph of a model as a file that other runtimes and compilers read, or as what a vendor's compiler
//! makes of it.

mod graphs;
mod vendor;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use percept::graph::Role;
use percept::hal::{ExportError, Weight};
use percept::model::checkpoint::LoadOptions;
use percept_onnx::{Family, Style};
use serde_json::{Value, json};

use self::graphs::Exported;
use self::vendor::{Compiled, Vendor};
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
    /// The chip that a vendor's compiler compiles for
    #[arg(long, value_name = "CHIP")]
    target: Option<String>,
    /// The Python that has the vendor's compiler
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// The operators of ONNX: single functions (plain), whole ones of newer ONNX too (fused), and those of ONNX
    /// Runtime for quantized weights (microsoft) [default: plain]
    #[arg(long)]
    style: Option<Family>,
    /// The operator set of ONNX, 17 to 26; by default the oldest that has the style's operators
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
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An ONNX model with its weights inside
    Onnx,
    /// A StableHLO module whose weights are arguments, with FILE.safetensors and FILE.json beside it
    Stablehlo,
    /// What Rockchip's compiler makes of the ONNX model, run back in its simulator
    Rknn,
    /// What Sophgo's compiler makes of the ONNX model, run back in its simulator
    Bmodel,
    /// What Qualcomm's compiler for Hexagon makes of the ONNX model, run back in its emulator
    Qnn,
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

/// What was written.
struct Written {
    files: Vec<PathBuf>,
    /// What it is, to be printed behind a file's name, and the same for programs.
    about: String,
    fields: Value,
    compiled: Option<Compiled>,
}

impl Export {
    pub fn run(self) -> Result<(), Failure> {
        let vendor = Vendor::of(self.to);
        // What cannot be done is said before a model is read.
        let target = match (vendor, &self.target) {
            (Some(vendor), chip) => Some(vendor.target(chip.as_deref())?),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Failure::Usage("--target goes with --to rknn, bmodel or qnn alone".into()));
            }
        };
        let style = self.style(vendor)?;
        let found = weights(&self.path, None, &[], LoadOptions::default(), false)?;
        let model = percept::model::open_weights(found)?;
        let exported = Exported::of(&self, &model)?;
        let held = held(&exported)?;
        let written = match (style, vendor, target) {
            (None, ..) => {
                let bytes = |i: usize| held[i].as_ref().map(Weight::bytes);
                let files =
                    percept_pjrt::export(&exported.graph, &bytes, &self.out).map_err(|e| match e {
                        ExportError::File { path, source } => Failure::File { path, source },
                        e => Failure::Negative(e.to_string()),
                    })?;
                Written { files, about: "StableHLO".into(), fields: json!({}), compiled: None }
            }
            (Some(style), Some(vendor), Some(target)) => {
                let work = tempfile::tempdir()
                    .map_err(|source| Failure::File { path: std::env::temp_dir(), source })?;
                let model = work.path().join("model.onnx");
                write_onnx(&exported, &held, style, &model)?;
                let compiled = vendor.compile(&self, target, &exported, &held, &model)?;
                let about = format!("for {target} by {}", compiled.tool);
                let fields = compiled.to_json(target);
                Written { files: vec![self.out.clone()], about, fields, compiled: Some(compiled) }
            }
            (Some(style), ..) => Written {
                files: write_onnx(&exported, &held, style, &self.out)?,
                about: format!("{} in operator set {}", style.family, style.opset),
                fields: json!({ "style": style.family.to_string(), "opset": style.opset }),
                compiled: None,
            },
        };
        self.report(&exported, &written);
        written.compiled.map_or(Ok(()), |compiled| compiled.verdict())
    }

    /// The operators of ONNX; `None` where no ONNX is written.
    fn style(&self, vendor: Option<&Vendor>) -> Result<Option<Style>, Failure> {
        if self.to == Format::Stablehlo {
            if self.style.is_some() || self.opset.is_some() {
                return Err(Failure::Usage("--style and --opset are of ONNX, not of StableHLO".into()));
            }
            return Ok(None);
        }
        let family = self.style.or(vendor.map(|v| v.family)).unwrap_or(Family::Plain);
        Style::new(family, self.opset).map(Some).map_err(|e| Failure::Usage(e.to_string()))
    }

    fn report(&self, exported: &Exported<'_>, written: &Written) {
        let graph = &exported.graph;
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
            let mut document = json!({ "files": written.files });
            for (key, value) in written.fields.as_object().into_iter().flatten() {
                document[key] = value.clone();
            }
            document["inputs"] = json!(pairs(&inputs));
            document["outputs"] = json!(pairs(&outputs));
            println!("{document}");
            return;
        }
        for file in &written.files {
            println!("{} written, {}", file.display(), written.about);
        }
        let shown = |kind: &str, list: &[(&str, String)]| {
            for (name, ty) in list {
                println!("{kind} {name}: {ty}");
            }
        };
        shown("input", &inputs);
        shown("output", &outputs);
        if let Some(compiled) = &written.compiled {
            print!("{compiled}");
        }
    }
}

/// The weights of a graph by the index of their input.
fn held(exported: &Exported<'_>) -> Result<Vec<Option<Weight>>, Failure> {
    let graph = &exported.graph;
    let fetched = graph.inputs().iter().map(|input| match input.role {
        Role::Parameter => Ok(Some(exported.weights.fetch(&input.name, graph.ty(input.value))?)),
        _ => Ok(None),
    });
    fetched.collect()
}

fn write_onnx(
    exported: &Exported<'_>,
    held: &[Option<Weight>],
    style: Style,
    out: &Path,
) -> Result<Vec<PathBuf>, Failure> {
    let bytes = |i: usize| held[i].as_ref().map(Weight::bytes);
    percept_onnx::export(&exported.graph, style, &bytes, out).map_err(|e| match e {
        ExportError::File { path, source } => Failure::File { path, source },
        e => Failure::Negative(e.to_string()),
    })
}
