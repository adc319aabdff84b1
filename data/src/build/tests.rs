use std::fs;
use std::path::Path;

use super::*;
use crate::format::webdataset;

/// A folder with a corpus of a few pictures and captions, good and bad ones.
fn corpus(folder: &Path) {
    let png = |seed: u8| {
        let pixels: Vec<u8> = (0..40 * 30 * 3)
            .map(|at: u32| (at * u32::from(seed) / 7 % 256) as u8 ^ (at / 90) as u8)
            .collect();
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_raw(40, 30, pixels)
            .unwrap()
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    };
    fs::create_dir_all(folder.join("pictures")).unwrap();
    let mut lines = Vec::new();
    for i in 0..40u8 {
        fs::write(folder.join(format!("pictures/{i}.png")), png(3 + i)).unwrap();
        lines.push(format!(
            r#"{{"id": "s{i}", "image": "pictures/{i}.png", "caption": "number {i}", "score": {i}}}"#
        ));
    }
    let whole = png(3);
    fs::write(folder.join("pictures/cut.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.join("outside.png"), &whole).unwrap();
    lines.push(r#"{"id": "cut", "image": "pictures/cut.png", "caption": "cut off"}"#.into());
    lines.push(r#"{"id": "out", "image": "../outside.png", "caption": "leads out"}"#.into());
    lines.push(r#"{"id": "gone", "image": "pictures/gone.png", "caption": "not there"}"#.into());
    lines.push(r#"{"id": "again", "image": "pictures/0.png", "caption": "number 0"}"#.into());
    lines.push("{not json".into());
    let mut bytes = lines.join("\n").into_bytes();
    bytes.extend(b"\n{\"id\": \"latin\", \"caption\": \"caf\xe9\"}\n");
    fs::create_dir_all(folder.join("in")).unwrap();
    fs::write(folder.join("in/captions.jsonl"), bytes).unwrap();
}

const RECIPE: &str = r#"
name = "test"

[[read]]
path = "in/captions.jsonl"
root = "."

[[stage]]
run = "validate"
measure = true

[[stage]]
run = "deduplicate-exact"

[[stage]]
run = "filter-score"
column = "score"
min = 2

[[stage]]
run = "split"
fractions = { val = 0.25 }

[write]
shard_samples = 8
"#;

fn run(folder: &Path, recipe: &str, out: &str, threads: usize) -> Result<Built> {
    let recipe = Recipe::parse(&folder.join("recipe.toml"), recipe)?;
    let options = BuildOptions { threads, ..BuildOptions::default() };
    build(recipe.corpus(&options)?, &folder.join(out), &options)
}

/// All files of a folder but those that hold times.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path));
    named.filter(|(name, _)| name != TIMINGS).map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

#[test]
fn a_build_counts_what_it_leaves_out_and_gives_the_same_bytes_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    corpus(folder);
    let built = run(folder, RECIPE, "one", 1).unwrap();
    let manifest = built.manifest;
    assert_eq!((manifest.read, manifest.written), (46, 38));
    let rejects: Vec<(&str, Vec<(&str, u64)>)> = manifest
        .stages
        .iter()
        .map(|s| {
            (s.stage.as_str(), s.rejects.iter().map(|(reason, count)| (reason.as_str(), *count)).collect())
        })
        .collect();
    let expected = vec![
        ("read", vec![("malformed", 1), ("missing-file", 1), ("not-utf8", 1), ("unsafe-path", 1)]),
        ("validate", vec![("damaged", 1)]),
        ("deduplicate-exact", vec![("duplicate", 1)]),
        ("filter-score", vec![("score", 2)]),
        ("split", vec![]),
        ("write", vec![]),
    ];
    assert_eq!(rejects, expected);
    let log = fs::read_to_string(folder.join("one/rejects.jsonl")).unwrap();
    let log: Vec<Rejected> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(log.len(), 8);
    assert!(log.iter().any(|r| r.key == "cut" && r.stage == "validate" && r.reason == "damaged"));
    assert!(log.iter().any(|r| r.key == "again" && r.detail == "the same as sample number 0"));

    let mut keys = Vec::new();
    for shard in &manifest.shards {
        let path = folder.join("one").join(&shard.file);
        assert_eq!(fs::metadata(&path).unwrap().len(), shard.bytes);
        let samples: Vec<_> = webdataset::read(&path, 1 << 20).unwrap().map(Result::unwrap).collect();
        assert_eq!(samples.len() as u64, shard.samples);
        assert!(samples.iter().all(|s| s.meta["width"] == 40 && s.media[0].extension == "png"));
        keys.extend(samples.into_iter().map(|sample| sample.key));
    }
    keys.sort();
    let mut expected: Vec<String> = (2..40).map(|i| format!("s{i}")).collect();
    expected.sort();
    assert_eq!(keys, expected);
    let splits: Vec<&str> = manifest.shards.iter().map(|shard| shard.split.as_str()).collect();
    assert!(splits.contains(&"val") && splits.contains(&"train"));

    for threads in [2, 3, 7] {
        run(folder, RECIPE, "many", threads).unwrap();
        assert_eq!(contents(&folder.join("many")), contents(&folder.join("one")), "{threads} threads");
        fs::remove_dir_all(folder.join("many")).unwrap();
    }
}

#[test]
fn a_killed_build_is_completed_and_a_whole_one_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    corpus(folder);
    run(folder, RECIPE, "whole", 2).unwrap();
    // What a kill leaves: the mark, a finished shard or two, one under way, and no manifest.
    let killed = folder.join("killed");
    fs::create_dir(&killed).unwrap();
    for name in [".building", "train-00000.tar", "train-00007.tar", "val-00000.tar.tmp", "rejects.jsonl.tmp"]
    {
        fs::write(killed.join(name), b"half").unwrap();
    }
    run(folder, RECIPE, "killed", 2).unwrap();
    assert_eq!(contents(&killed), contents(&folder.join("whole")));
    assert!(!killed.join(".building").exists());

    let again = run(folder, RECIPE, "whole", 1).unwrap();
    assert!(again.timings.is_none());
    let other = run(folder, &RECIPE.replace("min = 2", "min = 3"), "whole", 1).unwrap_err();
    assert!(other.to_string().contains("another corpus"), "{other}");
    // A folder of somebody else's is not cleared.
    fs::create_dir(folder.join("other")).unwrap();
    fs::write(folder.join("other/train-00000.tar"), b"precious").unwrap();
    assert!(run(folder, RECIPE, "other", 1).is_err());
    assert_eq!(fs::read(folder.join("other/train-00000.tar")).unwrap(), b"precious");
}

#[test]
fn a_sample_stays_in_its_split_when_the_corpus_grows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let splits = |count: usize| -> BTreeMap<String, String> {
        let lines: Vec<String> =
            (0..count).map(|i| format!(r#"{{"id": "k{}", "text": "t{i}"}}"#, count - i)).collect();
        fs::create_dir_all(folder.join("in")).unwrap();
        fs::write(folder.join("in/captions.jsonl"), lines.join("\n")).unwrap();
        let recipe = "[[read]]\npath = \"in/captions.jsonl\"\n[[stage]]\nrun = \"split\"\nfractions = { val = 0.2, test = 0.1 }";
        let built = run(folder, recipe, &format!("out-{count}"), 2).unwrap();
        let mut found = BTreeMap::new();
        for shard in built.manifest.shards {
            for sample in
                webdataset::read(&folder.join(format!("out-{count}")).join(&shard.file), 1 << 20).unwrap()
            {
                found.insert(sample.unwrap().key, shard.split.clone());
            }
        }
        found
    };
    let (small, large) = (splits(400), splits(900));
    assert!(small.iter().all(|(key, split)| large[key] == *split));
    let share = |name: &str| large.values().filter(|split| *split == name).count() as f64 / 900.0;
    assert!((share("val") - 0.2).abs() < 0.05 && (share("test") - 0.1).abs() < 0.04);
}

#[test]
fn samples_with_one_key_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir_all(folder.join("in")).unwrap();
    let lines = "{\"id\": 7, \"text\": \"one\"}\n{\"id\": 7, \"text\": \"two\"}\n";
    fs::write(folder.join("in/captions.jsonl"), lines).unwrap();
    let built = run(folder, "[[read]]\npath = \"in/captions.jsonl\"", "out", 1).unwrap();
    let shard = folder.join("out").join(&built.manifest.shards[0].file);
    let samples: Vec<_> = webdataset::read(&shard, 1 << 20).unwrap().map(Result::unwrap).collect();
    let found: Vec<_> = samples.iter().map(|s| (s.key.as_str(), s.text.as_deref().unwrap())).collect();
    assert_eq!(found, [("7", "one"), ("7~1", "two")]);
}

/// A stage's panic costs its sample only, and a failure of a gate ends the run.
#[test]
fn a_panic_costs_one_sample_and_a_broken_gate_the_run() {
    struct Broken;
    impl Gate for Broken {
        fn admit(&mut self, _: &mut [crate::Item]) -> Result<Vec<crate::stage::Verdict>> {
            Err(Error::Config("the device is gone".into()))
        }
    }
    let corpus = |stages| Corpus {
        name: "test".into(),
        recipe: String::new(),
        inputs: BTreeMap::new(),
        draws: Box::new((0..100).map(|i| {
            let sample =
                crate::Sample { key: format!("k{i}"), text: Some("t".into()), ..crate::Sample::default() };
            format::Draw::new(1, move || Ok(sample))
        })),
        left_out: format::LeftOut::default(),
        stages,
        write: WriteSettings::default(),
        max_pixels: 1,
    };
    let folder = tempfile::tempdir().unwrap();
    let fragile = |item: &mut crate::Item| match item.ordinal {
        13 => panic!("a decoder's bug"),
        _ => Ok(()),
    };
    let options = BuildOptions { threads: 3, ..BuildOptions::default() };
    let stages = vec![("fragile".to_owned(), Stage::each(Pictures::Unseen, fragile))];
    let built = build(corpus(stages), &folder.path().join("a"), &options).unwrap();
    assert_eq!(built.manifest.written, 99);
    assert_eq!(built.manifest.stages[1].rejects["crashed"], 1);
    let pass = |_: &mut crate::Item| Ok(());
    let stages = vec![("broken".to_owned(), Stage::compare(Pictures::Unseen, pass, Broken))];
    let error = build(corpus(stages), &folder.path().join("b"), &options).unwrap_err();
    assert_eq!(error.to_string(), "the device is gone");
    assert!(!folder.path().join("b").join(MANIFEST).exists());
}
