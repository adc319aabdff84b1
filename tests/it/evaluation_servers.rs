//! Benchmarks put to our own server are answered as by the same model from its path.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::serving::process::{parity, start};

fn eval(task: &Path, model: &str, out: &Path) -> Output {
    let data = task.parent().unwrap().display().to_string();
    let (task, out) = (task.display().to_string(), out.display().to_string());
    let words = ["eval", "--model", model, "--tasks", &task, "--data", &data, "--json", "--out", &out];
    let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
    command.args(words);
    if !model.starts_with("http") {
        command.args(["--device", "cpu"]);
    }
    command.output().unwrap()
}

/// The lines of the samples of the one task in a folder.
fn samples(folder: &Path) -> Vec<Value> {
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.to_string_lossy().contains("_samples_")).unwrap();
    std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A task over a few rows with options, which ends with these lines.
fn task(folder: &Path, name: &str, score: &str) -> std::path::PathBuf {
    let data = folder.join(name);
    std::fs::create_dir(&data).unwrap();
    let rows = [
        json!({"question": "12 34", "options": ["1 2", "34", "5", "6 7 8 9"], "answer": 1}),
        json!({"question": "What is 5?", "options": ["a number", "12 34 56 78 90 12", "no"], "answer": 0}),
        json!({"question": "9 8 7", "options": ["6", "6"], "answer": 0}),
        json!({"question": "An option of no tokens", "options": ["", "6"], "answer": 0}),
    ];
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(data.join("rows.jsonl"), rows).unwrap();
    let text = format!(
        "name = \"{name}\"\n[data]\nfiles = \"*.jsonl\"\n[ask]\nprompt = \"{{{{ question }}}}\"\noptions = \"options\"\nmax_tokens = 6\n\
         [score]\nmetric = \"choice\"\nanswer = \"answer\"\nanswer_is = \"index\"\n{score}"
    );
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_server_answers_as_the_path_of_its_model_does_and_tells_the_same_likelihoods_of_texts() {
    let (_server, address) = start(&[]);
    let (url, path) = (format!("http://{address}/v1"), parity("qwen2").display().to_string());
    let folder = tempfile::tempdir().unwrap();
    for (name, score) in [("generation", ""), ("texts", "by = \"likelihood\"\ncompare = \"texts\"\n")] {
        let task = task(folder.path(), name, score);
        let [ours, theirs] = [("path", &path), ("url", &url)].map(|(kind, model)| {
            let out = folder.path().join(format!("{name}.{kind}"));
            let output = eval(&task, model, &out);
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            (serde_json::from_slice::<Value>(&output.stdout).unwrap(), samples(&out))
        });
        let accuracy = |run: &(Value, _)| run.0["tasks"][name]["metrics"]["accuracy"].clone();
        assert_eq!(accuracy(&ours), accuracy(&theirs), "{name}");
        assert_eq!((ours.1.len(), theirs.1.len()), (4, 4));
        for (at, (ours, theirs)) in ours.1.iter().zip(&theirs.1).enumerate() {
            if name == "texts" && at == 3 {
                for sample in [ours, theirs] {
                    let why = sample["failed"].as_str().unwrap();
                    assert!(why.contains("option A has no tokens"), "{why}");
                }
                continue;
            }
            assert_eq!(ours["resps"], theirs["resps"], "{name}");
            assert_eq!(ours["given"]["prompt_tokens"], theirs["given"]["prompt_tokens"], "{name}");
            let likelihoods = |sample: &Value| -> Vec<f64> {
                let list = sample["given"]["likelihoods"].as_array();
                list.into_iter().flatten().map(|one| one.as_f64().unwrap()).collect()
            };
            let (a, b) = (likelihoods(ours), likelihoods(theirs));
            assert_eq!((a.len(), a.is_empty()), (b.len(), name == "generation"));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
            if name == "texts" {
                assert_eq!(ours["given"]["tokens"], theirs["given"]["tokens"]);
                assert!(a.iter().all(|one| *one < 0.0), "{a:?}");
            }
        }
    }
}
