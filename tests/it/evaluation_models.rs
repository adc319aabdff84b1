//! Benchmarks put to models of every kind by the command line: those that transcribe, those that embed, and several devices at once.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use percept::eval::metric::english::normalize;
use percept::eval::metric::words::word_errors;
use serde_json::{Value, json};

use crate::{assets, needs};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn percept(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_percept")).current_dir(root()).args(words).output().unwrap()
}

fn document(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The lines of the samples of a task in a folder.
fn samples(folder: &Path, task: &str) -> Vec<Value> {
    let end = format!("_samples_{task}.jsonl");
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.to_string_lossy().ends_with(&end)).unwrap();
    std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn speech_is_heard_as_transcribe_hears_it_and_has_its_word_error_rate() {
    let folder = tempfile::tempdir().unwrap();
    let speech = root().join("tests/speech");
    let references = std::fs::read_to_string(speech.join("references.tsv")).unwrap();
    let mut rows = String::new();
    std::fs::create_dir(folder.path().join("read")).unwrap();
    for (file, gt) in references.lines().map(|line| line.split_once('\t').unwrap()) {
        std::fs::copy(speech.join(file), folder.path().join("read").join(file)).unwrap();
        rows.push_str(&format!("{}\n", json!({"audio": file, "gt": gt})));
    }
    std::fs::write(folder.path().join("read/rows.jsonl"), rows).unwrap();
    let task = folder.path().join("read.toml");
    let text = "name = \"read\"\n[data]\nfiles = \"*.jsonl\"\n[ask]\naudio = \"audio\"\n[score]\nmetric = \"words\"\n\
                normalizer = \"english\"\nanswer = \"gt\"\n";
    std::fs::write(&task, text).unwrap();
    let model = assets::asset("whisper-tiny.en").display().to_string();
    let (task, data) = (task.display().to_string(), folder.path().display().to_string());
    let out = folder.path().join("out");
    let out_name = out.display().to_string();
    let evaluated = document(&percept(&[
        "eval", "--model", &model, "--device", "cpu", "--tasks", &task, "--data", &data, "--json", "--out",
        &out_name,
    ]));
    let files: Vec<String> =
        references.lines().map(|line| format!("tests/speech/{}", line.split_once('\t').unwrap().0)).collect();
    let words: Vec<&str> = ["transcribe", "--model", &model, "--device", "cpu", "--json"]
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .collect();
    let heard = document(&percept(&words));
    let (mut wrong, mut all) = (0, 0);
    for ((line, reference), transcript) in
        samples(&out, "read").iter().zip(references.lines()).zip(heard.as_array().unwrap())
    {
        let text = transcript["text"].as_str().unwrap().trim();
        assert_eq!(line["resps"][0][0], text);
        let (errors, count) =
            word_errors(&normalize(reference.split_once('\t').unwrap().1), &normalize(text));
        (wrong, all) = (wrong + errors, all + count);
    }
    let wer = evaluated["tasks"]["read"]["metrics"]["wer"]["value"].as_f64().unwrap();
    assert!((wer - wrong as f64 / all as f64).abs() < 1e-12 && wer < 0.1, "{wer}: {wrong} of {all}");
    let refused =
        percept(&["eval", "--model", &model, "--tasks", "pope", "--data", "eval/tests/golden/tasks"]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("this model transcribes speech"),
        "{refused:?}"
    );
}

#[test]
fn models_that_embed_are_scored_by_their_embeddings() {
    let model = |name: &str| root().join("tests/parity").join(name).join("model").display().to_string();
    let data = "eval/tests/golden/tasks";
    let run = |model: &str, task: &str, more: &[&str]| {
        let words = ["eval", "--model", model, "--device", "cpu", "--tasks", task, "--data", data, "--json"];
        percept(&[&words[..], more].concat())
    };
    for (name, task, first, n) in [
        ("clip", "coco2017_retrieval", "text_retrieval_recall@10", 12),
        ("siglip", "imagenet1k_zeroshot", "top_5", 9),
        ("clip", "stsb_test", "cosine_spearman", 8),
        ("llama", "stsb_test", "cosine_spearman", 8),
    ] {
        let one = document(&run(&model(name), task, &["--batch", "1"]));
        let all = document(&run(&model(name), task, &["--batch", "16"]));
        let found = &all["tasks"][task];
        assert_eq!((&found["n"], &found["failed"]), (&json!(n), &json!(0)), "{name} {task}");
        assert!(found["metrics"][first]["value"].is_f64(), "{found:#}");
        assert_eq!(
            one["tasks"][task]["metrics"], found["metrics"],
            "{name} {task}: the batch changes nothing"
        );
    }
    let refused = run(&model("clip"), "pope", &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this model embeds"), "{refused:?}");
    let refused = run(&model("llama"), "stsb_test,mmlu", &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("one after the other"), "{refused:?}");
}

#[test]
fn several_devices_are_asked_the_same_and_what_differs_is_shown() {
    if percept::registry().list().iter().all(|device| device.id != "wgpu:0") {
        needs::skip("this machine has no wgpu:0: `cargo xtask setup` installs a software Vulkan driver");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("both");
    let model = root().join("tests/parity/llama/model").display().to_string();
    let words = [
        "eval",
        "--model",
        &model,
        "--tasks",
        "mmlu",
        "--data",
        "eval/tests/golden/tasks",
        "--device",
        "cpu,wgpu:0",
        "--json",
        "--explain",
        "--out",
        &out.display().to_string(),
    ];
    let found = document(&percept(&words));
    assert_eq!(found["devices"]["cpu"]["manifest"]["device"], "cpu");
    assert_eq!(found["devices"]["wgpu:0"]["manifest"]["device"], "wgpu:0");
    assert_eq!(
        found["tasks"], found["devices"]["cpu"]["tasks"],
        "the first device's stand where one's would"
    );
    let differing = &found["differences"][0];
    assert_eq!((&differing["task"], &differing["n"]), (&json!("mmlu"), &json!(3)));
    assert_eq!(differing["devices"], json!(["cpu", "wgpu:0"]));
    assert_eq!(samples(&out.join("cpu"), "mmlu").len(), 3);
    assert_eq!(samples(&out.join("wgpu-0"), "mmlu").len(), 3);
    // A device against itself has nothing to explain.
    assert_eq!(found["devices"]["cpu"]["agreement"]["mmlu"]["top1"], 1.0);
    let explained = &found["devices"]["cpu"]["explanations"]["mmlu"];
    assert!(explained["first"].is_null() && explained["operations"].as_u64().unwrap() > 50, "{explained}");
    let refused = percept(&["eval", "--model", &model, "--tasks", "tests/speech", "--device", "cpu,wgpu:0"]);
    assert!(!refused.status.success());
}
