//! Tables, texts and folders as their writers made them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use percept_data::hash::perceptual_hash;
use percept_modalities::image::{Limits, decode};

use super::{golden, refusal, run, turn, turns};

#[test]
fn perceptual_hashes_are_those_of_imagehash() {
    let expected: BTreeMap<String, String> =
        serde_json::from_slice(&fs::read(golden("hashes.json")).unwrap()).unwrap();
    assert_eq!(expected.len(), 12);
    for (name, hash) in expected {
        let image = decode(&fs::read(golden(&name)).unwrap(), &Limits::default()).unwrap();
        assert_eq!(format!("{:016x}", perceptual_hash(&image).unwrap()), hash, "{name}");
    }
}

#[test]
fn tables_of_hugging_face_are_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("hugging-face.parquet"), folder.path().join("a.parquet")).unwrap();
    let (samples, manifest, rejects) =
        run(folder.path(), "[[read]]\npath = \"a.parquet\"\n[[stage]]\nrun = \"validate\"");
    assert_eq!((manifest.read, rejects.len()), (4, 0), "{rejects:?}");
    let keys: Vec<&str> = samples.iter().map(|s| s.key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "c", "a-00000003"]);
    let media: Vec<Vec<&str>> =
        samples.iter().map(|s| s.media.iter().map(|m| m.extension.as_str()).collect()).collect();
    assert_eq!(media, [vec!["png"], vec!["jpg"], vec![], vec!["png"]]);
    let texts: Vec<Option<&str>> = samples.iter().map(|s| s.text.as_deref()).collect();
    assert_eq!(texts, [Some("first"), None, Some("thïrd"), Some("fourth")]);
    assert_eq!(turns(&samples[0]), [turn("user", &["[image]", "What?"]), turn("assistant", &["This."])]);
    assert_eq!(
        serde_json::Value::Object(samples[0].meta.clone()),
        serde_json::json!({"score": 0.5, "tags": ["x", "y"]})
    );
    assert_eq!(serde_json::Value::Object(samples[1].meta.clone()), serde_json::json!({"tags": []}));
    assert_eq!(samples[2].meta["score"], 7.25);
}

#[test]
fn tables_of_the_cauldron_are_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("cauldron.parquet"), folder.path().join("a.parquet")).unwrap();
    let (samples, _, rejects) =
        run(folder.path(), "[[read]]\npath = \"a.parquet\"\n[[stage]]\nrun = \"validate\"");
    assert!(rejects.is_empty(), "{rejects:?}");
    let counts: Vec<usize> = samples.iter().map(|s| s.media.len()).collect();
    assert_eq!(counts, [2, 0, 1]);
    let expected = [
        turn("user", &["[image]", "[image]", "Which?"]),
        turn("assistant", &["Both."]),
        turn("user", &["And?"]),
        turn("assistant", &["No."]),
    ];
    assert_eq!(turns(&samples[0]), expected);
}

#[test]
fn a_text_of_a_table_that_is_not_utf8_is_one_reject() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("latin1.parquet"), folder.path().join("a.parquet")).unwrap();
    let (samples, _, rejects) = run(folder.path(), "[[read]]\npath = \"a.parquet\"");
    let texts: Vec<_> = samples.iter().map(|s| s.text.clone().unwrap()).collect();
    assert_eq!(texts, ["good", "also good"]);
    assert_eq!((rejects.len(), rejects[0].reason.as_str(), rejects[0].number), (1, "not-utf8", 1));
}

#[test]
fn damaged_files_are_rejects_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = fs::read(golden("hugging-face.parquet")).unwrap();
    fs::write(folder.join("a.parquet"), &whole[..whole.len() / 2]).unwrap();
    // Pages of images are overwritten; the footer is whole.
    let mut spoilt = whole.clone();
    spoilt[600..9000].fill(0xff);
    fs::write(folder.join("b.parquet"), &spoilt).unwrap();
    fs::write(folder.join("c.parquet"), &whole).unwrap();
    fs::write(folder.join("d.jsonl"), "{\"id\": \"d\", \"text\": \"good\"}\n").unwrap();
    let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/webdataset/webdataset.tar");
    let tar = fs::read(tar).unwrap();
    fs::write(folder.join("e.tar"), &tar[..tar.len() / 2 + 100]).unwrap();
    let recipe = "[[read]]\npath = [\"a.parquet\", \"b.parquet\", \"c.parquet\", \"d.jsonl\", \"e.tar\"]";
    let (samples, _, rejects) = run(folder, recipe);
    for key in ["a", "b", "c", "c-00000003", "d"] {
        assert!(samples.iter().any(|sample| sample.key == key), "{key} is missing");
    }
    let damaged: Vec<_> = rejects.iter().filter(|r| r.reason == "damaged-file").collect();
    for file in ["a.parquet", "b.parquet", "e.tar"] {
        assert!(damaged.iter().any(|r| r.detail.contains(file)), "{file}: {rejects:?}");
    }
}

#[test]
fn conversations_of_llava_are_read_object_by_object() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("pictures")).unwrap();
    fs::copy(golden("hash20.png"), folder.join("pictures/x.png")).unwrap();
    let good = r#"{"id": "one", "image": "x.png", "conversations": [
        {"from": "human", "value": "<image>\nWhat \"is\" {this}?"}, {"from": "gpt", "value": "Noise]."}]}"#;
    let twice = r#"{"id": "two", "image": "x.png", "conversations": [
        {"from": "human", "value": "<image> and <image>"}, {"from": "gpt", "value": "One is missing."}]}"#;
    let unknown = r#"{"id": "three", "conversations": [{"from": "robot", "value": "?"}]}"#;
    let text = r#"{"id": "four", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}"#;
    let list = format!("\u{20}[\n{good},\n{twice},{unknown}\n, {text}]\n");
    let recipe = "[[read]]\npath = \"a.json\"\nroot = \"pictures\"\n[[stage]]\nrun = \"validate\"";
    fs::write(folder.join("a.json"), &list).unwrap();
    let (samples, _, rejects) = run(folder, recipe);
    assert_eq!(samples.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["one", "four"]);
    let expected = [turn("user", &["[image]", "What \"is\" {this}?"]), turn("assistant", &["Noise]."])];
    assert_eq!(turns(&samples[0]), expected);
    let reasons: Vec<_> = rejects.iter().map(|r| (r.key.as_str(), r.reason.as_str())).collect();
    assert_eq!(reasons, [("two", "placeholders"), ("three", "malformed")]);
    // A list that is cut off gives what it has.
    fs::write(folder.join("a.json"), &list[..list.len() - 20]).unwrap();
    let (samples, _, rejects) = run(folder, recipe);
    assert_eq!(samples.len(), 1);
    assert!(rejects.iter().any(|r| r.reason == "damaged-file"));
}

#[test]
fn folders_and_csv_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for class in ["cat", "dog"] {
        fs::create_dir_all(folder.join("in").join(class)).unwrap();
        fs::copy(golden("hash20.png"), folder.join("in").join(class).join("1.5.png")).unwrap();
    }
    fs::write(folder.join("in/dog/1.5.txt"), "a dog\n").unwrap();
    fs::write(folder.join("in/dog/notes.md"), "not a medium").unwrap();
    let (samples, ..) = run(folder, "[[read]]\npath = \"in\"");
    let found: Vec<_> = samples
        .iter()
        .map(|s| (s.key.as_str(), s.meta["class"].as_str().unwrap(), s.text.as_deref()))
        .collect();
    assert_eq!(found, [("cat/1%2E5", "cat", None), ("dog/1%2E5", "dog", Some("a dog"))]);

    let csv = b"file_name,caption,stars\nin/cat/1.5.png,\"a cat, \"\"sitting\"\"\",4\nin/dog/1.5.png,caf\xe9,2\nin/dog/1.5.png,x\n";
    fs::write(folder.join("a.csv"), csv).unwrap();
    let recipe = "[[read]]\npath = \"a.csv\"\n[[stage]]\nrun = \"filter-score\"\ncolumn = \"stars\"\nmin = 3";
    let (samples, _, rejects) = run(folder, recipe);
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].text.as_deref(), Some("a cat, \"sitting\""));
    let reasons: Vec<_> = rejects.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(reasons, ["not-utf8", "malformed"]);
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("in")).unwrap();
    // The header of an image of 60 000 x 60 000, which would take ten gigabytes.
    let mut png = fs::read(golden("hash20.png")).unwrap();
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    fs::write(folder.join("in/bomb.png"), png).unwrap();
    fs::write(folder.join("in/large.png"), vec![0; 5000]).unwrap();
    let recipe = "max_bytes = 4900\n[[read]]\npath = \"in\"\n[[stage]]\nrun = \"validate\"";
    let (samples, _, rejects) = run(folder, recipe);
    assert!(samples.is_empty());
    let reasons: Vec<_> = rejects.iter().map(|r| (r.key.as_str(), r.reason.as_str())).collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.contains(&("large", "too-large")));
    assert!(
        matches!(reasons.iter().find(|(key, _)| *key == "bomb"), Some((_, "too-large" | "damaged"))),
        "{reasons:?}"
    );
}

#[test]
fn a_table_that_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(golden("hugging-face.parquet"), folder.join("a.parquet")).unwrap();
    fs::copy(golden("cauldron.parquet"), folder.join("b.parquet")).unwrap();
    let read = "[[read]]\npath = \"*.parquet\"\n";
    let (samples, ..) = run(folder, read);
    let (_, manifest, _) = run(folder, &format!("{read}[write]\nformat = \"parquet\"\nshard_samples = 5"));
    assert_eq!(manifest.shards.iter().map(|s| s.samples).collect::<Vec<_>>(), [5, 2]);
    for shard in &manifest.shards {
        fs::copy(
            folder.join("out").join(&shard.file),
            folder.join(format!("written-{}", shard.file.replace('/', "-"))),
        )
        .unwrap();
    }
    let (again, _, rejects) = run(folder, "[[read]]\npath = \"written-*.parquet\"");
    assert!(rejects.is_empty(), "{rejects:?}");
    assert_eq!(again, samples);
}

#[test]
fn values_of_a_table_are_what_they_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(golden("kinds.json")).unwrap()).unwrap();
    for name in ["kinds", "int96"] {
        fs::copy(golden(&format!("{name}.parquet")), folder.path().join(format!("{name}.parquet"))).unwrap();
    }
    let (samples, manifest, rejects) =
        run(folder.path(), "[[read]]\npath = [\"kinds.parquet\", \"int96.parquet\"]");
    // No column is taken for more than metadata, which is all that there is to tell.
    assert_eq!((samples.len(), rejects.len()), (8, 0), "{rejects:?}");
    let told = super::counted(&manifest, "a sample holds").len();
    assert_eq!(told, manifest.left_out.len(), "{:?}", manifest.left_out);
    for (sample, mut row) in samples.into_iter().zip(expected) {
        if let Some(id) = row.as_object_mut().unwrap().shift_remove("id") {
            assert_eq!(sample.key, id);
        }
        assert_eq!(serde_json::Value::Object(sample.meta), row);
    }
}

#[test]
fn tables_without_rows_hold_nothing_and_columns_of_one_name_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["no-rows", "twice"] {
        fs::copy(golden(&format!("{name}.parquet")), folder.path().join(format!("{name}.parquet"))).unwrap();
    }
    let (samples, manifest, rejects) = run(folder.path(), "[[read]]\npath = \"*.parquet\"");
    assert!(rejects.is_empty(), "{rejects:?}");
    assert_eq!((samples.len(), samples[0].media.len(), samples[0].text.as_deref()), (2, 1, Some("a")));
    assert_eq!(samples[0].meta["text.1"], "a");
    let told: Vec<&String> = manifest.left_out.keys().collect();
    let has = |part: &str| told.iter().any(|note| note.contains(part));
    assert!(has("more than one column is called 'image'") && has("set image = \"image.1\""), "{told:?}");
    let both = "[[read]]\npath = \"twice.parquet\"\nimage = [\"image\", \"image.1\"]";
    let (samples, manifest, _) = run(folder.path(), both);
    assert_eq!((samples[0].media.len(), manifest.left_out.len()), (2, 1), "{:?}", manifest.left_out);
    assert_ne!(samples[0].media[0].bytes, samples[0].media[1].bytes);
}

#[test]
fn tables_that_are_not_read_are_refused_by_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (name, why) in [
        ("brotli", "its column text is packed with brotli"),
        ("encrypted", "it is encrypted"),
        ("encrypted-columns", "it is encrypted"),
    ] {
        let file = format!("{name}.parquet");
        fs::copy(golden(&file), folder.path().join(&file)).unwrap();
        let (samples, _, rejects) = run(folder.path(), &format!("[[read]]\npath = \"{file}\""));
        assert!(samples.is_empty() && rejects[0].detail.contains(why), "{rejects:?}");
    }
}

/// What `git clone` leaves of large files without Git LFS.
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";

#[test]
fn files_that_are_known_and_not_read_are_called_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, what) in [
        ("a.parquet", POINTER.as_bytes(), "Git LFS"),
        ("a.jsonl", POINTER.as_bytes(), "`git lfs pull`"),
        ("a.csv", POINTER.as_bytes(), "Git LFS"),
        ("a.tar", POINTER.as_bytes(), "Git LFS"),
        ("a.arrow", b"ARROW1\0\0", "Apache Arrow (write it as Parquet)"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
        let error = refusal(folder.path(), &format!("path = \"{name}\""));
        assert!(error.contains(what) && error.contains(name), "{error}");
    }
    let dicom = [&[0; 128][..], b"DICM"].concat();
    let rows = [("l.jpg", POINTER.as_bytes()), ("d.jpg", &dicom), ("e.jpg", b"")];
    for (name, bytes) in rows {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::write(folder.path().join("m.csv"), "image\nl.jpg\nd.jpg\ne.jpg\n").unwrap();
    let (_, _, rejects) = run(folder.path(), "[[read]]\npath = \"m.csv\"");
    for (reject, what) in rejects.iter().zip(["Git LFS", "a DICOM image", "an empty file"]) {
        assert!(reject.reason == "unknown-format" && reject.detail.contains(what), "{reject:?}");
    }
    assert_eq!(rejects.len(), 3);
}
