//! Devices behind compilers of whole graphs, a PJRT plug-in and ONNX Runtime: the cases that the cpu and wgpu are held to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use percept::hal::Device;

use crate::{assets, needs, parity, smollm2, thin_slice};

/// The plug-in under test: that in `PERCEPT_PJRT_PLUGIN`, or the CPU plug-in that `cargo xtask assets` fetches. Without
/// either the test is skipped.
#[track_caller]
pub fn pjrt_plugin() -> Option<PathBuf> {
    library("PERCEPT_PJRT_PLUGIN", "pjrt-cpu/pjrt_c_api_cpu_plugin.so")
}

#[track_caller]
fn library(variable: &str, asset: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let fetched = || assets::folder().map(|folder| folder.join(asset));
    let found = named.or_else(fetched).filter(|path| path.exists());
    if found.is_none() {
        needs::skip(&format!(
            "{asset} is not here; run `cargo xtask assets`, or set {variable} to such a library"
        ));
    }
    found
}

#[track_caller]
fn pjrt() -> Option<Arc<dyn Device>> {
    opened("pjrt", pjrt_plugin()?)
}

#[track_caller]
fn onnx() -> Option<Arc<dyn Device>> {
    opened("onnx", library("PERCEPT_ONNXRUNTIME", "onnxruntime/libonnxruntime.so.1.32.0")?)
}

fn opened(kind: &str, library: PathBuf) -> Option<Arc<dyn Device>> {
    let id = format!("{kind}:{}", library.display());
    Some(percept::registry().open(&id).unwrap_or_else(|e| panic!("{e}")))
}

/// Cases whose models compute what the others do not: a mixture of experts, states beside attention, two towers.
const KINDS: [&str; 3] = ["qwen3-moe", "lfm2-text", "clip"];

fn is_of_a_kind(case: &Path) -> bool {
    KINDS.iter().any(|kind| case.ends_with(kind))
}

#[test]
fn a_case_of_every_kind_agrees_with_hugging_face_on_pjrt() {
    if let Some(device) = pjrt() {
        parity::check_some(&device, is_of_a_kind);
    }
}

#[test]
fn a_case_of_every_kind_agrees_with_hugging_face_on_onnx_runtime() {
    if let Some(device) = onnx() {
        parity::check_some(&device, is_of_a_kind);
    }
}

#[test]
#[ignore = "compiles for minutes; `cargo xtask vendors assets` runs it"]
fn all_cases_agree_with_hugging_face_on_pjrt() {
    if let Some(device) = pjrt() {
        parity::check_some(&device, |_| true);
    }
}

#[test]
#[ignore = "compiles for minutes; `cargo xtask vendors assets` runs it"]
fn all_cases_agree_with_hugging_face_on_onnx_runtime() {
    if let Some(device) = onnx() {
        parity::check_some(&device, |_| true);
    }
}

/// A step is compiled for each program, which takes seconds with the weights of a real model.
#[test]
#[ignore = "compiles for a minute; `cargo xtask vendors assets` runs it"]
fn choices_of_a_real_model_are_those_of_transformers_on_pjrt() {
    if let Some(device) = pjrt() {
        smollm2::choices_agree(device);
    }
}

#[test]
#[ignore = "compiles for a minute; `cargo xtask vendors assets` runs it"]
fn choices_of_a_real_model_are_those_of_transformers_on_onnx_runtime() {
    if let Some(device) = onnx() {
        smollm2::choices_agree(device);
    }
}

/// One set of quantized weights for programs of several widths, and a cache that each step replaces in place.
#[test]
fn steps_share_weights_and_replace_their_cache_on_pjrt() {
    if let Some(device) = pjrt() {
        thin_slice::shared_quantized_weights(&*device, 2e-3);
    }
}

#[test]
fn an_adapter_learns_on_pjrt() {
    if let Some(device) = pjrt() {
        thin_slice::adapter_step(&*device, 2e-3);
    }
}

#[test]
fn an_adapter_learns_on_onnx_runtime() {
    if let Some(device) = onnx() {
        thin_slice::adapter_step(&*device, 2e-3);
    }
}

/// A device that chooses the order of sums is refused where answers may not depend on their company, and taken where they
/// may, which the results then say.
#[test]
fn an_evaluation_on_onnx_runtime_says_that_answers_depend_on_their_company() {
    let Some(device) = onnx() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let evaluate = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        command.args(["eval", "--tasks", "pope", "--limit", "2", "--batch", "2", "--json", "--device"]);
        command.arg(&device.info().id).arg("--data").arg(root.join("eval/tests/golden/tasks"));
        command.arg("--model").arg(root.join("tests/parity/qwen2-vl-image/model"));
        command.args(more).output().unwrap()
    };
    let refused = evaluate(&[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--batch-variant"), "{said}");
    let evaluated = evaluate(&["--batch-variant"]);
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    let found: serde_json::Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    let manifest = &found["manifest"];
    assert_eq!((&manifest["batch_variant"], &manifest["batch"]), (&true.into(), &2.into()), "{manifest}");
    assert_eq!(found["tasks"]["pope"]["n"], 2);
}
