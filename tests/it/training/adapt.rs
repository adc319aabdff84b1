//! The tutorial docs/adapt-to-a-domain.md, command by command, with less data and fewer steps.

use std::path::Path;
use std::process::{Command, Output};

use percept::model::checkpoint::Checkpoint;

#[allow(dead_code)]
#[path = "../../../examples/hospital.rs"]
mod hospital;

const PAGE: &str = include_str!("../../../docs/adapt-to-a-domain.md");

/// The lines of the page's shell blocks that call percept.
fn commands() -> Vec<&'static str> {
    let blocks = PAGE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| line.starts_with("percept ")).collect()
}

/// The words of a line, with those in quotes as one.
fn words(line: &str) -> Vec<String> {
    line.split('"')
        .enumerate()
        .flat_map(|(at, part)| {
            let quoted = at % 2 == 1;
            let all: Vec<&str> = if quoted { vec![part] } else { part.split_whitespace().collect() };
            all.into_iter().map(str::to_string).collect::<Vec<_>>()
        })
        .collect()
}

fn run(folder: &Path, words: &[String]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_percept")).args(&words[1..]).current_dir(folder).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", words.join(" "));
    output
}

#[test]
fn the_tutorial_of_two_adaptations_runs_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    hospital::make(folder.path(), 10).unwrap();
    let (mut scores, mut answers, mut trained) = (0, Vec::new(), Vec::new());
    for line in commands() {
        // The published model is tried in tests/smollm2.rs; here its file is not needed.
        if line.to_lowercase().contains("smollm2") {
            continue;
        }
        let mut words = words(line);
        match words[1].as_str() {
            "train" => words.extend(
                ["--set", "steps=3", "--set", "evaluate.limit=4", "--device", "cpu"].map(String::from),
            ),
            "eval" => words.extend(["--limit", "3", "--json", "--device", "cpu"].map(String::from)),
            "generate" => words.extend(["--max-tokens", "4", "--json", "--device", "cpu"].map(String::from)),
            _ => {}
        }
        let output = run(folder.path(), &words);
        match words[1].as_str() {
            "train" => trained.push(words[2].clone()),
            "eval" => {
                let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(found["tasks"].as_array().map(Vec::len), Some(3), "{line}");
                scores += 1;
            }
            "generate" => {
                let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                answers.push(found["tokens"].clone());
            }
            _ => {}
        }
    }
    assert_eq!(scores, 3, "before, between and after");
    assert_eq!(
        trained,
        ["train-general.toml", "train-reports.toml", "train-ultrasound.toml", "train-both.toml"]
    );
    assert!(
        answers.len() == 2 && answers[0] == answers[1],
        "an adapter beside its base and merged: {answers:?}"
    );
    let of = |run: &str| std::fs::read(folder.path().join(run).join("adapter_model.safetensors")).unwrap();
    assert!(of("runs/both/reports/model") == of("runs/reports/model"));
    assert!(
        of("runs/both/ultrasound/model") == of("runs/ultrasound/model"),
        "stages and runs learn the same"
    );
    assert!(of("runs/ultrasound/model") != of("runs/reports/model"));

    // Kernels stay kernels, so that transformers opens what was trained, and a run goes on with them.
    let kernel = |run: &str| {
        let name = "model.vision_model.embeddings.patch_embedding.weight";
        Checkpoint::open(folder.path().join(run)).unwrap().ty(name).unwrap().dims.clone()
    };
    assert_eq!(kernel("runs/general/model"), [96, 3, 8, 8]);
    let again = |more: &[&str]| {
        let line = "percept train train-general.toml --device cpu --set out=runs/again --set checkpoint.every=1 --set evaluate.limit=1";
        let all = words(line).into_iter().chain(more.iter().map(|w| w.to_string()));
        run(folder.path(), &all.collect::<Vec<_>>())
    };
    again(&["--set", "steps=1"]);
    std::fs::remove_dir_all(folder.path().join("runs/again/model")).unwrap();
    again(&["--set", "steps=2", "--resume"]);
    assert_eq!(kernel("runs/again/model"), [96, 3, 8, 8]);
}
