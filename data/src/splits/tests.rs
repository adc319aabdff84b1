use super::*;
use crate::format::webdataset::Writer;
use crate::loader::{Dataset, DatasetConfig};
use crate::{BuildOptions, Recipe, Sample, build};

#[test]
fn names_that_keep_a_split_for_measuring_are_known_in_any_spelling() {
    for name in [
        "held-out",
        "heldout",
        "Held_Out",
        "HELD OUT",
        "heldOut",
        "hold-out",
        "test",
        "Test",
        "TEST2",
        "testA",
        "test-clean",
        "testset",
        "val",
        "valid",
        "Validation",
        "validation_matched",
        "dev",
        "dev-other",
        "eval",
        "my-eval-set",
        "category/held-out",
        "c_heldout",
        "minival",
    ] {
        assert!(is_held_out(name), "{name}");
    }
    for name in [
        "train",
        "training",
        "trainval",
        "all",
        "latest",
        "contest",
        "value",
        "device",
        "attested",
        "retrieval",
        "",
    ] {
        assert!(!is_held_out(name), "{name}");
    }
}

/// A corpus of texts with the splits train and held-out, and none in val.
fn built(folder: &Path) -> PathBuf {
    let lines: Vec<String> =
        (0..40).map(|i| format!("{{\"id\": \"s{i}\", \"text\": \"text {i}\"}}")).collect();
    fs::write(folder.join("in.jsonl"), lines.join("\n")).unwrap();
    let recipe = "name = \"it\"\n[[read]]\npath = \"in.jsonl\"\n[[stage]]\nrun = \"split\"\n\
                  fractions = { held-out = 0.3, val = 0.0 }\n[write]\nshard_samples = 10";
    let recipe = Recipe::parse(&folder.join("it.toml"), recipe).unwrap();
    let out = folder.join("corpus");
    let options = BuildOptions { threads: 1, ..BuildOptions::default() };
    let built = build(recipe.corpus(&options).unwrap(), &out, &options).unwrap();
    assert!(built.manifest.warnings(1.0)[0].contains("no sample went to the split 'val'"));
    out
}

fn shard(path: &Path, keys: &[&str]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = Writer::create(path).unwrap();
    for key in keys {
        writer.push(&Sample { key: (*key).into(), text: Some((*key).into()), ..Sample::default() }).unwrap();
    }
    writer.finish().unwrap();
}

fn open(path: &Path, split: Option<&str>) -> Result<Dataset> {
    Dataset::open(&DatasetConfig { path: path.to_path_buf(), split: split.map(String::from), weight: 1 })
}

#[test]
fn a_split_of_a_built_corpus_is_named_in_every_way_and_never_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = built(folder.path());
    let manifest = Manifest::open(&corpus).unwrap();
    let held_out = manifest.splits["held-out"] as usize;
    assert!(manifest.splits["train"] as usize + held_out == 40 && held_out > 0);
    assert!(manifest.shards.iter().all(|shard| shard.file.starts_with(&format!("{}/", shard.split))));

    let error = open(&corpus, None).unwrap_err().to_string();
    assert!(error.contains("it has the splits held-out, train"), "{error}");
    let error = open(&corpus, Some("test")).unwrap_err().to_string();
    assert!(error.contains("it has no split 'test'; it has held-out, train"), "{error}");
    let error = open(&corpus, Some("val")).unwrap_err().to_string();
    assert!(error.contains("its split 'val' has no samples"), "{error}");
    let colon = PathBuf::from(format!("{}:held-out", corpus.display()));
    for (path, split) in [
        (corpus.clone(), Some("held-out")),
        (corpus.join("held-out"), None),
        (corpus.join("held-out"), Some("held-out")),
        (corpus.join("train/../held-out/"), None),
        (colon, None),
    ] {
        let set = open(&path, split).unwrap();
        assert_eq!((set.split(), set.len()), ("held-out", held_out), "{}", path.display());
        assert_eq!(set.splits().root(), corpus.canonicalize().unwrap());
    }
    let one = open(&corpus.join("held-out/00000.tar"), None).unwrap();
    assert_eq!(one.split(), "held-out");
    for (path, why) in [
        (corpus.join("test"), "it has no split 'test'"),
        (PathBuf::from(format!("{}:test", corpus.display())), "it has no split 'test'"),
        (folder.path().join("nowhere"), "no such file"),
    ] {
        let error = open(&path, None).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // A shard that is not the one that was built.
    let path = corpus.join("held-out/00000.tar");
    shard(&path, &["other"]);
    let error = open(&corpus, Some("held-out")).unwrap_err().to_string();
    assert!(error.contains("the manifest of its corpus says"), "{error}");
}

/// The first corpora that were built had their shards beside the manifest.
#[test]
fn a_corpus_whose_shards_lie_beside_its_manifest_has_splits_too() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = built(folder.path());
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(corpus.join("manifest.json")).unwrap()).unwrap();
    manifest.as_object_mut().unwrap().remove("splits");
    manifest["inputs"] = serde_json::json!({"in.jsonl": 7});
    for shard in manifest["shards"].as_array_mut().unwrap() {
        let old = shard["file"].as_str().unwrap().to_owned();
        let new = old.replace('/', "-");
        fs::rename(corpus.join(&old), corpus.join(&new)).unwrap();
        shard["file"] = new.into();
    }
    fs::write(corpus.join("manifest.json"), manifest.to_string()).unwrap();
    fs::remove_dir(corpus.join("train")).unwrap();
    fs::remove_dir(corpus.join("held-out")).unwrap();
    assert!(open(&corpus, None).unwrap_err().to_string().contains("held-out, train"));
    assert_eq!(open(&corpus, Some("held-out")).unwrap().split(), "held-out");
    assert_eq!(open(&corpus.join("held-out"), None).unwrap().split(), "held-out");
    assert_eq!(open(&corpus.join("held-out-00000.tar"), None).unwrap().split(), "held-out");
}

#[test]
fn shards_without_a_manifest_are_divided_by_their_folders_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in [
        "a/train/00000.tar",
        "a/test/00000.tar",
        "b/train-00000-of-00002.tar",
        "b/train-00001-of-00002.tar",
        "b/Validation-00000.tar",
        "c/0.tar",
        "c/1.tar",
        "d/0.tar",
        "d/val/0.tar",
        "e/only/0.tar",
        "heldout/0.tar",
    ] {
        shard(&at(name), &["k"]);
    }
    fs::write(at("c/manifest.json"), "{\"somebody\": \"else's\"}").unwrap();
    fs::write(at("c/0.parquet"), "a list beside a shard").unwrap();
    for (name, splits) in [("a", "test, train"), ("b", "Validation, train"), ("d", "., val")] {
        let error = open(&at(name), None).unwrap_err().to_string();
        assert!(error.contains(&format!("it has the splits {splits};")), "{error}");
    }
    for (name, split, found, samples) in [
        ("a", Some("train"), "train", 1),
        ("a/test", None, "test", 1),
        ("b", Some("train"), "train", 2),
        ("c", None, "c", 2),
        ("d", Some("val"), "val", 1),
        ("d", Some("."), ".", 1),
        ("e", None, "only", 1),
        ("heldout", None, "heldout", 1),
        ("heldout/0.tar", None, "heldout", 1),
        ("b/Validation-00000.tar", None, "Validation", 1),
    ] {
        let set = open(&at(name), split).unwrap();
        assert_eq!((set.split(), set.len()), (found, samples), "{name}");
    }
    fs::create_dir(at("empty")).unwrap();
    assert!(open(&at("empty"), None).unwrap_err().to_string().contains("without shards"));
    // A name with a colon that is there is that file.
    shard(&at("x:y/0.tar"), &["k"]);
    assert_eq!(open(&at("x:y"), None).unwrap().len(), 1);
}

#[test]
fn a_recipe_that_reads_a_built_corpus_reads_one_split_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = built(folder.path());
    let held_out = Manifest::open(&corpus).unwrap().splits["held-out"];
    let read = |tail: &str| {
        let text = format!("[[read]]\npath = \"corpus\"\n{tail}");
        let recipe = Recipe::parse(&folder.path().join("again.toml"), &text).unwrap();
        let options = BuildOptions { threads: 1, ..BuildOptions::default() };
        let corpus = recipe.corpus(&options)?;
        build(corpus, &folder.path().join("again"), &options)
    };
    assert!(read("").unwrap_err().to_string().contains("held-out, train"));
    assert_eq!(read("split = \"held-out\"").unwrap().manifest.written, held_out);
    let file = "[[read]]\npath = \"in.jsonl\"\nsplit = \"train\"";
    let recipe = Recipe::parse(&folder.path().join("file.toml"), file).unwrap();
    let error = recipe.corpus(&BuildOptions::default()).err().unwrap().to_string();
    assert!(error.contains("it has no split; leave `split` out"), "{error}");
}
