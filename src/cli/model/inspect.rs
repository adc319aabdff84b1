//! `percept inspect`: the contents of a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use percept::graph::TensorType;
use percept::model::AdapterFacts;
use percept::model::checkpoint::{Checkpoint, LoadOptions};
use serde_json::{Value as Json, json};

use super::conversation::{Conversation, MediaFiles, TemplateVariables};
use super::hub::find_model;
use super::loading::weights;
use super::view;
use crate::cli::Failure;
use crate::cli::output::printable;
use crate::cli::table::table;

/// Without --model: the contents of a checkpoint. With --model: the input of that model for a prompt and its
/// media, before anything is computed.
#[derive(Args)]
pub struct Inspect {
    /// A Hugging Face folder, a .safetensors, a .gguf, a CTranslate2 Whisper folder, an adapter's folder,
    /// which is shown with its base, or OWNER/NAME on the hub; with --model the prompt, or several texts for
    /// CLIP and SigLIP
    #[arg(value_name = "PATH|PROMPT")]
    subject: Vec<String>,
    /// Show the input of this model instead: rendered prompt, tokens, placeholders, grids, frames, hashes of
    /// tensors
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// The GGUF file of the tower and the projector, where it is not found beside the model's by its name
    /// (mmproj-NAME.gguf)
    #[arg(long, value_name = "FILE")]
    mmproj: Option<PathBuf>,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    #[command(flatten)]
    files: MediaFiles,
    /// A JSON list of messages with role and content, as chat templates take them, instead of a prompt
    #[arg(long, value_name = "F.json", requires = "model", conflicts_with = "subject")]
    messages: Option<PathBuf>,
    #[command(flatten)]
    variables: TemplateVariables,
    /// Write what the model sees of each image and video to this folder, as PNG
    #[arg(long, value_name = "DIR", requires = "model")]
    previews: Option<PathBuf>,
    /// Print one JSON document, with every tensor by itself
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> Result<(), Failure> {
        match self.model.clone() {
            Some(model) => self.view(&model),
            None => self.checkpoint(),
        }
    }

    fn view(self, path: &Path) -> Result<(), Failure> {
        let found = find_model(path, self.revision.as_deref())?;
        let model = percept::model::open_weights(weights(
            &found,
            self.mmproj.as_deref(),
            &[],
            LoadOptions::default(),
            false,
        )?)?;
        let conversation = Conversation {
            files: self.files,
            messages: self.messages,
            variables: self.variables,
            prompt: self.subject.first().cloned(),
        };
        let view = view::view(&model, conversation, &self.subject)?;
        let previews = match &self.previews {
            Some(folder) => view::write_previews(&view, folder)?,
            None => Vec::new(),
        };
        if self.json {
            println!("{}", view::document(&view, &previews));
        } else {
            view::print(&view, &previews);
        }
        Ok(())
    }

    fn checkpoint(self) -> Result<(), Failure> {
        let files = [&self.files.image, &self.files.video, &self.files.audio];
        if files.iter().any(|f| !f.is_empty()) {
            return Err(Failure::Usage(
                "media are shown as a model is given them: name it with --model".into(),
            ));
        }
        let [path] = &self.subject[..] else {
            return Err(Failure::Usage("give one checkpoint, or --model PATH with a prompt".into()));
        };
        let found = find_model(Path::new(path), self.revision.as_deref())?;
        let weights = weights(&found, self.mmproj.as_deref(), &[], LoadOptions::default(), false)?;
        let checkpoint = weights.checkpoint();
        let mut facts = facts(checkpoint)?;
        facts["adapters"] = weights.adapters().iter().map(adapter_facts).collect();
        if self.json {
            println!("{facts}");
            return Ok(());
        }
        let mut about = table(&[], &[]);
        let line = |key: &str| facts[key].as_str().unwrap_or("none").to_string();
        about.add_row(["path", &line("path")]);
        if facts["projector"].is_string() {
            about.add_row(["projector", &line("projector")]);
        }
        for adapter in weights.adapters() {
            about.add_row(["adapter", &adapter_line(&adapter)]);
        }
        about.add_row(["format", &line("format")]);
        about.add_row(["family", &family(&facts)]);
        about.add_row(["tokenizer", &tokenizer(&facts["tokenizer"])]);
        about.add_row(["chat template", if facts["chat_template"] == true { "yes" } else { "none" }]);
        about.add_row(["processor", &line("processor")]);
        for (dtype, of) in facts["dtypes"].as_object().into_iter().flatten() {
            let number = |key: &str| of[key].as_u64().unwrap_or(0);
            about.add_row([
                dtype.as_str(),
                &format!(
                    "{} tensors, {} parameters, {}",
                    number("tensors"),
                    grouped(number("parameters")),
                    megabytes(number("bytes"))
                ),
            ]);
        }
        println!("{about}\n");
        let mut t = table(&["MODULE", "TYPE", "PARAMETERS", "MEMORY"], &[2, 3]);
        let tree = Module::of(checkpoint.names().filter_map(|name| Some((name, checkpoint.ty(name)?))));
        for row in tree.rows() {
            t.add_row([
                printable(&row.0).into_owned(),
                row.1,
                grouped(row.2.parameters),
                megabytes(row.2.bytes),
            ]);
        }
        println!("{t}");
        Ok(())
    }
}

fn adapter_facts(adapter: &AdapterFacts) -> Json {
    json!({
        "path": adapter.path, "parameters": adapter.parameters, "adapted": adapter.adapted, "replaced": adapter.replaced,
    })
}

fn adapter_line(adapter: &AdapterFacts) -> String {
    let replaced = match adapter.replaced.len() {
        0 => String::new(),
        n => format!(", replaces {n} tensors"),
    };
    let (path, parameters) = (adapter.path.display(), grouped(adapter.parameters as u64));
    format!("{path}: {parameters} parameters, adds to {} matrices{replaced}", adapter.adapted.len())
}

fn facts(checkpoint: &Checkpoint) -> Result<Json, Failure> {
    let config = checkpoint.config();
    let mut tensors = Vec::new();
    let mut dtypes: BTreeMap<&str, (u64, Size)> = BTreeMap::new();
    let mut total = Size::default();
    for (name, ty) in checkpoint.names().filter_map(|name| Some((name, checkpoint.ty(name)?))) {
        let size = Size::of(ty);
        let of = dtypes.entry(ty.dtype.name()).or_default();
        *of = (of.0 + 1, of.1.plus(size));
        total = total.plus(size);
        tensors.push(json!({
            "name": name, "dtype": ty.dtype.name(), "shape": ty.dims, "parameters": size.parameters, "bytes": size.bytes,
        }));
    }
    let dtypes: serde_json::Map<String, Json> = dtypes
        .into_iter()
        .map(|(name, (count, size))| {
            let of = json!({ "tensors": count, "parameters": size.parameters, "bytes": size.bytes });
            (name.to_string(), of)
        })
        .collect();
    let file = |name: &str| checkpoint.file(name).map(Option::unwrap_or_default);
    let settings: Json = serde_json::from_slice(&file("tokenizer_config.json")?).unwrap_or_default();
    let chat_template = !file("chat_template.jinja")?.is_empty()
        || !file("chat_template.json")?.is_empty()
        || settings.get("chat_template").is_some_and(|t| !t.is_null());
    let text = config.get("text_config").and_then(|c| c.get("model_type"));
    Ok(json!({
        "path": checkpoint.path().display().to_string(),
        "projector": checkpoint.projector().map(|p| p.display().to_string()),
        "format": checkpoint.format().to_string(),
        "model_type": config.get("model_type"),
        "text_model_type": text,
        "architectures": config.get("architectures"),
        "parameters": total.parameters,
        "bytes": total.bytes,
        "dtypes": dtypes,
        "tokenizer": tokenizer_facts(checkpoint)?,
        "chat_template": chat_template,
        "processor": processor(checkpoint)?,
        "tensors": tensors,
    }))
}

fn family(facts: &Json) -> String {
    let Some(model_type) = facts["model_type"].as_str() else {
        return "unknown: there is no config.json".into();
    };
    let class = facts["architectures"][0].as_str().map(|c| format!(" ({c})")).unwrap_or_default();
    let text = facts["text_model_type"].as_str().map(|t| format!(" over {t}")).unwrap_or_default();
    format!("{model_type}{text}{class}")
}

fn tokenizer_facts(checkpoint: &Checkpoint) -> Result<Json, Failure> {
    if let Some(v) = checkpoint.vocabulary()? {
        let named = |id: Option<u32>| id.and_then(|id| v.tokens.get(id as usize).cloned());
        return Ok(json!({
            "kind": v.model, "split": v.pre, "tokens": v.tokens.len(), "merges": v.merges.len(),
            "bos": named(v.bos), "eos": named(v.eos), "pad": named(v.pad),
        }));
    }
    let Some(bytes) = checkpoint.file("tokenizer.json")? else { return Ok(Json::Null) };
    let Ok(tokenizer) = serde_json::from_slice::<Json>(&bytes) else {
        return Ok(json!({ "kind": "tokenizer.json is not JSON" }));
    };
    let model = &tokenizer["model"];
    let size = |list: &Json| list.as_array().map(Vec::len).or(list.as_object().map(serde_json::Map::len));
    Ok(json!({
        "kind": model["type"], "tokens": size(&model["vocab"]), "merges": size(&model["merges"]),
        "added": size(&tokenizer["added_tokens"]),
    }))
}

fn tokenizer(facts: &Json) -> String {
    let Some(kind) = facts["kind"].as_str() else { return "none".into() };
    let split =
        facts["split"].as_str().filter(|s| !s.is_empty()).map(|s| format!(" ({s})")).unwrap_or_default();
    let count =
        |key: &str| facts[key].as_u64().map(|n| format!(", {} {key}", grouped(n))).unwrap_or_default();
    let named = |key: &str| facts[key].as_str().map(|t| format!(", {key} {t}")).unwrap_or_default();
    format!(
        "{kind}{split}{}{}{}{}{}{}",
        count("tokens"),
        count("merges"),
        count("added"),
        named("bos"),
        named("eos"),
        named("pad")
    )
}

/// The classes that prepare media, by what the processor's files call them.
fn processor(checkpoint: &Checkpoint) -> Result<Json, Failure> {
    let mut classes: Vec<String> = Vec::new();
    for name in ["processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"] {
        let Some(bytes) = checkpoint.file(name)? else { continue };
        let config: Json = serde_json::from_slice(&bytes).unwrap_or_default();
        let parts = ["image_processor", "video_processor", "feature_extractor"].map(|part| &config[part]);
        for part in [&config].into_iter().chain(parts) {
            for key in
                ["processor_class", "image_processor_type", "video_processor_type", "feature_extractor_type"]
            {
                classes.extend(part[key].as_str().map(str::to_string));
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    classes.retain(|c| seen.insert(c.clone()));
    Ok(if classes.is_empty() { Json::Null } else { json!(classes.join(", ")) })
}

/// The size of tensors.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Size {
    parameters: u64,
    bytes: u64,
}

impl Size {
    fn of(ty: &TensorType) -> Size {
        Size { parameters: ty.numel() as u64, bytes: ty.bytes() as u64 }
    }

    fn plus(self, other: Size) -> Size {
        Size {
            parameters: self.parameters.saturating_add(other.parameters),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// A module: what the parts of tensors' names between dots make a tree of.
#[derive(Debug, Default, PartialEq)]
struct Module {
    tensor: Option<TensorType>,
    parts: BTreeMap<Part, Module>,
}

/// A part of a name. Numbers come before words and in their own order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

impl Part {
    fn of(text: &str) -> Part {
        let number = text.parse().ok().filter(|n: &u64| n.to_string() == text);
        number.map_or_else(|| Part::Word(text.into()), Part::Number)
    }
}

type Row = (String, String, Size);

impl Module {
    fn of<'a>(tensors: impl Iterator<Item = (&'a str, &'a TensorType)>) -> Module {
        let mut root = Module::default();
        for (name, ty) in tensors {
            let mut at = &mut root;
            // A name of very many parts would nest as deep; what follows the first dozen stays one part.
            for part in name.splitn(12, '.') {
                at = at.parts.entry(Part::of(part)).or_default();
            }
            at.tensor = Some(ty.clone());
        }
        root
    }

    fn size(&self) -> Size {
        let own = self.tensor.as_ref().map(Size::of).unwrap_or_default();
        self.parts.values().fold(own, |sum, part| sum.plus(part.size()))
    }

    /// Name, type and size of everything, children indented; numbered modules in a row that are alike are
    /// one.
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        self.collect(0, &mut rows);
        rows.push(("total".into(), String::new(), self.size()));
        rows
    }

    fn collect(&self, depth: usize, rows: &mut Vec<Row>) {
        let mut parts = self.parts.iter().peekable();
        while let Some((part, module)) = parts.next() {
            let mut size = module.size();
            let name = match part {
                Part::Word(word) => word.clone(),
                Part::Number(first) => {
                    let mut last = *first;
                    while let Some((Part::Number(next), _)) =
                        parts.next_if(|(p, m)| **p == Part::Number(last.saturating_add(1)) && **m == *module)
                    {
                        last = *next;
                        size = size.plus(module.size());
                    }
                    if last == *first {
                        first.to_string()
                    } else {
                        format!("{first}..{last} ({} alike)", last - first + 1)
                    }
                }
            };
            let ty = module.tensor.as_ref().map(TensorType::to_string).unwrap_or_default();
            rows.push((format!("{}{name}", "  ".repeat(depth)), ty, size));
            module.collect(depth + 1, rows);
        }
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn megabytes(bytes: u64) -> String {
    if bytes < 100_000 {
        format!("{:.1} kB", bytes as f64 / 1e3)
    } else {
        format!("{:.1} MB", bytes as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_layers_are_folded_and_others_are_not() {
        let ty = |text: &str| text.parse::<TensorType>().unwrap();
        let mut all: Vec<(String, TensorType)> =
            (0..11).map(|i| (format!("m.layers.{i}.w"), ty("f32[2,3]"))).collect();
        all.push(("m.layers.11.w".into(), ty("f16[2,3]")));
        all.push(("m.layers.13.w".into(), ty("f16[2,3]")));
        let rows = Module::of(all.iter().map(|(n, t)| (n.as_str(), t))).rows();
        let names: Vec<&str> = rows.iter().map(|r| r.0.trim_start()).collect();
        assert_eq!(names, ["m", "layers", "0..10 (11 alike)", "w", "11", "w", "13", "w", "total"]);
        assert_eq!(rows[2].2, Size { parameters: 66, bytes: 264 });
        assert_eq!(rows[8].2, Size { parameters: 78, bytes: 264 + 24 });
        assert_eq!(rows[3].1, "f32[2,3]");
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(
            (grouped(7), grouped(1234), grouped(134515008)),
            ("7".into(), "1,234".into(), "134,515,008".into())
        );
    }
}
