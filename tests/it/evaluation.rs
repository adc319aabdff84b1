//! Benchmarks put to tiny models: answers depend on nothing but the question, and a run that was stopped goes on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use percept::eval::metric::interval::Bootstrap;
use percept::eval::run::{Asked, Options, Outcome, agreement, run};
use percept::eval::task::{Task, source};
use percept::eval::{Error, results};
use percept::infer::{GenerateOptions, Session, SessionOptions};
use percept::modalities::{Content, Media, Message};
use percept::model::Model;
use percept::model::checkpoint::Checkpoint;
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn model(name: &str) -> PathBuf {
    root().join("tests/parity").join(name).join("model")
}

fn session(name: &str) -> Session {
    let checkpoint = Arc::new(Checkpoint::open(model(name)).unwrap());
    let Model::Causal(model) = percept::model::open(checkpoint).unwrap() else { panic!("{name} generates") };
    let options = SessionOptions { batch_invariant: true, ..SessionOptions::default() };
    Session::new(percept::registry().open("cpu").unwrap(), model, options).unwrap()
}

/// A built-in task whose answers are a few tokens long.
fn task(name: &str) -> Task {
    let text: Vec<String> = source(name)
        .unwrap()
        .lines()
        .map(
            |line| if line.starts_with("max_tokens") { "max_tokens = 5".to_owned() } else { line.to_owned() },
        )
        .collect();
    Task::parse(Path::new("t.toml"), &text.join("\n")).unwrap()
}

fn data(name: &str) -> PathBuf {
    root().join("eval/tests/golden/tasks").join(name)
}

fn options(batch: usize) -> Options {
    Options {
        batch,
        limit: None,
        shard: (0, 1),
        bootstrap: Bootstrap { draws: 50, ..Bootstrap::default() },
        out: None,
        ran: json!({"model": "tiny"}),
        keep: 0,
    }
}

fn ask(session: &mut Session, name: &str, options: &Options) -> Outcome {
    run(session, &task(name), &data(name), options, &mut |_| ()).unwrap()
}

/// What must not depend on how a run was made.
fn lines(asked: &[Asked]) -> Vec<String> {
    asked.iter().map(|asked| serde_json::to_string(&asked.line).unwrap()).collect()
}

#[test]
fn answers_do_not_depend_on_the_batch_the_shards_or_where_a_run_was_stopped() {
    let mut session = session("qwen2-vl-image");
    let alone = ask(&mut session, "pope", &options(1));
    assert_eq!(alone.asked.len(), 10);
    let expected = lines(&alone.asked);
    // Questions differ, and each has an image that the model was given.
    assert_ne!(expected[0], expected[2]);
    for Asked { line, .. } in &alone.asked {
        assert!(!line.given.tokens.is_empty() && line.given.media[0]["kind"] == "image", "{line:?}");
    }
    for batch in [4, 16] {
        assert_eq!(lines(&ask(&mut session, "pope", &options(batch)).asked), expected, "batch {batch}");
    }
    let mut parts: Vec<(usize, String)> = Vec::new();
    let shared = tempfile::tempdir().unwrap();
    let with_shared = |shard| Options { shard, out: Some(shared.path().to_path_buf()), ..options(4) };
    for part in 0..3 {
        let outcome = ask(&mut session, "pope", &with_shared((part, 3)));
        parts.extend(outcome.asked.iter().map(|asked| asked.question.id).zip(lines(&outcome.asked)));
    }
    parts.sort();
    assert_eq!(parts.into_iter().map(|(_, line)| line).collect::<Vec<_>>(), expected, "three shards");
    // All of them together are a run of its own, of which nothing is left to ask.
    let mut new = 0;
    let told = &mut |is_new: bool| new += usize::from(is_new);
    let together = run(&mut session, &task("pope"), &data("pope"), &with_shared((0, 1)), told).unwrap();
    assert_eq!((lines(&together.asked), new), (expected.clone(), 0));
    assert_eq!(json!(together.scores), json!(alone.scores));
    // Killed at ten places of the journal.
    let folder = tempfile::tempdir().unwrap();
    let with_journal = Options { out: Some(folder.path().to_path_buf()), ..options(4) };
    ask(&mut session, "pope", &with_journal);
    let journal = folder.path().join("pope.journal.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    for cut in (0..10).map(|tenth| whole.len() * tenth / 10) {
        std::fs::write(&journal, &whole[..cut]).unwrap();
        let mut new = 0;
        let told = &mut |is_new: bool| new += usize::from(is_new);
        let outcome = run(&mut session, &task("pope"), &data("pope"), &with_journal, told).unwrap();
        assert_eq!(lines(&outcome.asked), expected, "cut at {cut}");
        let known = whole[..cut].iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
        assert_eq!(new, 10 - known, "cut at {cut}");
    }
    let other = Options { ran: json!({"model": "another"}), ..with_journal };
    let refused =
        run(&mut session, &task("pope"), &data("pope"), &other, &mut |_| ()).err().unwrap().to_string();
    assert!(refused.contains("'model' differs"), "{refused}");
}

#[test]
fn what_cannot_be_shown_counts_as_wrong_and_a_kind_that_a_model_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = ["a.png", "broken.png", "none.png"]
        .iter()
        .map(|image| format!("{{\"q\": \"yes or no?\", \"image\": \"{image}\", \"answer\": \"yes\"}}\n"))
        .collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    let media = root().join("tests/parity/media");
    let png = std::fs::read_dir(media).unwrap().map(|entry| entry.unwrap().path());
    let png = png.into_iter().find(|path| path.extension().is_some_and(|e| e == "png")).unwrap();
    std::fs::copy(png, folder.path().join("a.png")).unwrap();
    std::fs::write(folder.path().join("broken.png"), b"\x89PNG\r\n\x1a\nand no more").unwrap();
    let text = "name = \"x\"\n[data]\nfiles = \"*.jsonl\"\n[ask]\nprompt = \"{{ q }}\"\nimage = \"image\"\nmax_tokens = 2\n\
                [score]\nmetric = \"yes-no\"\nanswer = \"answer\"\n";
    let task = Task::parse(Path::new("x.toml"), text).unwrap();
    let outcome =
        run(&mut session("qwen2-vl-image"), &task, folder.path(), &options(4), &mut |_| ()).unwrap();
    assert_eq!((outcome.scores.n, outcome.scores.failed), (3, 2));
    let why = |at: usize| outcome.asked[at].line.answer.failed.clone().unwrap_or_default();
    assert!(why(0).is_empty() && !why(1).is_empty() && why(2).contains("none.png"), "{} {}", why(1), why(2));
    let refused = run(&mut session("llama"), &task, folder.path(), &options(4), &mut |_| ()).err().unwrap();
    assert!(matches!(refused, Error::Lacks { kind: "images", .. }), "{refused}");
    let sounds = Task::find("mmau_test_mini").unwrap();
    let refused =
        run(&mut session("llama"), &sounds, &data("mmau_test_mini"), &options(4), &mut |_| ()).err().unwrap();
    assert!(matches!(refused, Error::Lacks { kind: "audio", .. }), "{refused}");
}

#[test]
fn sounds_are_heard_and_transcripts_scored() {
    let outcome = ask(&mut session("qwen2-audio"), "librispeech_test_clean", &options(2));
    assert_eq!((outcome.scores.n, outcome.scores.failed), (3, 0));
    assert!(outcome.scores.metrics["wer"].value > 0.0);
    assert_eq!(outcome.asked[0].line.given.media[0]["kind"], "audio");
}

#[test]
fn options_are_compared_by_the_likelihood_that_generation_gives_them() {
    let mut session = session("llama");
    let outcome = ask(&mut session, "mmlu", &options(4));
    assert_eq!(outcome.scores.n, 3);
    let Asked { question, line, .. } = &outcome.asked[1];
    let model = session.shared_model();
    let asked = [Message::new("user", Content::Text(question.prompt.clone()))];
    let inputs = model.processor().chat(&asked, &Media::default()).unwrap();
    let all = GenerateOptions {
        max_tokens: Some(1),
        logprobs: Some(usize::MAX),
        ignore_ends: true,
        ..GenerateOptions::default()
    };
    let first = session.generate(&inputs, &all, &mut |_| ()).unwrap().logprobs.remove(0);
    let mut best = (f64::NEG_INFINITY, 0);
    for (at, letter) in ["A", "B", "C", "D"].iter().enumerate() {
        let ids = model.processor().tokenizer().encode(letter, false).unwrap();
        assert_eq!(ids.len(), 1, "a letter is a token");
        let expected = first.top.iter().find(|(id, _)| *id == ids[0] as i32).unwrap().1;
        assert!(
            (line.given.likelihoods[at] - f64::from(expected)).abs() < 1e-4,
            "{letter}: {line:?} {expected}"
        );
        if line.given.likelihoods[at] > best.0 {
            best = (line.given.likelihoods[at], at);
        }
    }
    assert_eq!(line.answer.chosen, Some(best.1));
    assert!(line.answer.confidence.unwrap() > 0.25 - 1e-9 && outcome.scores.metrics.contains_key("ece"));
}

#[test]
fn a_device_agrees_with_itself_in_every_token() {
    let mut ours = session("qwen2-vl-image");
    let outcome = ask(&mut ours, "pope", &Options { keep: 3, ..options(4) });
    assert_eq!(outcome.kept.len(), 3);
    let same = agreement(&mut ours, &mut session("qwen2-vl-image"), &outcome.kept).unwrap();
    assert_eq!((same.n, same.top1, same.kl, same.first_difference), (3, 1.0, 0.0, None));
    assert!(same.tokens >= 3);
}

/// Two processes of a launcher of MPI programs, and two devices of one process, score what one alone does.
#[test]
fn questions_are_shared_out_to_processes_and_devices() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let model = model("qwen2-vl-image").display().to_string();
    let command = |out: &str, device: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        let data = "eval/tests/golden/tasks";
        let words = [
            "--model",
            &model,
            "--device",
            device,
            "--data",
            data,
            "--tasks",
            "pope,mvbench",
            "--limit",
            "5",
        ];
        command.current_dir(root()).args(["eval"]).args(words).args([
            "--agreement",
            "2",
            "--json",
            "--out",
            out,
        ]);
        command
    };
    let scores = |output: &Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut tasks = found["tasks"].clone();
        for task in tasks.as_object_mut().unwrap().values_mut() {
            for time in ["seconds", "model_seconds", "tokens_per_s"] {
                task.as_object_mut().unwrap().remove(time);
            }
        }
        (tasks, found["agreement"].clone(), found["manifest"].clone())
    };
    let alone = scores(&command(&path("alone"), "cpu").output().unwrap());
    assert!(alone.0["pope"]["prompt_tokens"].as_u64().unwrap() > 100 && alone.1["pope"]["n"] == 2);
    let energy = &alone.2["energy"];
    assert!(energy["joules"].is_f64() || energy["untold"].is_string(), "{energy}");
    // As `mpirun -n 2` of MPICH starts them.
    let shared = path("processes");
    let mut others = Vec::new();
    for rank in ["1", "0"] {
        let mut process = command(&shared, "cpu");
        process.env("PMI_RANK", rank).env("PMI_SIZE", "2");
        others.push(
            process
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap(),
        );
    }
    let outputs: Vec<Output> =
        others.into_iter().map(|process| process.wait_with_output().unwrap()).collect();
    assert!(outputs[0].status.success() && outputs[0].stdout.is_empty(), "{:?}", outputs[0]);
    let together = scores(&outputs[1]);
    assert_eq!((&together.0, &together.1), (&alone.0, &alone.1), "two processes");
    assert_eq!(together.2["processes"], 2);
    let mut spread = command(&path("devices"), "cpu,cpu");
    let spread = scores(&spread.arg("--spread").output().unwrap());
    assert_eq!((&spread.0, &spread.1), (&alone.0, &alone.1), "two devices");
    assert_eq!(spread.2["device"], "cpu,cpu");
    for out in ["processes", "devices"] {
        let journal = |part: &str| {
            let file = Path::new(&path(out)).join(format!("pope.{part}-of-2.journal.jsonl"));
            std::fs::read_to_string(file).unwrap()
        };
        assert_eq!(
            [journal("0"), journal("1")].map(|text| text.lines().count()),
            [4, 3],
            "{out}: a line for the run, and for each answer"
        );
    }
    let mut refused = command(&shared, "cpu");
    let refused =
        refused.args(["--shard", "0/2"]).env("PMI_RANK", "0").env("PMI_SIZE", "2").output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("leave out --shard"), "{refused:?}");
}

/// Runs the program.
fn percept(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_percept")).current_dir(root()).args(words).output().unwrap()
}

#[test]
fn the_command_prints_scores_writes_samples_and_compares_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let model = model("qwen2-vl-image").display().to_string();
    let of = |data: &str, out: &str, more: &[&str]| {
        let words =
            ["eval", "--model", &model, "--device", "cpu", "--data", data, "--limit", "4", "--out", out];
        percept(&[&words[..], more].concat())
    };
    let eval = |out: &str, more: &[&str]| of("eval/tests/golden/tasks", out, more);
    let (a, b) = (path("a"), path("b"));
    let first = eval(&a, &["--tasks", "pope,chartqa", "--json", "--agreement", "1"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let found: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(found["tasks"]["pope"]["n"], 4);
    for key in ["value", "low", "high"] {
        assert!(found["tasks"]["pope"]["metrics"]["accuracy"][key].is_f64(), "{found:#}");
    }
    assert_eq!(found["agreement"]["chartqa"]["top1"], 1.0);
    assert_eq!(
        (&found["manifest"]["device"], &found["manifest"]["tasks"]["pope"]["data"][0]["file"]),
        (&json!("cpu"), &json!("test-00000-of-00001.parquet"))
    );
    let second = eval(&b, &["--tasks", "pope", "--batch", "1"]);
    assert!(String::from_utf8_lossy(&second.stdout).contains("yes_ratio"), "{second:?}");
    let samples = |folder: &str| {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let file =
            files.into_iter().find(|path| path.to_string_lossy().ends_with("_samples_pope.jsonl")).unwrap();
        std::fs::read_to_string(file).unwrap()
    };
    assert_eq!(samples(&a), samples(&b), "the batch changes nothing");
    let line: Value = serde_json::from_str(samples(&a).lines().next().unwrap()).unwrap();
    for key in [
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "doc_hash",
        "prompt_hash",
        "target_hash",
        "accuracy",
    ] {
        assert!(!line[key].is_null(), "{key}");
    }
    let compared = percept(&["eval", "compare", &a, &b, "--json"]);
    let compared: Value = serde_json::from_slice(&compared.stdout).unwrap();
    assert_eq!((&compared["tasks"][0]["task"], &compared["tasks"][0]["p"]), (&json!("pope"), &json!(1.0)));
    let report = std::fs::read_to_string(folder.path().join("a/report.html")).unwrap();
    assert_eq!(report.matches("class=\"sample").count(), 8, "four samples of two tasks");
    assert!(
        report.contains("data:image/png;base64,") && !report.contains("http:") && !report.contains("https:")
    );
    assert!(report.trim_end().ends_with("</html>"));
    let page = path("compared.html");
    assert!(percept(&["eval", "compare", &a, &b, "--html", &page]).status.success());
    assert!(std::fs::read_to_string(page).unwrap().contains("Answers that differ"));
    let own = path("own.toml");
    assert!(percept(&["eval", "init-task", &own]).status.success());
    assert_eq!(Task::find(&own).unwrap().name, "own");
    for (words, expected) in [
        (&["--tasks", "popes"][..], "did you mean 'pope'?"),
        (&["--tasks", "pope", "--shard", "2/2"], "I below N"),
        (&["--tasks", "pope", "--compat", "vlmevalkit"], "lmms-eval is"),
    ] {
        let refused = eval(&path("c"), words);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains(expected), "{words:?}: {said}");
    }
    let refused = of("nowhere", &path("c"), &["--tasks", "mmmu_val"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no file of its data lies in nowhere/mmmu_val"), "{said}");
    assert!(results::now().as_str() > "20260101");
}
