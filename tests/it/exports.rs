//! `percept export` to formats that others compile: what the files hold is the model, and bad input is told.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use percept::model::checkpoint::Checkpoint;
use percept::model::{Model, PassRows, PassShape, SequenceRows};
use percept_pjrt::{Client, Plugin};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::graph_compilers::pjrt_plugin;
use crate::parity_case::{self, Case};

/// Rows of the exported cache.
const CAPACITY: usize = 64;

fn case(name: &str) -> Case {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    parity_case::cases(&folder).into_iter().find(|case| case.name == name).unwrap()
}

fn export(model: &Path, out: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
    command.arg("export").arg(model).arg("--out").arg(out).args(options);
    command.output().unwrap()
}

fn refused(model: &Path, out: &Path, options: &[&str]) -> String {
    let output = export(model, out, options);
    assert!(!output.status.success() && !out.exists(), "{options:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The logits are those of transformers, though nothing of ours but the plug-in's bindings runs the exported files.
#[test]
fn an_exported_decoder_gives_the_logits_of_transformers_on_a_compiler_of_its_own() {
    let Some(plugin) = pjrt_plugin() else { return };
    let case = case("llama");
    let ids: Vec<i32> = case.inputs["input_ids"].values.iter().map(|&id| id as i32).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step.mlir");
    let (rows, capacity) = (ids.len().to_string(), CAPACITY.to_string());
    let options = ["--to", "stablehlo", "--rows", &rows, "--capacity", &capacity, "--json"];
    let output = export(&case.folder.join("model"), &path, &options);
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files: Vec<PathBuf> = serde_json::from_value(document["files"].clone()).unwrap();
    assert_eq!(files.len(), 3, "{document}");

    let Model::Causal(model) =
        percept::model::open(std::sync::Arc::new(Checkpoint::open(case.folder.join("model")).unwrap()))
            .unwrap()
    else {
        panic!("llama continues text")
    };
    let decoder = model.decoder();
    let positions: Vec<f32> = (0..ids.len()).map(|at| at as f32).collect();
    let sequences = vec![SequenceRows::single(decoder, 0, ids.len(), CAPACITY)];
    let mut pass = PassRows { ids: ids.clone(), sequences, ..PassRows::default() };
    pass.add_angles(decoder, &[&positions], ids.len());
    let given = PassShape::single(decoder, ids.len(), CAPACITY).fill(decoder, &pass).unwrap();

    let about: Value = serde_json::from_slice(&std::fs::read(&files[2]).unwrap()).unwrap();
    let weights = std::fs::read(&files[1]).unwrap();
    let weights = SafeTensors::deserialize(&weights).unwrap();
    let client = Client::shared(Plugin::load(&plugin).unwrap()).unwrap();
    let program = client.compile(&std::fs::read_to_string(&path).unwrap(), &[0]).unwrap();
    let ty = |port: &Value| -> percept::graph::TensorType {
        let dims: Vec<usize> = serde_json::from_value(port["shape"].clone()).unwrap();
        percept::graph::TensorType::new(serde_json::from_value(port["dtype"].clone()).unwrap(), dims)
    };
    let mut arguments = Vec::new();
    for input in about["inputs"].as_array().unwrap() {
        let (name, ty) = (input["name"].as_str().unwrap(), ty(input));
        let bytes = match input["role"].as_str().unwrap() {
            "weight" => weights.tensor(name).unwrap().data().to_vec(),
            "state" => vec![0; ty.bytes()],
            _ => given.iter().find(|(known, _)| known == name).unwrap().1.bytes().to_vec(),
        };
        arguments.push(client.upload(0, &ty, &bytes).unwrap());
    }
    let outputs = about["outputs"].as_array().unwrap();
    let sizes: Vec<usize> = outputs.iter().map(|output| ty(output).bytes()).collect();
    let made = program.run(&[arguments.iter().collect()], &sizes).unwrap().swap_remove(0);
    let at = outputs.iter().position(|output| output["name"] == "logits").unwrap();
    let mut bytes = vec![0; sizes[at]];
    made[at].read(ty(&outputs[at]).rank(), &mut bytes).unwrap();
    let logits: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    // A case has the logits of every row, or of the last one.
    let known = &case.expected["logits"].values;
    let error = parity_case::distance(&logits[logits.len() - known.len()..], known).unwrap();
    assert!(error <= case.tolerance, "logits are off by {error:.1e}");
}

#[test]
fn what_cannot_be_exported_is_told_before_a_model_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("no-model"), folder.path().join("out"));
    for (options, named) in [
        (&["--to", "rknn"][..], &["--target", "RK3588"][..]),
        (&["--to", "rknn", "--target", "rk9999"], &["rk9999", "RK3588", "RV1126B"]),
        (&["--to", "bmodel", "--target", "rk3588"], &["rk3588", "BM1684X"]),
        (&["--to", "qnn", "--target", "x"], &["SM8750"]),
        (&["--to", "onnx", "--target", "rk3588"], &["--target", "rknn"]),
        (&["--to", "stablehlo", "--opset", "17"], &["--opset", "StableHLO"]),
    ] {
        let told = refused(&model, &out, options);
        assert!(named.iter().all(|word| told.contains(word)), "{options:?}: {told}");
    }
}

/// Programs in the place of Python, which get the script and the job as it does.
#[cfg(unix)]
#[test]
fn a_vendors_compiler_that_is_missing_dies_or_gives_something_else_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/clip/model");
    let out = folder.path().join("tower.rknn");
    let python = folder.path().join("python");
    let name = python.display().to_string();
    let run = |body: &str| {
        std::fs::write(&python, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        refused(&model, &out, &["--to", "rknn", "--target", "rk3588", "--python", &name])
    };
    let answered = |json: &str| run(&format!("cat > answer.json <<'END'\n{json}\nEND"));
    let told = answered(r#"{"missing": "No module named 'rknn'"}"#);
    assert!(told.contains("No module named 'rknn'") && told.contains("pip install rknn-toolkit2"), "{told}");
    let told = answered(r#"{"fault": "build ended with -1"}"#);
    assert!(told.contains("build ended with -1"), "{told}");
    let told = run("echo the last words >&2; kill -9 $$");
    assert!(told.contains("the last words") && told.contains("signal: 9"), "{told}");
    let told = answered(r#"{"tool": "t", "outputs": []}"#);
    assert!(told.contains("0 outputs, the model has 1"), "{told}");
    let told = run(r#"printf abcd > y; printf '{"tool": "t", "outputs": ["y"]}' > answer.json"#);
    assert!(told.contains("1 values, not"), "{told}");
    std::fs::remove_file(&python).unwrap();
    let told = refused(&model, &out, &["--to", "rknn", "--target", "rk3588", "--python", &name]);
    assert!(told.contains("does not start") && told.contains("--python"), "{told}");
}
