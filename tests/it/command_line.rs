//! The program as it is started from a shell.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// A machine without a display has no folder for its socket, which is nobody's fault and nothing to be told of.
#[test]
fn devices_are_listed_without_a_word_about_absent_displays() {
    for session in [None, Some("not/absolute"), Some("/nonexistent")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        command.args(["devices", "--json"]).env_remove("XDG_RUNTIME_DIR").env_remove("NODEVICE_SELECT");
        if let Some(folder) = session {
            command.env("XDG_RUNTIME_DIR", folder);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "XDG_RUNTIME_DIR is {session:?}");
        let devices: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(devices.as_array().unwrap().iter().any(|device| device["id"] == "cpu"), "{devices}");
    }
}

fn parity(case: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(case).join("model")
}

/// `percept generate` with a model of a parity case.
fn generate(case: &str, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
    command.arg("generate").arg("--model").arg(parity(case)).args(["--device", "cpu", "--temperature", "0"]);
    command.args(options).output().unwrap()
}

/// Its JSON document.
fn document(case: &str, options: &[&str]) -> Value {
    let output = generate(case, &[options, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

const PROMPT: &str = "one two three one two three one two three one two";

#[test]
fn guesses_change_no_token_and_are_counted() {
    let draft = parity("llama").display().to_string();
    let other = parity("qwen2").display().to_string();
    let base = [PROMPT, "--max-tokens", "30", "--logprobs", "2"];
    let plain = document("llama", &base);
    assert!(plain.get("drafted_tokens").is_none(), "{plain}");
    let mut accepted = Vec::new();
    for guesses in [
        &["--lookup", "5"][..],
        &["--draft-model", &draft, "--draft", "3"],
        &["--draft-model", &draft],
        &["--draft-model", &other, "--draft", "2"],
    ] {
        let made = document("llama", &[&base[..], guesses].concat());
        for field in ["text", "tokens", "logprobs", "finish_reason"] {
            assert_eq!(made[field], plain[field], "{guesses:?}: {field}");
        }
        let [drafted, right] =
            ["drafted_tokens", "accepted_tokens"].map(|field| made[field].as_u64().unwrap());
        assert!(right <= drafted && drafted > 0, "{guesses:?}: {made}");
        assert!(made.get("not_drafted").is_none(), "{made}");
        accepted.push((drafted, right));
    }
    // Of the model itself all guesses are right.
    assert!(accepted[1].0 == accepted[1].1 && accepted[2].0 == accepted[2].1, "{accepted:?}");
    assert!(accepted[3].1 < accepted[3].0, "{accepted:?}");
}

#[test]
fn logprobs_are_printed_with_the_likeliest_tokens_first() {
    let made = document("llama", &[PROMPT, "--max-tokens", "4", "--logprobs", "3"]);
    let tokens = made["tokens"].as_array().unwrap();
    let logprobs = made["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), tokens.len());
    for (row, token) in logprobs.iter().zip(tokens) {
        let top = row["top"].as_array().unwrap();
        let numbers: Vec<f64> = top.iter().map(|pair| pair[1].as_f64().unwrap()).collect();
        assert_eq!(top.len(), 3);
        assert!(numbers.is_sorted_by(|a, b| a >= b) && numbers[0] <= 0.0, "{row}");
        // The likeliest token was taken.
        assert_eq!((&row["id"], &row["id"]), (token, &top[0][0]), "{row}");
        assert_eq!(row["logprob"], top[0][1]);
    }
    let none = document("llama", &[PROMPT, "--max-tokens", "4"]);
    assert_eq!((none.get("logprobs"), &none["tokens"]), (None, &made["tokens"]));
    let output = generate("llama", &[PROMPT, "--logprobs", "3"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--json"), "{output:?}");
}

#[test]
fn guesses_that_cannot_be_made_are_refused_by_name() {
    let [draft, tokens, speech] =
        ["llama", "gemma3", "whisper"].map(|case| parity(case).display().to_string());
    for (options, code, says) in [
        (&["--lookup", "0"][..], 2, "1 to 64"),
        (&["--lookup", "x"], 2, "--lookup"),
        (&["--draft", "4"], 2, "--draft-model"),
        (&["--draft-model", &draft, "--draft", "65"], 2, "1 to 64"),
        (&["--draft-model", &draft, "--lookup", "4"], 2, "cannot be used with"),
        (&["--draft-model", &tokens], 1, "another tokenizer: token 399"),
        (&["--draft-model", &speech], 2, "does not generate text"),
        (&["--draft-model", "/nonexistent/model"], 1, "/nonexistent/model"),
    ] {
        let output = generate("llama", &[&["hello"], options].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && told.contains(says), "{options:?}: {output:?}");
    }
}

/// Operations and causes are all of the time, and what waited is told apart from what worked.
#[test]
fn a_bench_explains_where_its_time_went() {
    let model = parity("llama");
    let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
    command.args([
        "bench",
        "decode",
        "--device",
        "cpu",
        "--tokens",
        "4",
        "--runs",
        "1",
        "--explain",
        "--json",
        "--model",
    ]);
    let output = command.arg(&model).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let breakdown = &document["breakdown"];
    let numbers =
        |value: &Value| value.as_object().unwrap().values().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    let operations = breakdown["operations"].as_array().unwrap();
    let sum: f64 = operations.iter().map(|row| row["ms"].as_f64().unwrap()).sum();
    let causes = numbers(&breakdown["causes"]);
    let wall = breakdown["wall_ms"].as_f64().unwrap();
    assert!(causes.iter().all(|&ms| ms >= 0.0), "{breakdown}");
    assert!((sum + causes.iter().sum::<f64>() - wall).abs() < 1e-6 * wall, "{breakdown}");
    assert!(numbers(&breakdown["roof"]).iter().all(|&roof| roof > 1e6), "{breakdown}");
    // A product and an attention of each layer in each of four steps.
    let layers: Value = serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    let layers = layers["num_hidden_layers"].as_u64().unwrap();
    let calls = |op: &str| {
        let of = operations.iter().filter(|row| row["op"] == op);
        of.map(|row| row["calls"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(calls("attention"), 4 * layers, "{breakdown}");
    let of_layers = operations.iter().find(|row| row["op"] == "attention").unwrap();
    assert!(of_layers["module"].as_str().unwrap().contains("layers.*"), "{of_layers}");
}
