use std::fs;
use std::path::Path;

use percept_modalities::{Content, Message};

use super::*;
use crate::format::webdataset::Writer;
use crate::sample::Blob;
use crate::{BuildOptions, Recipe, build};

fn image(key: &str, bytes: &[u8]) -> Sample {
    let media = vec![Blob { kind: Kind::Image, extension: "png".into(), bytes: bytes.into() }];
    Sample { key: key.into(), media, text: Some("a caption".into()), ..Sample::default() }
}

fn text(key: &str, said: &str) -> Sample {
    Sample { key: key.into(), text: Some(said.into()), ..Sample::default() }
}

fn turns(key: &str, said: &str) -> Sample {
    let message = Message::new("assistant", Content::Text(said.into()));
    Sample { key: key.into(), messages: vec![message], ..Sample::default() }
}

fn set(path: &Path, samples: &[Sample]) -> Dataset {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = Writer::create(path).unwrap();
    samples.iter().for_each(|sample| writer.push(sample).unwrap());
    writer.finish().unwrap();
    Dataset::at(path).unwrap()
}

fn found(train: &Dataset, held_out: &Dataset) -> Vec<(&'static str, u64)> {
    let leaks = find(&[train], &[held_out], &|_, _| {});
    leaks.iter().map(|leak| (leak.shared.name(), leak.samples)).collect()
}

#[test]
fn what_shards_of_any_origin_share_is_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let held_out = set(
        &at("b/0.tar"),
        &[
            image("h0", b"one"),
            image("h1", b"two2"),
            text("h2", "a text"),
            turns("h3", "yes"),
            text("h4", ""),
        ],
    );
    let train = set(
        &at("a/0.tar"),
        &[
            image("t0", b"one"),
            image("t1", b"one"),
            // As large as a held-out image, and another one.
            image("t2", b"TWO2"),
            text("t3", "a text"),
            text("t4", "another text"),
            turns("t5", "yes"),
            turns("t6", "no"),
            // A key of another corpus says nothing.
            text("h1", "something else"),
        ],
    );
    assert_eq!(found(&train, &held_out), [("media", 2), ("text", 2)]);
    let leaks = find(&[&train], &[&held_out], &|_, _| {});
    assert!(leaks[0].examples[0].contains("'t0'") && leaks[0].examples[0].contains("the image of 'h0'"));
    assert!(leaks[1].examples[1].contains("'t5'") && leaks[1].examples[1].contains("'h3'"));
    // One corpus: its keys name the same things.
    let inside = set(&at("c/train/0.tar"), &[text("k", "one"), text("l", "two")]);
    let other = set(&at("c/test/0.tar"), &[text("k", "three")]);
    assert_eq!(found(&inside, &other), [("key", 1)]);
    assert_eq!(found(&train, &train), [("key", 8), ("media", 3), ("text", 5)]);
    // Bytes are told up to the last one.
    let seen = AtomicU64::new(0);
    find(&[&train], &[&held_out], &|done, all| {
        assert!(done <= all);
        seen.fetch_max(done, Ordering::Relaxed);
    });
    assert_eq!(seen.into_inner(), train.shards()[0].bytes() + held_out.shards()[0].bytes());
}

#[test]
fn samples_of_one_group_and_corpora_of_one_file_are_related() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = |range: std::ops::Range<usize>| -> String {
        range.map(|i| format!("{{\"id\": \"s{i}\", \"patient\": {}, \"text\": \"t{i}\"}}\n", i / 4)).collect()
    };
    fs::write(folder.join("a.jsonl"), rows(0..40)).unwrap();
    fs::write(folder.join("b.jsonl"), rows(38..46)).unwrap();
    let corpus = |name: &str, text: &str| {
        let recipe = Recipe::parse(&folder.join(format!("{name}.toml")), text).unwrap();
        let options = BuildOptions { threads: 1, ..BuildOptions::default() };
        build(recipe.corpus(&options).unwrap(), &folder.join(name), &options).unwrap().manifest
    };
    let by = "[[stage]]\nrun = \"split\"\nfractions = { held-out = 0.4 }\n";
    let whole = corpus("whole", &format!("group = \"meta.patient\"\n[[read]]\npath = \"a.jsonl\"\n{by}"));
    assert_eq!(whole.group.as_deref(), Some("meta.patient"));
    assert!(whole.splits["held-out"] > 0 && whole.splits["held-out"].is_multiple_of(4), "{:?}", whole.splits);
    let open = |name: &str| Dataset::at(&folder.join(name)).unwrap();
    assert_eq!(found(&open("whole/train"), &open("whole/held-out")), []);

    // Divided by the key, a corpus of the same file holds the same keys, and groups that the other one holds
    // out.
    let other = corpus("other", &format!("[[read]]\npath = \"a.jsonl\"\n{by}by = \"key\"\n"));
    assert_eq!(other.group, None);
    let leaks = found(&open("other/train"), &open("whole/held-out"));
    assert!(matches!(leaks[..], [("key", a), ("text", b)] if a == b && a > 0), "{leaks:?}");
    // Patient 9 is in both files.
    let more = corpus(
        "more",
        "[[read]]\npath = \"b.jsonl\"\n[[stage]]\nrun = \"split\"\nfractions = { x = 1.0 }\nby = \"meta.patient\"\n",
    );
    assert_eq!((more.group.as_deref(), more.written), (Some("meta.patient"), 8));
    let leaks = find(&[&open("whole/train"), &open("whole/held-out")], &[&open("more/x")], &|_, _| {});
    let group = leaks.iter().find(|leak| leak.shared == Shared::Group).unwrap();
    assert!(group.samples == 4 && group.examples[0].contains("meta.patient 9"), "{leaks:?}");

    // A division that tears groups apart is refused when it is built, and so are samples that are of none.
    let text = format!("group = \"meta.patient\"\n[[read]]\npath = \"a.jsonl\"\n{by}by = \"key\"\n");
    let recipe = Recipe::parse(&folder.join("torn.toml"), &text).unwrap();
    let options = BuildOptions { threads: 1, ..BuildOptions::default() };
    let error =
        build(recipe.corpus(&options).unwrap(), &folder.join("torn"), &options).unwrap_err().to_string();
    assert!(error.contains("one group would be in two splits: meta.patient"), "{error}");
    fs::write(
        folder.join("c.jsonl"),
        "{\"id\": 1, \"text\": \"a\"}\n{\"id\": 2, \"text\": \"b\", \"patient\": 1}",
    )
    .unwrap();
    let some = corpus("some", "group = \"meta.patient\"\n[[read]]\npath = \"c.jsonl\"");
    assert_eq!((some.written, some.reasons()), (1, vec![("write", "no-group", 1)]));
}
