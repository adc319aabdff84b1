//! The server as a process: how it begins, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Reply, ask, post_bytes};

pub fn parity(case: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(case).join("model")
}

/// A server that is ended when the test is.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a free port, and its address.
pub fn start(more: &[&str]) -> (Process, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
    command.args(["serve", "--device", "cpu", "--port", "0", "--json", "--model"]);
    command.arg(format!("qwen2={}", parity("qwen2").display())).args(more);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    // The log is read to its end, so that the server can go on writing it.
    std::thread::spawn(move || lines.for_each(drop));
    let url = first["url"].as_str().unwrap().to_owned();
    (Process(child), url.strip_prefix("http://").unwrap().to_owned())
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream
}

#[cfg(unix)]
#[test]
fn a_signal_lets_answers_end_and_the_server_ends_well() {
    let (mut process, address) = start(&["--grace", "60"]);
    let mut client = connect(&address);
    let more = json!({ "max_tokens": 200, "ignore_eos": true, "stream": true });
    let body = ask("qwen2", "12 34", more).to_string();
    client.write_all(&post_bytes("/v1/chat/completions", "", body.as_bytes())).unwrap();
    let mut all = vec![0; 64];
    // It has begun.
    client.read_exact(&mut all).unwrap();
    let killed = Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status().unwrap();
    assert!(killed.success());
    client.read_to_end(&mut all).unwrap();
    let events = Reply::of(&all).events();
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    let began = Instant::now();
    loop {
        if let Some(status) = process.0.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the server goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn models_of_every_kind_are_served_from_their_files() {
    let of = |name: &str, case: &str| format!("{name}={}", parity(case).display());
    let (speech, pairs, vectors) = (of("speech", "whisper"), of("pairs", "clip"), of("vectors", "qwen3"));
    let more = [
        "--model",
        &speech,
        "--model",
        &pairs,
        "--embedding-model",
        &vectors,
        "--lookup",
        "4",
        "--max-tokens",
        "5",
        "--no-prefix-reuse",
        "--prefill-chunk",
        "off",
    ];
    let (_process, address) = start(&more);
    let send = |bytes: &[u8]| {
        let mut client = connect(&address);
        client.write_all(bytes).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        Reply::of(&all)
    };
    let list = send(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").good();
    let tasks: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|m| m["task"].as_str().unwrap()).collect();
    assert_eq!(tasks, ["generate", "transcribe", "embed", "embed"]);
    let body = ask("qwen2", &"12 34 ".repeat(20), json!({ "ignore_eos": true })).to_string();
    for _ in 0..2 {
        let whole = send(&post_bytes("/v1/chat/completions", "", body.as_bytes())).good();
        assert_eq!(whole["usage"]["completion_tokens"], 5);
        assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    }
}

#[test]
fn a_draft_model_guesses_for_the_model_that_it_is_given_to() {
    let draft = format!("qwen2={}", parity("qwen2").display());
    let other = format!("llama={}", parity("llama").display());
    let more = ["--model", &other, "--draft-model", &draft, "--draft", "3"];
    let (_process, address) = start(&more);
    let (_plain, plain_address) = start(&["--model", &other]);
    let send = |address: &str, bytes: &[u8]| {
        let mut client = connect(address);
        client.write_all(bytes).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        Reply::of(&all)
    };
    for name in ["qwen2", "llama"] {
        let more = json!({ "ignore_eos": true, "max_tokens": 14, "temperature": 0, "logprobs": true });
        let request = post_bytes("/v1/chat/completions", "", ask(name, "12 34", more).to_string().as_bytes());
        let [with, without] = [&address, &plain_address].map(|address| send(address, &request).good());
        assert_eq!(with["choices"], without["choices"], "{name}");
    }
    let metrics = send(&address, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").text();
    let value = |line: &str| {
        let found = metrics.lines().find_map(|l| l.strip_prefix(line));
        found.unwrap_or_else(|| panic!("no {line} in\n{metrics}")).trim().parse::<u64>().unwrap()
    };
    // The first token of the prompt, then three steps of four.
    for (model, n) in [("qwen2", 9), ("llama", 0)] {
        let drafted = value(&format!("percept_drafted_tokens_total{{model=\"{model}\"}}"));
        let accepted = value(&format!("percept_accepted_tokens_total{{model=\"{model}\"}}"));
        assert_eq!((drafted, accepted), (n, n), "{model}");
        for reason in ["unread", "long", "full"] {
            assert_eq!(
                value(&format!("percept_undrafted_total{{model=\"{model}\",reason=\"{reason}\"}}")),
                0
            );
        }
    }
}

#[test]
fn what_cannot_be_served_is_told_and_ends_the_command() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_percept"))
            .args(["serve", "--device", "cpu", "--port", "0"])
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = run(&["--model", "none=/nonexistent/model"]);
    assert!(
        code == Some(1) && told.contains("'none' cannot be served") && told.contains("/nonexistent"),
        "{told}"
    );
    let model = parity("qwen2").display().to_string();
    let [other, named] = ["other", "named"].map(|name| format!("{name}={model}"));
    let vision = format!("qwen2={}", parity("gemma3").display());
    let (code, told) = run(&["--model", &format!("qwen2={model}"), "--draft-model", &vision]);
    assert!(
        code == Some(1) && told.contains("'qwen2' cannot be served") && told.contains("token 399"),
        "{told}"
    );
    for (arguments, says) in [
        (vec!["--model", &model, "--running", "0"], "--running 0"),
        (vec!["--model", &model, "--cors-origin", "example.org"], "no origin"),
        (vec!["--model", &model, "--media-domain", "http://a"], "no domain"),
        (vec!["--model", &model, "--lookup", "100"], "1 to 64"),
        (vec!["--model", &model, "--adapter", &model], "name it"),
        (vec!["--model", &model, "--draft", "4"], "--draft-model"),
        (vec!["--model", &model, "--draft-model", &model, "--lookup", "4"], "cannot be used with"),
        (vec!["--model", &model, "--draft-model", &other], "no --model 'other'"),
        (
            vec!["--model", &model, "--draft-model", &model, "--draft-model", &model],
            "has a draft model already",
        ),
        (vec!["--model", &model, "--model", &named, "--draft-model", &model], "name the --model"),
        (vec!["--model", &model, "--prefill-chunk", "0"], "at least 1, or `off`"),
        (vec![], "--model"),
    ] {
        let (code, told) = run(&arguments);
        assert!(code == Some(2) && told.contains(says), "{arguments:?}: {code:?} {told}");
    }
}
