//! `percept chat` as it is started from a shell, with lines from a pipe. Weights are random and tiny.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn model(case: &str) -> PathBuf {
    root().join("tests/parity").join(case).join("model")
}

fn percept(command: &str, case: &str, options: &[&str]) -> Command {
    let mut percept = Command::new(env!("CARGO_BIN_EXE_percept"));
    percept.arg(command).arg("--model").arg(model(case)).args(["--device", "cpu", "--temperature", "0"]);
    percept.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    percept
}

/// What the program says to lines.
fn chat(case: &str, options: &[&str], lines: &str) -> Output {
    let mut program = percept("chat", case, options).spawn().unwrap();
    program.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    program.wait_with_output().unwrap()
}

/// The JSON document of a conversation.
fn document(case: &str, options: &[&str], lines: &str) -> Value {
    let output = chat(case, &[options, &["--json"]].concat(), lines);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `percept generate` answers to messages.
fn generated(case: &str, options: &[&str], messages: &[Value]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("messages.json");
    std::fs::write(&file, json!(messages).to_string()).unwrap();
    let options = [options, &["--json", "--messages", file.to_str().unwrap()]].concat();
    let output = percept("generate", case, &options).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

const LONG: &str = "Which way does the red square move, and how long does it take to get there? 12 34 \
    It began at the left, went on for a while, and nobody has seen it since the evening of the day before.";

#[test]
fn answers_are_those_of_generate_given_the_same_messages() {
    let options = ["--max-tokens", "12"];
    let lines = format!("/system Be brief.\n{LONG}\n\nAnd then? \\\nAfter that?\n//no command\n");
    let talk = document("llama", &options, &lines);
    let messages = talk["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant", "user", "assistant"]);
    assert_eq!(messages[3]["content"], "And then? \nAfter that?");
    assert_eq!(messages[5]["content"], "/no command");
    for (turn, asked) in talk["turns"].as_array().unwrap().iter().zip([2, 4, 6]) {
        let alone = generated("llama", &options, &messages[..asked]);
        assert_eq!(turn["tokens"], alone["tokens"]);
        assert_eq!(turn["text"], alone["text"]);
        assert_eq!(messages[asked]["content"], alone["text"]);
    }
    // Whole pages of 64 rows that were read for one answer are not read again for the next.
    let told = |turn: usize, field: &str| talk["turns"][turn][field].as_u64().unwrap();
    assert!(told(0, "prompt_tokens") > 128, "the first prompt fills no two pages");
    assert_eq!(told(0, "cached_tokens"), 0);
    assert!(told(1, "cached_tokens") >= 128 && told(2, "cached_tokens") >= 128, "{talk}");

    // Without --json, standard output holds the answers and nothing else.
    let plain = chat("llama", &options, &lines);
    let texts: Vec<&str> =
        talk["turns"].as_array().unwrap().iter().map(|t| t["text"].as_str().unwrap()).collect();
    assert_eq!(String::from_utf8(plain.stdout).unwrap(), format!("{}\n", texts.join("\n")));
}

#[test]
fn a_draft_model_guesses_and_changes_no_answer() {
    let lines = format!("{LONG}\n\nAnd then?\n");
    let plain = document("llama", &["--max-tokens", "12"], &lines);
    let draft = model("llama").display().to_string();
    let made = document("llama", &["--max-tokens", "12", "--draft-model", &draft], &lines);
    assert_eq!(made["messages"], plain["messages"]);
    for (turn, plain) in made["turns"].as_array().unwrap().iter().zip(plain["turns"].as_array().unwrap()) {
        assert_eq!(turn["tokens"], plain["tokens"]);
        assert!(turn["drafted_tokens"].as_u64() > Some(0), "{turn}");
        assert_eq!((&turn["accepted_tokens"], plain.get("drafted_tokens")), (&turn["drafted_tokens"], None));
    }
}

#[test]
fn images_and_videos_are_shown_as_generate_shows_them() {
    let media = root().join("tests/parity/media");
    let (a, b) = (media.join("a7.png"), media.join("b7.png"));
    let options = ["--max-tokens", "8"];
    let lines = format!("/image {}\nWhat is this?\n/image '{}'\nAnd this?\n", a.display(), b.display());
    let talk = document("qwen2-vl-image", &options, &lines);
    let messages = talk["messages"].as_array().unwrap();
    assert_eq!(messages[2]["content"][0], json!({ "type": "image", "path": b }));
    for (turn, asked) in talk["turns"].as_array().unwrap().iter().zip([1, 3]) {
        assert_eq!(turn["tokens"], generated("qwen2-vl-image", &options, &messages[..asked])["tokens"]);
    }
    let clip = media.join("k24.mkv");
    let lines = format!("/video {}\nWhat happens?\n", clip.display());
    let talk = document("qwen2-5-vl-image", &["--max-tokens", "4"], &lines);
    // What transformers answers: see tests/parity/README.md.
    assert_eq!(talk["turns"][0]["tokens"], json!([319, 386, 305, 250]));
    let lines = format!("/audio {}\nWhat is heard?\n", media.join("chirp7.wav").display());
    let talk = document("qwen2-audio", &["--max-tokens", "4"], &lines);
    let asked = &talk["messages"].as_array().unwrap()[..1];
    assert_eq!(talk["turns"][0]["tokens"], generated("qwen2-audio", &["--max-tokens", "4"], asked)["tokens"]);
}

#[test]
fn a_conversation_is_saved_taken_back_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("talk.json");
    let options = ["--max-tokens", "6"];
    let image = root().join("tests/parity/media/a7.png");
    let (image, file) = (image.display(), saved.display());
    let lines = format!(
        "/image {image}\nWhat is this?\nAnd?\n/undo\n/save {file}\n/reset\nHello\n/quit\nnever read\n"
    );
    let talk = document("qwen2-vl-image", &options, &lines);
    let [first, _, last] = &talk["turns"].as_array().unwrap()[..] else { panic!("{talk}") };
    let alone = generated("qwen2-vl-image", &options, &[json!({ "role": "user", "content": "Hello" })]);
    assert_eq!(last["tokens"], alone["tokens"]);
    assert_eq!(talk["messages"].as_array().unwrap().len(), 2);

    let messages: Vec<Value> = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1]["content"], first["text"]);
    let more = [&messages[..], &[json!({ "role": "user", "content": "And now?" })]].concat();
    let on = ["--max-tokens", "6", "--messages", saved.to_str().unwrap()];
    let talk = document("qwen2-vl-image", &on, "And now?\n");
    assert_eq!(talk["turns"][0]["tokens"], generated("qwen2-vl-image", &options, &more)["tokens"]);
}

#[test]
fn what_fails_is_named_and_the_conversation_goes_on() {
    let text = root().join("README.md");
    let image = root().join("tests/parity/media/a7.png");
    let lines = format!(
        "/image no/such.png\n/image {}\n/audio x.wav\n/shout\n/image\n/image {}\nWhat is this?\nHello\n",
        text.display(),
        image.display()
    );
    let output = chat("llama", &["--max-tokens", "4"], &lines);
    let told = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = told.lines().filter(|line| line.starts_with("error: ")).collect();
    let wanted = [
        "no/such.png",
        "README.md",
        "x.wav: this model takes no audio",
        "/shout",
        "/image FILE",
        "reads text alone",
    ];
    assert!(errors.len() > wanted.len(), "{told}");
    for (error, word) in errors.iter().zip(wanted) {
        assert!(error.contains(word), "{error}, where {word} was looked for");
    }
    // A pipe has nobody who saw the errors, so the exit code tells of them.
    assert_eq!(output.status.code(), Some(1), "{told}");
    let hello = generated("llama", &["--max-tokens", "4"], &[json!({ "role": "user", "content": "Hello" })]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", hello["text"].as_str().unwrap()));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("talk.json");
    let mut program = percept("chat", "llama", &[]).spawn().unwrap();
    let mut lines = program.stdin.take().unwrap();
    lines.write_all(format!("{LONG}\n").as_bytes()).unwrap();
    let mut answers = program.stdout.take().unwrap();
    let mut begun = [0; 32];
    answers.read_exact(&mut begun).unwrap();
    let interrupt = Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    lines.write_all(format!("/save {}\n", saved.display()).as_bytes()).unwrap();
    drop(lines);
    let mut rest = Vec::new();
    answers.read_to_end(&mut rest).unwrap();
    let output = program.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("(stopped)"), "{:?}: {told}", output.status);
    // What was printed of the answer is part of the conversation.
    let messages: Vec<Value> = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    let printed = String::from_utf8([&begun[..], &rest].concat()).unwrap();
    assert_eq!(format!("{}\n", messages[1]["content"].as_str().unwrap()), printed);
}
