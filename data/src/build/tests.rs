use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::format::webdataset;

/// A folder with a corpus of a few images and captions, good and bad ones.
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
    let (mut found, mut pending) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(next) = pending.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => pending.push(path),
                false => {
                    let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
    }
    found.remove(TIMINGS);
    found
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
    // What a kill leaves: the folder of the build, a finished shard or two, one under way, and no manifest.
    let killed = folder.join("killed");
    for split in ["train", "val"] {
        fs::create_dir_all(killed.join(".building").join(split)).unwrap();
    }
    for name in ["lock", "train/00000.tar", "train/00007.tar", "val/00000.tar.tmp", "rejects.jsonl.tmp"] {
        fs::write(killed.join(".building").join(name), b"half").unwrap();
    }
    run(folder, RECIPE, "killed", 2).unwrap();
    assert_eq!(contents(&killed), contents(&folder.join("whole")));
    assert!(!killed.join(".building").exists());

    let again = run(folder, RECIPE, "whole", 1).unwrap();
    assert!(again.timings.is_none());
    let other = run(folder, &RECIPE.replace("\"test\"", "\"other\""), "whole", 1).unwrap_err();
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
        inputs: Inputs::default(),
        draws: Box::new((0..100).map(|i| {
            let sample =
                crate::Sample { key: format!("k{i}"), text: Some("t".into()), ..crate::Sample::default() };
            format::Draw::new(1, move || Ok(sample))
        })),
        left_out: format::LeftOut::default(),
        stages,
        write: WriteSettings::default(),
        max_pixels: 1,
        group: None,
        splits: Vec::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    let fragile = |item: &mut crate::Item| match item.ordinal {
        13 => panic!("a decoder's bug"),
        _ => Ok(()),
    };
    let options = BuildOptions { threads: 3, ..BuildOptions::default() };
    let stages = vec![("fragile".to_owned(), Stage::each(ImageUse::Unseen, fragile))];
    let built = build(corpus(stages), &folder.path().join("a"), &options).unwrap();
    assert_eq!(built.manifest.written, 99);
    assert_eq!(built.manifest.stages[1].rejects["crashed"], 1);
    let pass = |_: &mut crate::Item| Ok(());
    let stages = vec![("broken".to_owned(), Stage::compare(ImageUse::Unseen, pass, Broken))];
    let error = build(corpus(stages), &folder.path().join("b"), &options).unwrap_err();
    assert_eq!(error.to_string(), "the device is gone");
    assert!(!folder.path().join("b").join(MANIFEST).exists());
}

/// Everything that a build can be told to have changed, each by itself, and nothing where nothing has.
#[test]
fn a_corpus_is_built_anew_when_the_content_of_what_it_was_made_of_changes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    corpus(folder);
    fs::write(folder.join("bench.txt"), "a text of five words or more").unwrap();
    let recipe = format!("{RECIPE}\n[[stage]]\nrun = \"decontaminate\"\nagainst = [\"bench.txt\"]\n");
    let first = run(folder, &recipe, "out", 2).unwrap();
    assert!(first.changes.is_none() && first.manifest.inputs["in/captions.jsonl"].sha256.is_some());
    assert_eq!(
        first.manifest.media.as_ref().unwrap().files,
        42,
        "40 pictures, a cut one, and one that is missing"
    );
    let same = |what: &str| {
        let again = run(folder, &recipe, "out", 1).unwrap();
        assert!(again.timings.is_none() && again.changes.is_none(), "{what}: {:?}", again.changes);
    };
    let changed = |what: &str| {
        let changes = run(folder, &recipe, "out", 2).unwrap().changes.unwrap_or_else(|| panic!("{what}"));
        same(what);
        changes
    };
    same("nothing has changed");
    // A label of the same size.
    let rows = folder.join("in/captions.jsonl");
    let text = fs::read(&rows).unwrap();
    let at = text.windows(9).position(|w| w == b"number 7\"").unwrap();
    let mut corrected = text.clone();
    corrected[at + 7] = b'8';
    fs::write(&rows, corrected).unwrap();
    assert_eq!(changed("label").to_string(), "1 file with other content: in/captions.jsonl");
    // An image of the same size and time.
    let image = folder.join("pictures/9.png");
    let (mut bytes, time) = (fs::read(&image).unwrap(), fs::metadata(&image).unwrap().modified().unwrap());
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&image, bytes).unwrap();
    fs::File::options().write(true).open(&image).unwrap().set_modified(time).unwrap();
    assert_eq!(changed("picture").changed, ["pictures/9.png"]);
    // An image that was missing, one that is gone, a benchmark, a shard that was lost.
    fs::copy(folder.join("pictures/1.png"), folder.join("pictures/gone.png")).unwrap();
    assert_eq!(changed("there now").changed, ["pictures/gone.png"]);
    fs::remove_file(folder.join("pictures/3.png")).unwrap();
    assert_eq!(changed("gone").removed, ["pictures/3.png"]);
    fs::write(folder.join("bench.txt"), "a text of five words or MORE").unwrap();
    assert_eq!(changed("benchmark").changed, ["bench.txt"]);
    fs::remove_file(folder.join("out/val/00000.tar")).unwrap();
    assert_eq!(changed("shard").lost, ["val/00000.tar"]);
    // The recipe, and the seed.
    let other = run(folder, &recipe.replace("min = 2", "min = 3"), "out", 1).unwrap();
    assert_eq!(other.changes.unwrap().to_string(), "changed: the recipe");
    assert!(other.manifest.written < first.manifest.written);
    let read = Recipe::parse(&folder.join("recipe.toml"), &recipe).unwrap();
    let options = BuildOptions { seed: 1, threads: 1, ..BuildOptions::default() };
    let changes =
        build(read.corpus(&options).unwrap(), &folder.join("out"), &options).unwrap().changes.unwrap();
    assert_eq!(changes.settings, ["the recipe", "the seed, from 0 to 1"]);
    assert_eq!(changed("seed").settings, ["the seed, from 1 to 0"]);
    // A second build gives the same corpus as the first.
    run(folder, &recipe, "fresh", 3).unwrap();
    assert_eq!(contents(&folder.join("out")), contents(&folder.join("fresh")));
}

#[test]
fn a_folder_of_images_is_an_input_with_its_texts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    corpus(folder);
    fs::write(folder.join("pictures/1.txt"), "one").unwrap();
    let recipe = "[[read]]\npath = \"pictures\"\nformat = \"folder\"\n";
    let run = |recipe: &str| run(folder, recipe, "out", 2).unwrap();
    assert_eq!(run(recipe).manifest.written, 41);
    // What is not read does not count.
    fs::write(folder.join("pictures/notes.md"), "notes").unwrap();
    assert!(run(recipe).timings.is_none());
    fs::write(folder.join("pictures/2.txt"), "two").unwrap();
    assert_eq!(run(recipe).changes.unwrap().added, ["pictures/2.txt"]);
    fs::write(folder.join("pictures/1.txt"), "ONE").unwrap();
    assert_eq!(run(recipe).changes.unwrap().changed, ["pictures/1.txt"]);
    fs::remove_file(folder.join("pictures/1.txt")).unwrap();
    assert_eq!(run(recipe).changes.unwrap().removed, ["pictures/1.txt"]);
    // Another recipe over the same folder is the same corpus.
    assert!(run(&format!("{recipe}limit = 3\n")).changes.is_some());
}

#[test]
fn an_old_corpus_stays_until_the_new_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    corpus(folder);
    run(folder, RECIPE, "out", 2).unwrap();
    let out = folder.join("out");
    fs::write(out.join("notes.md"), "mine").unwrap();
    let old = contents(&out);
    // Nothing comes of it: no sample passes.
    let empty = RECIPE.replace("min = 2", "min = 2000");
    let error = run(folder, &empty, "out", 2).unwrap_err();
    let Error::Empty { why, rejects, .. } = &error else { panic!("{error}") };
    assert!(why.contains("all 46 that were read were rejected; filter-score: score 40 ('s0'"), "{why}");
    assert_eq!(fs::read_to_string(rejects).unwrap().lines().count(), 46);
    let without = |mut all: BTreeMap<String, Vec<u8>>| {
        all.retain(|name, _| !name.starts_with(".building"));
        all
    };
    assert_eq!(without(contents(&out)), old);
    // A stage that cannot be built, and a build that was killed on its way.
    assert!(
        run(
            folder,
            &RECIPE.replace(
                "[[stage]]\nrun = \"validate\"",
                "[[stage]]\nrun = \"split\"\nfractions = { a = 3.0 }\n[[stage]]\nrun = \"validate\""
            ),
            "out",
            2
        )
        .is_err()
    );
    fs::create_dir_all(out.join(".building/train")).unwrap();
    fs::write(out.join(".building/train/00000.tar"), "half").unwrap();
    assert_eq!(without(contents(&out)), old);
    assert!(crate::loader::Dataset::at(&out.join("train")).is_ok());

    // Killed while the new files are moved to their places: at every moment the next build finishes it.
    let new = RECIPE.replace("min = 2", "min = 9").replace("val = 0.25", "val = 0.25, test = 0.1");
    run(folder, &new, "new", 2).unwrap();
    let (recipe, manifest) =
        (Recipe::parse(&folder.join("recipe.toml"), &new).unwrap(), folder.join("new/manifest.json"));
    for moved in 0..=6 {
        let at = folder.join(format!("moved-{moved}"));
        copy(&out, &at);
        let _ = fs::remove_dir_all(at.join(".building"));
        copy(&folder.join("new"), &at.join(".built"));
        // As `output_folder::settle` goes: the old files, the new ones in order, the manifest.
        let names = ["inputs.jsonl", "rejects.jsonl", "test", "timings.json", "train", "val"];
        if moved > 0 {
            for name in ["train", "val"] {
                fs::remove_dir_all(at.join(name)).unwrap();
            }
            for name in ["rejects.jsonl", "timings.json", "inputs.jsonl", "manifest.json"] {
                fs::remove_file(at.join(name)).unwrap();
            }
        }
        for name in &names[..moved] {
            fs::rename(at.join(".built").join(name), at.join(name)).unwrap();
        }
        if moved == 6 {
            fs::rename(at.join(".built/manifest.json"), at.join("manifest.json")).unwrap();
        }
        let error = crate::loader::Dataset::at(&at.join("train")).unwrap_err().to_string();
        assert!(error.contains("cut off at its end") || moved > 0 && moved < 5, "{error}");
        let options = BuildOptions::default();
        let built = build(recipe.corpus(&options).unwrap(), &at, &options).unwrap();
        assert!(built.timings.is_none(), "{moved}: {:?}", built.changes);
        let mut found = contents(&at);
        assert_eq!(found.remove("notes.md").as_deref(), Some(&b"mine"[..]));
        assert_eq!(found, contents(&folder.join("new")), "{moved}");
    }
    assert!(manifest.exists());
    // A split is not written over files of somebody else's.
    fs::create_dir(out.join("test")).unwrap();
    fs::write(out.join("test/mine.txt"), "mine").unwrap();
    let error = run(folder, &new, "out", 2).unwrap_err().to_string();
    assert!(error.contains("test/mine.txt") && error.contains("no build wrote it"), "{error}");
    assert!(out.join("train/00000.tar").exists());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let place = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &place);
        } else {
            fs::copy(&path, &place).unwrap();
        }
    }
}

/// A recipe's folder has one meaning, whatever leads there and whatever characters its name has.
#[cfg(unix)]
#[test]
fn the_way_to_a_recipe_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("re[a]l *?");
    fs::create_dir(&real).unwrap();
    corpus(&real);
    fs::create_dir(real.join("sub")).unwrap();
    fs::write(real.join("recipe.toml"), RECIPE.replace("in/captions.jsonl", "in/*.jsonl")).unwrap();
    std::os::unix::fs::symlink(&real, folder.path().join("link")).unwrap();
    let ways = ["recipe.toml", "./recipe.toml", "sub/../recipe.toml", "sub/.././in/../recipe.toml"];
    let ways = ways.iter().map(|way| real.join(way)).chain([folder.path().join("link/recipe.toml")]);
    let mut first = None;
    for (number, way) in ways.enumerate() {
        let (recipe, options) = (Recipe::open(&way).unwrap(), BuildOptions::default());
        let out = folder.path().join(format!("out-{number}"));
        let built = build(recipe.corpus(&options).unwrap(), &out, &options).unwrap();
        assert_eq!(built.manifest.written, 38, "{}", way.display());
        let found = contents(&out);
        assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{}", way.display());
        // The corpus is known again by another way.
        let again = build(recipe.corpus(&options).unwrap(), &folder.path().join("out-0"), &options).unwrap();
        assert!(again.timings.is_none(), "{}: {:?}", way.display(), again.changes);
    }
    assert_eq!(Recipe::parse(Path::new("recipe.toml"), RECIPE).unwrap().folder, Path::new("."));
}

#[test]
fn many_rejects_are_warned_of_and_a_recipe_says_how_many() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    corpus(folder);
    let manifest = run(folder, RECIPE, "out", 1).unwrap().manifest;
    let warnings = manifest.warnings(0.1);
    let expected = "test: 8 of 46 samples (17.4 %) were rejected, more than max_rejected = 0.1; the most frequent reasons: \
                    filter-score: score 2, read: malformed 1, read: missing-file 1; rejects.jsonl has a line for each";
    assert_eq!(warnings, [expected]);
    assert!(manifest.warnings(0.2).is_empty());
    let parse = |text: &str| {
        Recipe::parse(Path::new("r.toml"), &format!("{text}\n{RECIPE}").replacen("name = \"test\"", "", 1))
    };
    assert_eq!(parse("").unwrap().max_rejected, 0.1);
    assert_eq!(parse("max_rejected = 1.0").unwrap().max_rejected, 1.0);
    assert!(parse("max_rejected = 5").is_err());
    assert!(parse("group = \"patient\"").unwrap_err().to_string().contains("meta.NAME"));
}
