//! A graph as an ONNX file.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use percept_files::AtomicFile;
use percept_graph::{Graph, Role};
use percept_hal::{Error, ExportError};
use prost::Message;

use crate::emit::{EmitError, WeightTensor, emit};
use crate::proto::{StringStringEntryProto, TensorProto};
use crate::style::Style;

/// Bytes of weights up to which they are in the model's own file. A file of protocol buffers ends at 2 GiB.
const INSIDE: usize = 1 << 30;
/// Weights in a file of their own start at multiples of this, so that readers can map them.
const ALIGNMENT: usize = 4096;

/// Write a graph with its parameters inside; `weight` gives the bytes of a parameter by its index among the graph's
/// inputs. More than a GiB of weights lies in a file beside it, named as it with `.data` at the end. The paths of the
/// files written come back.
///
/// # Errors
/// When an operation cannot be written in the style, a weight has another length, or a file cannot be written.
pub fn export<'a>(
    graph: &Graph,
    style: Style,
    weight: &dyn Fn(usize) -> Option<&'a [u8]>,
    path: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let parameter =
        |i: &percept_graph::Input| i.role == Role::Parameter || graph.ty(i.value).dtype.is_quantized();
    let constants: HashSet<usize> =
        graph.inputs().iter().enumerate().filter(|(_, i)| parameter(i)).map(|(i, _)| i).collect();
    let emitted = emit(graph, style, &constants).map_err(|e| match e {
        EmitError::Refused { op, path, why } => ExportError::Form { format: "ONNX", op, path, why },
        EmitError::Graph(e) => Error::from(e).into(),
    })?;
    let given = |w: &WeightTensor| {
        let bytes = weight(w.input).unwrap_or_default();
        if bytes.len() == w.ty.bytes() {
            return Ok(bytes);
        }
        let name = graph.inputs()[w.input].name.clone();
        Err(ExportError::Weight { name, given: bytes.len(), wanted: w.ty.bytes() })
    };
    let size = |w: &WeightTensor| w.dims().iter().product::<usize>() * w.elem().bytes();
    let total: usize = emitted.weights.iter().map(size).sum();
    let mut tensors = Vec::with_capacity(emitted.weights.len());
    let mut written = Vec::new();
    if total > INSIDE {
        let data = beside(path);
        let name = data.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut offset = 0;
        for w in &emitted.weights {
            given(w)?;
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            let external_data = vec![
                entry("location", name.clone()),
                entry("offset", offset.to_string()),
                entry("length", size(w).to_string()),
            ];
            tensors.push(TensorProto { external_data, data_location: 1, ..header(w) });
            offset = (offset + size(w)).next_multiple_of(ALIGNMENT);
        }
        write(&data, |out| {
            for w in &emitted.weights {
                let bytes = weight(w.input).unwrap_or_default();
                out.write_all(&w.bytes(bytes))?;
                out.write_all(&vec![0; size(w).next_multiple_of(ALIGNMENT) - size(w)])?;
            }
            Ok(())
        })?;
        written.push(data);
    } else {
        for w in &emitted.weights {
            tensors.push(TensorProto { raw_data: w.bytes(given(w)?).into_owned(), ..header(w) });
        }
    }
    let model = emitted.model(tensors);
    write(path, |out| out.write_all(&model.encode_to_vec()))?;
    written.insert(0, path.to_path_buf());
    Ok(written)
}

/// The bytes of a model all of whose inputs are given with each run, in the graph's order.
///
/// # Errors
/// When an operation cannot be written in the style, or an input is quantized.
pub fn model_bytes(graph: &Graph, style: Style) -> Result<Vec<u8>, EmitError> {
    if let Some(input) = graph.inputs().iter().find(|i| graph.ty(i.value).dtype.is_quantized()) {
        return Err(EmitError::Refused {
            op: format!("input '{}'", input.name),
            path: String::new(),
            why: format!(
                "ONNX has no tensors of {}; load the model with --dtype",
                graph.ty(input.value).dtype
            ),
        });
    }
    Ok(emit(graph, style, &HashSet::new())?.model(Vec::new()).encode_to_vec())
}

fn header(w: &WeightTensor) -> TensorProto {
    TensorProto {
        dims: w.dims().iter().map(|&d| d as i64).collect(),
        data_type: w.elem() as i32,
        name: w.name.clone(),
        ..Default::default()
    }
}

fn write(path: &Path, fill: impl FnOnce(&mut AtomicFile) -> io::Result<()>) -> Result<(), ExportError> {
    let written = AtomicFile::create(path).and_then(|mut file| {
        fill(&mut file)?;
        file.finish()
    });
    written.map_err(|source| ExportError::File { path: path.to_path_buf(), source })
}

/// The file of the weights.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".data");
    path.with_file_name(name)
}
