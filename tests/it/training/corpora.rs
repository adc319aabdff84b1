//! From files of one's own to training: `percept data build`, and what `percept train` and `percept eval` take of it.

use std::path::Path;
use std::process::{Command, Output};

use percept::data::format::webdataset::Writer;
use percept::data::{Manifest, Sample};
use percept::modalities::{Content, Message};
use percept::train::{Config, Event};

use super::model;
use super::runs::{file, losses, train};

/// Runs the program in a folder.
fn percept(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_percept")).current_dir(folder).args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const RECIPE: &str = r#"
name = "scans"
[[read]]
path = "rows.jsonl"
[[stage]]
run = "validate"
[[stage]]
run = "split"
fractions = { held-out = 0.3 }
by = "meta.patient"
"#;

/// Rows of twelve patients with two pictures each, of which `missing` have none.
fn rows(folder: &Path, missing: usize) {
    std::fs::create_dir_all(folder.join("img")).unwrap();
    let mut rows = String::new();
    for i in 0..24usize {
        let name = if i < missing { format!("img/none{i}.ppm") } else { format!("img/{i}.ppm") };
        let mut picture = b"P6\n8 8\n255\n".to_vec();
        picture.extend((0..192).map(|at| (at * (i + 1)) as u8));
        std::fs::write(folder.join(format!("img/{i}.ppm")), picture).unwrap();
        rows += &format!(
            "{{\"id\": \"s{i}\", \"image\": \"{name}\", \"patient\": \"p{}\", \"messages\": [{{\"role\": \"user\", \"content\": \
             \"<image>{i}?\"}}, {{\"role\": \"assistant\", \"content\": \"{i}\"}}]}}\n",
            i / 2
        );
    }
    std::fs::write(folder.join("rows.jsonl"), rows).unwrap();
}

#[test]
fn a_build_is_the_same_from_anywhere_and_fails_where_nothing_passes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("own");
    rows(&at, 0);
    std::fs::write(at.join("scans.toml"), RECIPE).unwrap();
    let whole = at.join("scans.toml");
    let mut manifests = Vec::new();
    let ways = [
        (at.clone(), "scans.toml"),
        (at.clone(), "./scans.toml"),
        (at.clone(), "img/../scans.toml"),
        (at.join("img"), "../scans.toml"),
        (folder.path().to_path_buf(), "own/scans.toml"),
        (folder.path().to_path_buf(), whole.to_str().unwrap()),
    ];
    for (number, (from, recipe)) in ways.iter().enumerate() {
        let out = folder.path().join(format!("corpus-{number}"));
        let output = percept(from, &["data", "build", recipe, "--out", out.to_str().unwrap()]);
        assert!(output.status.success(), "{recipe}: {}", said(&output));
        manifests.push(Manifest::open(&out).unwrap());
    }
    assert_eq!((manifests[0].written, manifests[0].splits.len()), (24, 2));
    assert!(manifests.iter().all(|manifest| *manifest == manifests[0]));
    let again = percept(&at, &["data", "build", "scans.toml", "--out", "../corpus-5", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(document["timings"].is_null() && document["changes"].is_null(), "{document}");

    // Some are rejected: a warning. What has changed is said. All are rejected: a failure, and the corpus stays.
    rows(&at, 6);
    let some = percept(&at, &["data", "build", "scans.toml", "--out", "../corpus-0"]);
    assert!(some.status.success());
    assert!(said(&some).contains("is built anew: 1 file with other content: rows.jsonl"), "{}", said(&some));
    assert!(
        said(&some).contains("warning: scans: 6 of 24 samples (25.0 %) were rejected"),
        "{}",
        said(&some)
    );
    rows(&at, 24);
    let none = percept(&at, &["data", "build", "scans.toml", "--out", "../corpus-0"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        said(&none).contains("no sample was written") && said(&none).contains("missing-file 24"),
        "{}",
        said(&none)
    );
    assert_eq!(Manifest::open(&folder.path().join("corpus-0")).unwrap().written, 18);
    let inspected = percept(folder.path(), &["data", "inspect", "corpus-0:held-out", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert!(document["splits"].as_object().unwrap().keys().eq(["held-out"]), "{document}");
    // Evaluation wants one split, and says which there are before it opens a model.
    for (tasks, why) in
        [("corpus-0", "held-out, train"), ("corpus-0/val", "it has no split 'val'; it has held-out, train")]
    {
        let output = percept(folder.path(), &["eval", "--model", "nowhere", "--tasks", tasks]);
        assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
    }
    let output = percept(folder.path(), &["eval", "--model", "nowhere", "--tasks", "corpus-0:held-out"]);
    assert!(said(&output).contains("nowhere") && !said(&output).contains("split"), "{}", said(&output));
}

/// Sums of small numbers by the dozen, divided by their first number.
fn sums(folder: &Path) {
    let mut rows = String::new();
    for i in 0..100usize {
        let (a, b) = (i / 10, i % 10);
        rows += &format!(
            "{{\"id\": \"s{i}\", \"first\": {a}, \"messages\": [{{\"role\": \"user\", \"content\": \"{a} + {b}?\"}}, \
             {{\"role\": \"assistant\", \"content\": \"{}\"}}]}}\n",
            a + b
        );
    }
    std::fs::write(folder.join("sums.jsonl"), rows).unwrap();
    for (name, by) in [("sums", "meta.first"), ("torn", "key")] {
        let recipe = format!(
            "[[read]]\npath = \"sums.jsonl\"\n[[stage]]\nrun = \"split\"\nfractions = {{ held-out = 0.5 }}\nby = \"{by}\"\n"
        );
        std::fs::write(folder.join(format!("{name}.toml")), recipe).unwrap();
        let output = percept(folder, &["data", "build", &format!("{name}.toml"), "--out", name]);
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn a_run_is_held_to_its_splits_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    sums(folder.path());
    let source =
        |path: &str, rest: &str| format!("{{ path = '{}'{rest} }}", folder.path().join(path).display());
    let text = |train: &str, held_out: &str, rest: &str| {
        format!(
            "out = '{}'\nsteps = 1\nmodel.path = '{}'\n[evaluate]\nshow = 0\n[data]\nlength = 64\nrows = 2\ntrain = [{train}]\n\
             held_out = [{held_out}]\n{rest}",
            folder.path().join("out").display(),
            model("llama").display()
        )
    };
    let refused = |train: &str, held_out: &str, rest: &str| {
        let (done, events) = train_once(&text(train, held_out, rest));
        assert!(!events.iter().any(|e| matches!(e, Event::Begin { .. })), "it has begun");
        done.unwrap_err()
    };
    let held_out = source("sums", ", split = 'held-out'");
    let e = refused(&source("sums", ""), &held_out, "");
    assert!(e.contains("it has the splits held-out, train"), "{e}");
    let e = refused(&source("sums", ", split = 'test'"), &held_out, "");
    assert!(e.contains("it has no split 'test'; it has held-out, train"), "{e}");
    for path in ["sums:held-out", "sums/held-out", "sums/held-out/00000.tar"] {
        let e = refused(&source(path, ""), &source("torn/train", ""), "");
        assert!(e.contains("is the split 'held-out'") && e.contains("train_on_held_out = true"), "{e}");
    }
    // Said so, and with what that brings with it.
    let said = source("sums/held-out", ", train_on_held_out = true");
    let e = refused(&said, &held_out, "");
    assert!(e.contains("\"key\", \"text\", \"group\""), "{e}");
    // Another division of the same rows, counted and named.
    let e = refused(&source("torn/train", ""), &held_out, "allow_leakage = ['text']");
    assert!(e.contains("keys of ") && e.contains("has the key of 's") && e.contains("[\"key\"]"), "{e}");
    // A stage is held to what those before it have learnt.
    let stage = format!("[[stage]]\n[[stage]]\ndata.held_out = [{}]\n", source("sums/train", ""));
    let e = refused(&source("sums/train", ""), &held_out, &stage);
    assert!(e.contains("training and held-out data have in common"), "{e}");
    let e =
        Config::parse(Path::new("run.toml"), &text(&source("sums/train", ""), &said, ""), &[]).unwrap_err();
    assert!(e.to_string().contains("which is for data.train"), "{e}");

    let train = source("sums", ", split = 'train'");
    let (done, events) =
        train_once(&text(&train, &source("torn/held-out", ""), "allow_leakage = ['key', 'text']"));
    assert_eq!(done.unwrap(), 1);
    let note = events
        .iter()
        .any(|e| matches!(e, Event::Note { text, .. } if text.contains("as data.allow_leakage says")));
    assert!(note, "{events:?}");
}

fn train_once(text: &str) -> (Result<u64, String>, Vec<Event>) {
    let (done, events) = train(text, &[], false);
    (done.map(|all| all.last().unwrap().steps).map_err(|e| e.to_string()), events)
}

/// Training takes the shards that a build does: without the mark of their end, which is said, and not cut off in a file.
#[test]
fn a_shard_without_its_end_is_trained_on_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "[evaluate]\nshow = 0\n").replace("steps = 24", "steps = 2");
    let shard = folder.path().join("sums.tar");
    let whole = std::fs::read(&shard).unwrap();
    let go = || {
        let _ = std::fs::remove_dir_all(folder.path().join("out"));
        train(&text, &[], false)
    };
    let said = |events: &[Event]| {
        let open = |e: &&Event| matches!(e, Event::Note { text, .. } if text.contains("the mark of its end is missing"));
        events.iter().filter(open).count()
    };
    let (done, events) = go();
    assert!(done.is_ok() && said(&events) == 0);
    std::fs::write(&shard, &whole[..whole.len() - 1024]).unwrap();
    let (open, same) = go();
    assert!(open.is_ok() && said(&same) == 1 && losses(&same) == losses(&events), "{same:?}");
    std::fs::write(&shard, &whole[..whole.len() - 1024 - 512]).unwrap();
    let e = go().0.unwrap_err().to_string();
    assert!(e.contains("sums.tar") && e.contains("it ends in the middle of a file"), "{e}");
}

#[test]
fn held_out_samples_that_cannot_be_measured_on_are_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "[evaluate]\nshow = 0\n").replace("steps = 24", "steps = 1");
    let asked = folder.path().join("asked.tar");
    let mut writer = Writer::create(&asked).unwrap();
    for (key, answer) in [("a", Some("4")), ("b", None), ("c", None)] {
        let said = |role: &str, text: &str| Message::new(role, Content::Text(text.into()));
        let messages =
            std::iter::once(said("user", "2 + 2?")).chain(answer.map(|text| said("assistant", text)));
        writer.push(&Sample { key: key.into(), messages: messages.collect(), ..Sample::default() }).unwrap();
    }
    writer.finish().unwrap();
    let whole = folder.path().join("sums.tar").display().to_string();
    let text = text.replace(
        &format!("held_out = [{{ path = '{whole}'"),
        &format!("held_out = [{{ path = '{}'", asked.display()),
    );
    let (done, events) = train(&text, &[], false);
    assert!(done.is_ok(), "{done:?}");
    let wanted = "sums: 2 of 3 samples are not measured on, the last because 'c' has no answer tokens";
    let said = events.iter().any(|e| matches!(e, Event::Note { text, .. } if text.contains(wanted)));
    assert!(said, "{events:?}");
}
