//! A graph as a StableHLO module in a file, with what is needed to run it beside it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use percept_files::AtomicFile;
use percept_graph::passes::FuseOptions;
use percept_graph::{DType, Graph, Input, Role, TensorType};
use percept_hal::{CompileOptions, ExportError, Support, lower};
use serde_json::{Map, Value, json};

use crate::stablehlo;

/// Write a graph as the text of one module, whose arguments are all inputs of the graph, weights among them. Two files
/// stand beside `path`, named as it with more at the end: `.safetensors` with the weights under the names of their
/// arguments, and `.json`, which says of every argument and result its name and type, and of an argument also its role
/// and the result that takes its memory. The paths of the files written come back.
///
/// `weight` gives the bytes of a parameter by its index among the graph's inputs. A quantized weight is an argument of
/// bytes, its last extent in bytes.
///
/// # Errors
/// When an operation has no StableHLO form, a weight has another length, or a file cannot be written.
pub fn export<'a>(
    graph: &Graph,
    weight: &dyn Fn(usize) -> Option<&'a [u8]>,
    path: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let options = CompileOptions { strict: true, fuse: false, ..CompileOptions::default() };
    let support = |op: &percept_graph::OpDesc<'_>| match stablehlo::supports(op) {
        Ok(()) => Support::Native,
        Err(_) => Support::Decompose,
    };
    let lowered = lower("stablehlo", graph, &options, &FuseOptions::default(), &support)?;
    let module = stablehlo::emit(&lowered.graph).map_err(|e| ExportError::Form {
        format: "StableHLO",
        op: e.op,
        path: e.path,
        why: e.why,
    })?;
    let graph = &lowered.graph;
    let weights: Vec<(&Input, &[u8])> = graph
        .inputs()
        .iter()
        .enumerate()
        .filter(|(_, input)| input.role == Role::Parameter)
        .map(|(i, input)| {
            let (bytes, wanted) = (weight(i).unwrap_or_default(), graph.ty(input.value).bytes());
            if bytes.len() == wanted {
                return Ok((input, bytes));
            }
            Err(ExportError::Weight { name: input.name.clone(), given: bytes.len(), wanted })
        })
        .collect::<Result<_, _>>()?;
    let mut written = vec![path.to_path_buf()];
    write(path, |out| out.write_all(module.as_bytes()))?;
    if !weights.is_empty() {
        let file = beside(path, ".safetensors");
        write(&file, |out| {
            out.write_all(&head(graph, &weights))?;
            weights.iter().try_for_each(|(_, bytes)| out.write_all(bytes))
        })?;
        written.push(file);
    }
    let file = beside(path, ".json");
    let text = format!("{:#}\n", description(graph, path, written.get(1)));
    write(&file, |out| out.write_all(text.as_bytes()))?;
    written.push(file);
    Ok(written)
}

/// What is said of the module in the JSON file.
fn description(graph: &Graph, module: &Path, weights: Option<&PathBuf>) -> Value {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let role = |role| match role {
        Role::Data => "data",
        Role::Parameter => "weight",
        Role::State => "state",
        Role::Scalar => "scalar",
    };
    let inputs = graph.inputs().iter().enumerate().map(|(i, input)| {
        let ty = graph.ty(input.value);
        let mut about = json!({ "name": input.name, "role": role(input.role) });
        describe(&mut about, ty);
        if let Some(result) = graph.outputs().iter().position(|o| o.alias == Some(i)) {
            about["replaced_by"] = json!(graph.outputs()[result].name);
        }
        about
    });
    let outputs = graph.outputs().iter().map(|output| {
        let mut about = json!({ "name": output.name });
        describe(&mut about, graph.ty(output.value));
        about
    });
    json!({
        "module": name(module),
        "function": "main",
        "weights": weights.and_then(|path| name(path)),
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
    })
}

/// Adds dtype and shape as the module has them and, of a quantized weight, the format of its blocks.
fn describe(about: &mut Value, ty: &TensorType) {
    about["dtype"] = json!(stored(ty.dtype).to_lowercase());
    about["shape"] = json!(stablehlo::storage_dims(ty));
    if ty.dtype.is_quantized() {
        about["blocks"] = json!(ty.dtype.name());
    }
}

/// The name in safetensors of the elements that hold a dtype.
fn stored(dtype: DType) -> String {
    match dtype {
        DType::Bool => "BOOL".into(),
        d if d.is_quantized() => "U8".into(),
        d => d.name().to_uppercase(),
    }
}

/// The length and the JSON at the start of a safetensors file.
fn head(graph: &Graph, weights: &[(&Input, &[u8])]) -> Vec<u8> {
    let (mut header, mut at) = (Map::new(), 0);
    for (input, bytes) in weights {
        let ty = graph.ty(input.value);
        let (shape, end) = (stablehlo::storage_dims(ty), at + bytes.len());
        let about = json!({ "dtype": stored(ty.dtype), "shape": shape, "data_offsets": [at, end] });
        header.insert(input.name.clone(), about);
        at = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    // The values begin at a multiple of eight bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), &text[..]].concat()
}

fn write(path: &Path, fill: impl FnOnce(&mut AtomicFile) -> io::Result<()>) -> Result<(), ExportError> {
    let written = AtomicFile::create(path).and_then(|mut file| {
        fill(&mut file)?;
        file.finish()
    });
    written.map_err(|source| ExportError::File { path: path.to_path_buf(), source })
}

/// A file named as another, with more at the end.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(end);
    path.with_file_name(name)
}
