//! The forms, beside Percept's own text, in which graphs are handed to plug-ins that compile them.

use percept_graph::{Graph, OpDesc};
use percept_onnx::{EmitError, Family, OLDEST_OPSET, Style};
use percept_plugin::{GraphFormat, abi};

/// StableHLO and ONNX.
pub fn all() -> [GraphFormat; 2] {
    let stablehlo = GraphFormat {
        number: abi::STABLEHLO,
        name: "StableHLO",
        is_text: true,
        supports: percept_pjrt::stablehlo::supports,
        emit: |graph| match percept_pjrt::stablehlo::emit(graph) {
            Ok(module) => Ok(module.into_bytes()),
            Err(e) => Err(format!("{} in {} has no StableHLO form: {}", e.op, e.path, e.why)),
        },
    };
    let onnx = GraphFormat {
        number: abi::ONNX,
        name: "ONNX",
        is_text: false,
        supports: has_onnx,
        emit: |graph: &Graph| percept_onnx::model_bytes(graph, STYLE).map_err(|e: EmitError| e.to_string()),
    };
    [stablehlo, onnx]
}

/// What the compilers of most chips read: operators of single functions, in the oldest set that has all of them.
const STYLE: Style = Style { family: Family::Plain, opset: OLDEST_OPSET };

fn has_onnx(op: &OpDesc<'_>) -> Result<(), String> {
    let types = op.inputs.iter().chain(op.outputs);
    match types.map(|ty| ty.dtype).find(|dtype| dtype.is_quantized()) {
        Some(dtype) => Err(format!("ONNX has no tensors of {dtype}; load the model with --dtype")),
        None => percept_onnx::emit::supports(op, STYLE),
    }
}
