//! From a table to the scores of its classes: a corpus is built, its questions are put to a model, and what is known of each class,
//! calibration and the patients' intervals are what counting the answers gives.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use percept::data::{BuildOptions, Recipe, build};
use percept::eval::metric::interval::Bootstrap;
use percept::eval::run::{Asked, Options, Outcome, run};
use percept::eval::task::{By, ClassesOf, Task};
use percept::infer::{Session, SessionOptions};
use percept::model::Model;
use percept::model::checkpoint::Checkpoint;
use serde_json::json;

use crate::devices;

const CLASSES: [&str; 3] = ["effusion", "normal", "pneumonia"];

const RECIPE: &str = r#"
name = "findings"
group = "meta.patient"
[[read]]
path = "findings.jsonl"
[[stage]]
run = "template"
user = "{{ meta.note }} Which finding is it?"
assistant = "{{ meta.finding }}"
"#;

const TASK: &str = r#"
name = "findings"
[data]
files = "**/*.tar"
key = "key"
group = "patient"
categories = "scanner"
[ask]
[score]
metric = "classes"
answer = "answer"
classes = ["effusion", "normal", "pneumonia"]
by = "likelihood"
compare = "texts"
"#;

fn session() -> Session {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama/model");
    let Model::Causal(model) = percept::model::open(Arc::new(Checkpoint::open(folder).unwrap())).unwrap()
    else {
        panic!("llama generates")
    };
    Session::new(devices::device("cpu"), model, SessionOptions::default()).unwrap()
}

/// Fifteen notes of five patients, as a corpus in a folder.
fn corpus(folder: &Path) {
    let mut rows = String::new();
    for at in 0..15 {
        let scanner = ["a", "b"][at % 2];
        let row = json!({
            "id": format!("n{at}"), "note": format!("Note {at}."), "finding": CLASSES[(at * 7 + at / 4) % 3],
            "patient": format!("p{}", at / 3), "scanner": scanner,
        });
        writeln!(rows, "{row}").unwrap();
    }
    std::fs::write(folder.join("findings.jsonl"), rows).unwrap();
    let recipe = Recipe::parse(&folder.join("recipe.toml"), RECIPE).unwrap();
    let options = BuildOptions { threads: 1, ..BuildOptions::default() };
    let built = build(recipe.corpus(&options).unwrap(), &folder.join("corpus"), &options).unwrap();
    assert_eq!(built.manifest.written, 15);
}

fn ask(session: &mut Session, folder: &Path, task: &str, seed: u64) -> Outcome {
    let task = Task::parse(Path::new("findings.toml"), task).unwrap();
    ask_task(session, &folder.join("corpus"), &task, seed)
}

fn ask_task(session: &mut Session, data: &Path, task: &Task, seed: u64) -> Outcome {
    let options = Options {
        batch: 4,
        limit: None,
        shard: (0, 1),
        bootstrap: Bootstrap { draws: 400, seed, ..Bootstrap::default() },
        out: None,
        ran: json!({}),
        keep: 0,
    };
    run(session, task, data, &options, &mut |_| ()).unwrap()
}

#[test]
fn a_corpus_is_scored_by_class_without_a_file_as_with_one() {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    let all = folder.path().join("corpus");
    let is_split = |path: &Path| path.is_dir() && std::fs::read_dir(path).unwrap().count() > 0;
    let mut splits: Vec<_> = std::fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().path()).collect();
    splits.retain(|path| is_split(path));
    splits.sort();
    let split = splits.last().unwrap();
    let name = split.file_name().unwrap().to_str().unwrap();
    let mut session = session();
    for by in [By::Likelihood, By::Generation] {
        // A class that the corpus lacks has a row of its own in both.
        let how = ClassesOf {
            classes: vec!["fracture".into()],
            group: Some("patient".into()),
            categories: vec!["scanner".into()],
            by,
        };
        let (task, data) = Task::of_corpus(split, &how).unwrap();
        assert_eq!(task.name, format!("corpus-{name}"));
        let found = ask_task(&mut session, &data, &task, 3);
        let mut text = TASK
            .replace("**/*.tar", &format!("{name}/*.tar"))
            .replace("\"normal\"", "\"fracture\", \"normal\"")
            .replace("[ask]\n", "[ask]\nmax_tokens = 13\n");
        if by == By::Generation {
            text = text.replace("by = \"likelihood\"\ncompare = \"texts\"\n", "");
        }
        let expected = ask(&mut session, folder.path(), &text, 3);
        assert_eq!(json!(found.scores), json!(expected.scores), "{by:?}");
        assert_eq!(found.scores.confusion.unwrap().classes.len(), 4);
        assert_eq!(found.scores.metrics.contains_key("ece"), by == By::Likelihood);
        let said = |outcome: &Outcome| -> Vec<String> {
            outcome.asked.iter().map(|asked| asked.line.answer.said.clone()).collect()
        };
        assert_eq!(said(&ask_task(&mut session, &data, &task, 3)), said(&expected));
    }
    let refused = Task::of_corpus(split, &ClassesOf { group: Some("ward".into()), ..ClassesOf::default() });
    let (task, data) = refused.unwrap();
    let options = Options {
        out: None,
        ran: json!({}),
        keep: 0,
        batch: 1,
        limit: None,
        shard: (0, 1),
        bootstrap: Bootstrap::default(),
    };
    let refused = run(&mut session, &task, &data, &options, &mut |_| ()).err().unwrap().to_string();
    assert!(refused.contains("has no column 'ward'; it has ") && refused.contains("patient"), "{refused}");
}

#[test]
fn a_corpus_that_was_built_is_scored_by_class_with_calibration_and_intervals_of_patients() {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    let mut session = session();
    let outcome = ask(&mut session, folder.path(), TASK, 0);
    let scores = &outcome.scores;
    assert_eq!((scores.n, scores.unparsed, scores.failed), (15, 0, 0));
    assert!(
        outcome.asked[3].question.prompt.contains("Note 3. Which finding is it?"),
        "{:?}",
        outcome.asked[3]
    );
    let right = |asked: &Asked| CLASSES.iter().position(|c| *c == asked.question.right.texts[0]).unwrap();
    let given = |asked: &Asked| asked.line.answer.chosen.unwrap();
    let count =
        |keep: &dyn Fn(&Asked) -> bool| outcome.asked.iter().filter(|asked| keep(asked)).count() as f64;
    let share = |part: f64, all: f64| if all == 0.0 { 0.0 } else { part / all };
    let (mut recalls, mut harmonic) = (Vec::new(), Vec::new());
    let confusion = scores.confusion.as_ref().unwrap();
    assert_eq!(confusion.classes, CLASSES);
    for (class, found) in scores.classes.iter().enumerate() {
        let both = count(&|asked| right(asked) == class && given(asked) == class);
        let is = count(&|asked| right(asked) == class);
        let said = count(&|asked| given(asked) == class);
        let neither = count(&|asked| right(asked) != class && given(asked) != class);
        let (precision, recall) = (share(both, said), share(both, is));
        assert_eq!((found.precision, found.sensitivity, found.support), (precision, recall, is as u64));
        assert_eq!(found.specificity, share(neither, 15.0 - is));
        assert!((found.f1 - share(2.0 * precision * recall, precision + recall)).abs() < 1e-12);
        assert_eq!(confusion.counts[class][class], both as u64);
        recalls.push(recall);
        harmonic.push(found.f1);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let accuracy = count(&|asked| right(asked) == given(asked)) / 15.0;
    for (name, expected) in
        [("accuracy", accuracy), ("balanced_accuracy", mean(&recalls)), ("macro_f1", mean(&harmonic))]
    {
        assert!((scores.metrics[name].value - expected).abs() < 1e-12, "{name}: {:?}", scores.metrics);
    }
    // Ten bins of confidence, each by its share of the answers.
    let gap = |bin: usize| {
        let own: Vec<(f64, f64)> = outcome
            .asked
            .iter()
            .map(|asked| {
                (asked.line.answer.confidence.unwrap(), f64::from(u8::from(right(asked) == given(asked))))
            })
            .filter(|(confidence, _)| ((confidence * 10.0).ceil() as usize).max(1) - 1 == bin)
            .collect();
        own.iter().map(|(confidence, right)| confidence - right).sum::<f64>().abs() / 15.0
    };
    let ece: f64 = (0..10).map(gap).sum();
    assert!((scores.metrics["ece"].value - ece).abs() < 1e-12, "{:?} {ece}", scores.metrics["ece"]);
    assert_eq!(scores.categories["scanner"].values().map(|category| category.n).collect::<Vec<_>>(), [8, 7]);
    // Whole patients are drawn: five draws of three notes each, of which every accuracy is a fifteenth.
    let by_patient = scores.metrics["accuracy"];
    assert!(by_patient.low <= accuracy && accuracy <= by_patient.high);
    let alone = ask(&mut session, folder.path(), &TASK.replace("group = \"patient\"\n", ""), 0);
    assert_eq!(alone.scores.metrics["accuracy"].value, accuracy);
    let groups: Vec<&str> = outcome.asked.iter().map(|asked| asked.question.group.as_str()).collect();
    assert_eq!(groups[..4], ["p0", "p0", "p0", "p1"]);
}
