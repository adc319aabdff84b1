//! `percept device`: reports, devices side by side, and a model on one's own inputs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn device(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_percept")).arg("device").args(options).output().unwrap()
}

fn parity(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(path).display().to_string()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Of a command that was used wrongly, what it says.
fn refused(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn devices_stand_side_by_side_on_a_page_and_in_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| path(folder.path(), name);
    let (report, page) = (file("cpu.json"), file("cpu.html"));
    let told = succeeded(&device(&[
        "report",
        "cpu",
        "--level",
        "1",
        "--filter",
        "L1/exp/f32",
        "--json",
        &report,
        "--html",
        &page,
    ]));
    assert!(told.contains("exp") && told.contains("native"), "{told}");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.contains("<h2>Matrix</h2>"), "{html}");
    assert!(!html.contains("http://") && !html.contains("https://"), "the page needs no network");

    // The same report with one case that failed is another device's.
    let mut other: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    other["device"] = "chip".into();
    let case = other["results"][0]["case"].as_str().unwrap().to_string();
    other["results"][0]["status"] = "failed".into();
    other["results"][0]["note"] = "element 0 is 1, not 2".into();
    fs::write(file("chip.json"), other.to_string()).unwrap();
    let chip = file("chip.json");
    let both = [report.as_str(), chip.as_str()];
    let document: Value =
        serde_json::from_str(&succeeded(&device(&[&["compare"], &both[..], &["--json"]].concat()))).unwrap();
    assert_eq!(document["differences"][0]["case"], case.as_str());
    assert_eq!(document["differences"].as_array().unwrap().len(), 1);
    assert_eq!(document["devices"][1]["failed"], 1);
    let both_page = file("both.html");
    let told = succeeded(&device(&[&["compare"], &both[..], &["--html", &both_page]].concat()));
    assert!(told.contains(&case) && told.contains("chip"), "{told}");
    assert!(fs::read_to_string(&both_page).unwrap().contains("element 0 is 1, not 2"));
    // A device that climbs now stands beside a file.
    let told = succeeded(&device(&["compare", &report, "cpu", "--level", "1", "--filter", "L1/exp/f32"]));
    assert!(told.contains("cpu (2)") && !told.contains("end differently"), "{told}");
}

#[test]
fn what_is_no_report_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = path(folder.path(), "missing.json");
    let why = refused(&device(&["compare", &missing, "cpu"]), 2);
    assert!(why.contains("there is no file") && why.contains("percept device test ID --json"), "{why}");
    let broken = path(folder.path(), "broken.json");
    for text in ["{", "{}", "{\"device\": \"cpu\", \"results\": 7}"] {
        fs::write(&broken, text).unwrap();
        let why = refused(&device(&["compare", &broken, "cpu"]), 1);
        assert!(why.contains("broken.json") && why.contains("no report"), "{why}");
    }
    let why = refused(&device(&["compare", "nowhere:0", "cpu"]), 2);
    assert!(why.contains("nowhere:0") && why.contains("cpu"), "{why}");
}

#[test]
fn a_model_is_walked_through_on_ones_own_prompt_and_media() {
    let (model, image) = (parity("qwen2-vl-image/model"), parity("media/a7.png"));
    let agrees = |options: &[&str]| -> Value {
        let given = [&["diff", "cpu", "--model", &model, "--json"], options].concat();
        serde_json::from_str(&succeeded(&device(&given))).unwrap()
    };
    let (with_image, text) = (agrees(&["--image", &image, "What?"]), agrees(&["What?", "--max-tokens", "3"]));
    assert_eq!((&with_image["agrees"], &with_image["runs"]), (&true.into(), &3.into()), "{with_image}");
    assert_eq!(text["runs"], 3, "the prompt, and a step for each token but the first: {text}");

    let why = refused(&device(&["diff", "cpu", "--model", &model, "--image", &image]), 2);
    assert!(why.contains("give a prompt"), "{why}");
    let folder = tempfile::tempdir().unwrap();
    let graph = path(folder.path(), "some.graph");
    fs::write(&graph, "").unwrap();
    let why = refused(&device(&["diff", "cpu", "--model", &graph, "What?"]), 2);
    assert!(why.contains("answers no prompt"), "{why}");
}
