//! Graph compilers behind the C interface that ask for StableHLO or ONNX get it: a plug-in in C saves what it is given.

#![cfg(unix)]

use std::env::consts::DLL_SUFFIX;
use std::path::Path;
use std::process::Command;

use percept::graph::{DType, Graph, Op, OpDesc, TensorType, Trace};
use percept::hal::{CompileOptions, Support};
use percept_plugin::skeleton::{Kind, Language, skeleton};

use crate::needs;

/// The skeleton of a graph compiler that asks for a format, says that it has every operation, and writes each graph to a
/// file in place of compiling it.
fn recorder(folder: &Path, format: &str) -> Option<String> {
    if !Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success()) {
        needs::skip("there is no cc; install a compiler of C");
        return None;
    }
    for (file, text) in skeleton(Kind::Graph, Language::C, "recorder", None).unwrap() {
        let known = "return percept_fail(message, PERCEPT_UNSUPPORTED, \"%s is not written yet\", op->name);";
        let text = text.replace(known, "(void)op; (void)message; return PERCEPT_OK;");
        let text = text.replace(
            "sizeof(percept_graphs), PERCEPT_TEXT_FORM",
            &format!("sizeof(percept_graphs), {format}"),
        );
        let given = format!(
            "{{ FILE *f = fopen(\"{}\", \"wb\"); fwrite(graph->source, 1, (size_t)graph->source_bytes, f); fclose(f); }}\n    \
             if (graph->source) return percept_fail(message, PERCEPT_FAILED, \"it is written down\");\n    \
             if (text) memcpy(text, graph->source, size",
            folder.join("given").display()
        );
        std::fs::write(folder.join(file), text.replace("if (text) memcpy(text, graph->source, size", &given))
            .unwrap();
    }
    let library = folder.join(format!("recorder{DLL_SUFFIX}"));
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c99", "-O1", "-fPIC", "-shared", "-o"]).arg(&library).arg(folder.join("plugin.c"));
    let output = compiler.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(format!("plugin:{}", library.display()))
}

/// What the plug-in was given of a graph; it compiles none.
fn given(format: &str, graph: &Graph) -> Option<(Vec<u8>, String)> {
    let folder = tempfile::tempdir().unwrap();
    let device = percept::registry().open(&recorder(folder.path(), format)?).unwrap();
    let why = match device.compile(graph, &CompileOptions::default()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    Some((std::fs::read(folder.path().join("given")).unwrap_or_default(), why))
}

fn layer(weights: DType) -> Graph {
    let t = Trace::new("layer");
    let (x, w) = (t.data("x", DType::F32, [2, 32]), t.parameter("w", weights, [8, 32]));
    t.output("y", &(x.linear(&w, None, None).softmax() + 1.0));
    t.finish().unwrap()
}

#[test]
fn a_compiler_of_stablehlo_gets_a_module_even_of_quantized_weights() {
    let Some((source, _)) = given("PERCEPT_STABLEHLO", &layer(DType::Q8_0)) else { return };
    let text = String::from_utf8(source).unwrap();
    assert!(text.starts_with("module @layer") && text.ends_with("}\n"), "{text}");
    assert!(text.contains("%arg1: tensor<8x34xui8>") && text.contains("stablehlo.dot_general"), "{text}");
}

#[test]
fn a_compiler_of_onnx_gets_a_model_whose_inputs_are_the_graphs() {
    let Some((bytes, _)) = given("PERCEPT_ONNX", &layer(DType::F32)) else { return };
    // The first field of a ModelProto is the version of the format, 8.
    assert_eq!(bytes[..2], [0x08, 8]);
    let holds = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
    assert!(["MatMul", "Softmax", "Add", "percept"].into_iter().all(holds));
}

/// ONNX has no tensors of blocks: the operation that reads them goes to the host, and the report says why.
#[test]
fn what_onnx_cannot_say_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let Some(id) = recorder(folder.path(), "PERCEPT_ONNX") else { return };
    let device = percept::registry().open(&id).unwrap();
    let ty = |dtype| [TensorType::new(dtype, [8, 32])];
    let op = Op::Dequantize { to: DType::F32 };
    let desc = OpDesc { op: &op, inputs: &ty(DType::Q8_0), outputs: &ty(DType::F32) };
    let Support::No(why) = device.supports(&desc) else { panic!("ONNX has no blocks") };
    assert!(why.contains("q8_0") && why.contains("--dtype"), "{why}");
}
