//! Every format is read as its writers mean it, and what is wrong with a file is one reject, not the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use percept_data::build::{MANIFEST, Rejected};
use percept_data::format::webdataset;
use percept_data::hash::perceptual_hash;
use percept_data::{BuildOptions, Kind, Manifest, Recipe, Sample, build};
use percept_modalities::image::{Limits, decode};
use percept_modalities::{Content, Part};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Builds a recipe in a folder; the samples in their order, the manifest, and the rejects.
fn run(folder: &Path, recipe: &str) -> (Vec<Sample>, Manifest, Vec<Rejected>) {
    let out = folder.join("out");
    let _ = fs::remove_dir_all(&out);
    let recipe = Recipe::parse(&folder.join("recipe.toml"), recipe).unwrap();
    let options = BuildOptions { threads: 2, ..BuildOptions::default() };
    let log = |path: &Path| -> Vec<Rejected> {
        let rejects = fs::read_to_string(path).unwrap();
        rejects.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let built = match build(recipe.corpus(&options).unwrap(), &out, &options) {
        Ok(built) => built,
        // Nothing has passed, which ends a build: what there is to see are the rejects.
        Err(percept_data::Error::Empty { rejects, .. }) => {
            let rejects = log(&rejects);
            let manifest = serde_json::json!({
                "name": "", "version": "", "seed": 0, "recipe": "", "inputs": {}, "read": rejects.len(), "written": 0,
                "stages": [], "shards": []
            });
            return (Vec::new(), serde_json::from_value(manifest).unwrap(), rejects);
        }
        Err(error) => panic!("{error}"),
    };
    assert!(out.join(MANIFEST).exists());
    let shards = built.manifest.shards.iter().map(|shard| out.join(&shard.file));
    let samples = shards.filter(|path| path.extension().is_some_and(|e| e == "tar"));
    let samples =
        samples.flat_map(|path| webdataset::read(&path, 1 << 20).unwrap()).map(Result::unwrap).collect();
    (samples, built.manifest, log(&out.join("rejects.jsonl")))
}

fn parts(content: &Content) -> Vec<String> {
    match content {
        Content::Nothing => Vec::new(),
        Content::Text(text) => vec![text.clone()],
        Content::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text { text } => text.clone(),
                Part::Image { .. } => "[image]".into(),
                other => format!("{other:?}"),
            })
            .collect(),
    }
}

fn turns(sample: &Sample) -> Vec<(String, Vec<String>)> {
    sample.messages.iter().map(|m| (m.role.clone(), parts(&m.content))).collect()
}

fn turn(role: &str, parts: &[&str]) -> (String, Vec<String>) {
    (role.into(), parts.iter().map(|part| (*part).into()).collect())
}

#[test]
fn perceptual_hashes_are_those_of_imagehash() {
    let expected: BTreeMap<String, String> =
        serde_json::from_slice(&fs::read(golden("hashes.json")).unwrap()).unwrap();
    assert_eq!(expected.len(), 12);
    for (name, hash) in expected {
        let picture = decode(&fs::read(golden(&name)).unwrap(), &Limits::default()).unwrap();
        assert_eq!(format!("{:016x}", perceptual_hash(&picture).unwrap()), hash, "{name}");
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
    // Pages of pictures are overwritten; the footer is whole.
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
    // The header of a picture of 60 000 x 60 000, which would take ten gigabytes.
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

fn published(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published").join(name)
}

/// A file that the decoders are tested with.
fn media(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../modalities/tests").join(name)).unwrap()
}

/// A tar of these files, without the blocks that end it if it is `open`.
fn tar_of(files: &[(&str, &[u8])], open: bool) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(bytes.len() - if open { 1024 } else { 0 });
    bytes
}

/// The error of a recipe that is refused before anything is built.
fn refusal(folder: &Path, read: &str) -> String {
    let recipe = Recipe::parse(&folder.join("recipe.toml"), &format!("[[read]]\n{read}")).unwrap();
    recipe.corpus(&BuildOptions::default()).err().unwrap_or_else(|| panic!("{read} is taken")).to_string()
}

fn counted<'m>(manifest: &'m Manifest, what: &str) -> Vec<(&'m str, u64)> {
    let found = manifest.left_out.iter().filter(|(name, _)| name.contains(what));
    found.map(|(name, count)| (name.as_str(), *count)).collect()
}

#[test]
fn settings_name_the_files_and_fields_of_shards() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(published("wds_conv.tar"), folder.join("conversations.tar")).unwrap();
    for read in ["path = \"conversations.tar\"\nmessages = \"conversations\"", "path = \"conversations.tar\""]
    {
        let (samples, ..) = run(folder, &format!("[[read]]\n{read}\n[[stage]]\nrun = \"validate\""));
        let expected = [turn("user", &["[image]", "hi"]), turn("assistant", &["yo"])];
        assert_eq!((samples.len(), turns(&samples[0])), (1, expected.to_vec()), "{read}");
    }
    let png = fs::read(golden("hash20.png")).unwrap();
    let jpg = media("fixtures/decode/baseline0.jpg");
    let json = br#"{"name": "first", "title": "a title", "caption": "a caption", "stars": 3}"#;
    let files: [(&str, &[u8]); 5] = [
        ("a.left.png", &png),
        ("a.right.jpg", &jpg),
        ("a.txt", b"the text"),
        ("a.json", json),
        ("a.cls", b"7"),
    ];
    fs::write(folder.join("a.tar"), tar_of(&files, false)).unwrap();
    let one = |settings: &str| {
        let (samples, manifest, rejects) = run(folder, &format!("[[read]]\npath = \"a.tar\"\n{settings}"));
        assert!(rejects.is_empty(), "{settings}: {rejects:?}");
        (samples.into_iter().next().unwrap(), manifest)
    };
    let (sample, _) = one("");
    assert_eq!((sample.key.as_str(), sample.text.as_deref(), sample.media.len()), ("a", Some("the text"), 2));
    let (sample, manifest) = one("key = \"name\"\ntext = \"title\"\nimage = \"left.png\"");
    assert_eq!((sample.key.as_str(), sample.text.as_deref()), ("first", Some("a title")));
    let extensions: Vec<_> = sample.media.iter().map(|m| m.extension.as_str()).collect();
    assert_eq!(extensions, ["png"]);
    assert_eq!(sample.meta["txt"], "the text");
    assert_eq!(counted(&manifest, "right.jpg").len(), 1, "{:?}", manifest.left_out);
    let (sample, _) = one("image = [\"right\", \"left\"]\ntext = \"cls\"");
    let extensions: Vec<_> = sample.media.iter().map(|m| m.extension.as_str()).collect();
    assert_eq!((extensions, sample.text.as_deref()), (vec!["jpg", "png"], Some("7")));
    let (sample, _) = one("audio = []\nvideo = []\nlimit = 1\nformat = \"webdataset\"");
    assert_eq!(sample.media.len(), 2);
}

#[test]
fn a_column_that_is_not_there_is_refused_and_the_nearest_is_named_first() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(golden("hash20.png"), folder.join("a.png")).unwrap();
    fs::write(folder.join("a.csv"), "id,picture,caption\n1,a.png,red\n").unwrap();
    fs::write(folder.join("a.jsonl"), "{\"id\": 1, \"picture\": \"a.png\", \"caption\": \"red\"}\n").unwrap();
    fs::write(folder.join("a.json"), "[{\"id\": 1, \"picture\": \"a.png\", \"caption\": \"red\"}]").unwrap();
    let files: [(&str, &[u8]); 2] = [("1.picture.png", b"\x89PNG"), ("1.json", b"{\"caption\": \"red\"}")];
    fs::write(folder.join("a.tar"), tar_of(&files, false)).unwrap();
    for file in ["a.csv", "a.jsonl", "a.json", "a.tar"] {
        for key in ["image", "video", "audio", "text", "messages", "key"] {
            let why = refusal(folder, &format!("path = \"{file}\"\n{key} = \"pictrue\""));
            assert!(
                why.contains(&format!("{key} = \"pictrue\"")) && why.contains("it has picture, "),
                "{why}"
            );
        }
    }
    fs::copy(golden("hugging-face.parquet"), folder.join("a.parquet")).unwrap();
    let why = refusal(folder, "path = \"a.parquet\"\nimage = \"imgae\"");
    assert!(why.contains("it has image, "), "{why}");
    // What a folder cannot honour is refused by name.
    fs::create_dir(folder.join("in")).unwrap();
    fs::copy(golden("hash20.png"), folder.join("in/a.png")).unwrap();
    for key in ["image", "video", "audio", "messages", "key", "root"] {
        let why = refusal(folder, &format!("path = \"in\"\n{key} = \"x\""));
        assert!(why.contains(&format!("[[read]] {key} says nothing of the folder")), "{why}");
    }
    fs::write(folder.join("in/a.caption"), "\u{feff}beside\n").unwrap();
    let (samples, ..) = run(folder, "[[read]]\npath = \"in\"\ntext = \"caption\"");
    assert_eq!(samples[0].text.as_deref(), Some("beside"));
}

#[test]
fn media_that_nothing_takes_are_named_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(golden("hash20.png"), folder.join("a.png")).unwrap();
    fs::write(folder.join("a.csv"), "id,picture,caption\n1,a.png,red\n2,a.png,blue\n3,b.png,green\n")
        .unwrap();
    let (samples, manifest, _) = run(folder, "[[read]]\npath = \"a.csv\"");
    assert_eq!(samples.len(), 3);
    let expected = [("column 'picture' names image files that nothing takes; image = \"picture\" does", 2)];
    assert_eq!(counted(&manifest, "picture"), expected);
    let (samples, manifest, rejects) = run(folder, "[[read]]\npath = \"a.csv\"\nimage = \"picture\"");
    assert_eq!((samples.len(), rejects.len(), manifest.left_out.len()), (2, 1, 0));
    // The structs of a table, where another column is said to hold its pictures.
    fs::copy(golden("hugging-face.parquet"), folder.join("a.parquet")).unwrap();
    let (_, manifest, _) = run(folder, "[[read]]\npath = \"a.parquet\"\nimage = \"tags\"");
    assert!(!manifest.left_out.is_empty());
    assert!(manifest.left_out.keys().all(|what| what.contains("'image'")), "{:?}", manifest.left_out);
    let files: [(&str, &[u8]); 3] = [("a.npy", b"\x93NUMPY\xff"), ("a.txt", b"x"), ("README", b"?")];
    fs::write(folder.join("a.tar"), tar_of(&files, false)).unwrap();
    let (samples, manifest, _) = run(folder, "[[read]]\npath = \"a.tar\"");
    assert_eq!((samples.len(), counted(&manifest, "'.npy'").len()), (1, 1), "{:?}", manifest.left_out);
    fs::create_dir(folder.join("in")).unwrap();
    for name in ["a.png", "b.docx", "c.docx", "a.txt"] {
        fs::write(folder.join("in").join(name), fs::read(golden("hash20.png")).unwrap()).unwrap();
    }
    for name in ["b.docx", "c.docx", "a.txt"] {
        fs::write(folder.join("in").join(name), "PK\u{3}\u{4}").unwrap();
    }
    let (samples, manifest, _) = run(folder, "[[read]]\npath = \"in\"");
    assert_eq!((samples.len(), counted(&manifest, ".docx")[0].1), (1, 2), "{:?}", manifest.left_out);
}

#[test]
fn media_are_known_by_their_bytes_and_columns_take_every_container() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (jpg, opus) = (media("fixtures/decode/baseline0.jpg"), media("media/lossy.opus"));
    let (gif, tiff) = (media("fixtures/decode/animated.gif"), media("fixtures/decode/gray.tiff"));
    let webm = fs::read(published("opus.webm")).unwrap();
    let all: [(&str, &[u8], Kind); 6] = [
        ("a.opus", &opus, Kind::Audio),
        ("b.jfif", &jpg, Kind::Image),
        ("c.bin", &opus, Kind::Audio),
        ("d.data", &tiff, Kind::Image),
        // Its name says that it is a video, and it has sound alone.
        ("e.webm", &webm, Kind::Audio),
        ("f.jpg", &gif, Kind::Image),
    ];
    let files: Vec<(&str, &[u8])> = all.iter().map(|(name, bytes, _)| (*name, *bytes)).collect();
    fs::write(folder.join("a.tar"), tar_of(&files, false)).unwrap();
    fs::create_dir(folder.join("in")).unwrap();
    for (name, bytes, _) in all {
        fs::write(folder.join("in").join(name), bytes).unwrap();
    }
    fs::write(folder.join("in/g"), &jpg).unwrap();
    let kinds = |samples: &[Sample]| samples.iter().map(|s| s.media[0].kind).collect::<Vec<_>>();
    let expected: Vec<Kind> = all.iter().map(|(.., kind)| *kind).collect();
    let validate = "[[stage]]\nrun = \"validate\"";
    let (samples, _, rejects) = run(folder, &format!("[[read]]\npath = \"a.tar\"\n{validate}"));
    assert_eq!(kinds(&samples), expected, "{rejects:?}");
    let (samples, _, rejects) = run(folder, &format!("[[read]]\npath = \"in\"\n{validate}"));
    assert_eq!(kinds(&samples)[..6], expected, "{rejects:?}");
    assert_eq!((samples[6].key.as_str(), samples[6].media[0].extension.as_str()), ("g", "jpg"));

    // A column says what shared containers are, and shards and tables keep it.
    let webp = media("media/animated.webp");
    let apng = media("media/animated.png");
    for (name, bytes) in [("x.gif", &gif), ("x.webp", &webp), ("x.png", &apng), ("x.webm", &webm)] {
        fs::write(folder.join(name), bytes).unwrap();
    }
    fs::write(folder.join("x.mp4"), media("media/bframes.mp4")).unwrap();
    let rows = "film,sound\nx.gif,x.webm\nx.webp,\nx.png,\nx.mp4,\n";
    fs::write(folder.join("a.csv"), rows).unwrap();
    let read = "[[read]]\npath = \"a.csv\"\nvideo = \"film\"\naudio = \"sound\"\n";
    let (samples, _, rejects) = run(folder, &format!("{read}{validate}"));
    assert!(rejects.is_empty(), "{rejects:?}");
    let of = |sample: &Sample| sample.media.iter().map(|m| (m.kind, m.extension.clone())).collect::<Vec<_>>();
    let media: Vec<_> = samples.iter().flat_map(of).collect();
    let expect = |kind, extension: &str| (kind, extension.to_owned());
    let expected = [
        expect(Kind::Video, "video"),
        expect(Kind::Audio, "weba"),
        expect(Kind::Video, "video"),
        expect(Kind::Video, "video"),
        expect(Kind::Video, "mp4"),
    ];
    assert_eq!(media, expected);
    let (_, manifest, _) = run(folder, &format!("{read}[write]\nformat = \"parquet\""));
    let shard = folder.join("again.parquet");
    fs::copy(folder.join("out").join(&manifest.shards[0].file), &shard).unwrap();
    let (again, _, rejects) = run(folder, "[[read]]\npath = \"again.parquet\"");
    assert_eq!((again.iter().flat_map(of).collect::<Vec<_>>(), rejects.len()), (expected.to_vec(), 0));
    // A still picture is no video.
    fs::write(folder.join("b.csv"), "film\na.png\n").unwrap();
    fs::copy(golden("hash20.png"), folder.join("a.png")).unwrap();
    let (_, _, rejects) = run(folder, "[[read]]\npath = \"b.csv\"\nvideo = \"film\"");
    assert_eq!(rejects[0].detail, "a.png is PNG, and no video");
}

#[test]
fn texts_are_read_without_the_mark_before_them_and_unpacked() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let gzip = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let lines = "\u{feff}{\"id\": \"a\", \"text\": \"first\"}\n{\"id\": \"b\", \"text\": \"second\"}\n";
    let list = "\u{feff}[{\"id\": \"a\", \"text\": \"first\"}, {\"id\": \"b\", \"text\": \"second\"}]";
    let table = "\u{feff}id,text\na,first\nb,second\n";
    let tar = tar_of(&[("a.txt", "\u{feff}first".as_bytes()), ("b.txt", b"second")], false);
    for (name, bytes) in [
        ("a.jsonl", lines.as_bytes().to_vec()),
        ("a.json", list.as_bytes().to_vec()),
        ("a.csv", table.as_bytes().to_vec()),
        ("b.jsonl.gz", gzip(lines.as_bytes())),
        ("b.csv.gz", gzip(table.as_bytes())),
        ("a.tar.gz", gzip(&tar)),
        ("packed.tar", gzip(&tar)),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
        let (samples, _, rejects) = run(folder, &format!("[[read]]\npath = \"{name}\""));
        let found: Vec<_> = samples.iter().map(|s| (s.key.as_str(), s.text.as_deref().unwrap())).collect();
        assert_eq!(found, [("a", "first"), ("b", "second")], "{name}: {rejects:?}");
    }
    let wide: Vec<u8> = "\u{feff}{\"id\": 1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes, what) in [
        ("w.jsonl", wide.clone(), "UTF-16"),
        ("w.json", wide.clone(), "UTF-16"),
        ("w.csv", wide.clone(), "UTF-16"),
        ("z.jsonl.zst", b"\x28\xb5\x2f\xfd\0".to_vec(), "packed with zstd"),
        ("z.tar.zst", b"\x28\xb5\x2f\xfd\0".to_vec(), "packed with zstd"),
        ("z.tar.xz", b"\xfd7zXZ\0\0".to_vec(), "packed with xz"),
        ("z.tar.bz2", b"BZh91AY&SY".to_vec(), "packed with bzip2"),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
        let (samples, _, rejects) = run(folder, &format!("[[read]]\npath = \"{name}\""));
        assert!(samples.is_empty() && rejects.len() == 1 && rejects[0].detail.contains(what), "{rejects:?}");
    }
}

#[test]
fn a_shard_without_its_end_has_its_last_sample() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(published("noend.tar"), folder.join("a.tar")).unwrap();
    let (samples, manifest, rejects) = run(folder, "[[read]]\npath = \"a.tar\"");
    assert_eq!(samples.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["k", "l"]);
    assert_eq!((rejects.len(), counted(&manifest, "a.tar: the mark of its end is missing").len()), (0, 1));
    // Cut within a file it is damaged.
    let bytes = fs::read(folder.join("a.tar")).unwrap();
    fs::write(folder.join("a.tar"), &bytes[..bytes.len() - 600]).unwrap();
    let (samples, _, rejects) = run(folder, "[[read]]\npath = \"a.tar\"");
    assert_eq!((samples.len(), rejects[0].reason.as_str()), (1, "damaged-file"));
}

#[cfg(unix)]
#[test]
fn nothing_but_regular_files_of_the_folder_is_opened() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("secret.txt"), "secret").unwrap();
    fs::create_dir(folder.join("in")).unwrap();
    let inside = |name: &str| folder.join("in").join(name);
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        fs::copy(golden("hash20.png"), inside(name)).unwrap();
    }
    symlink("../secret.txt", inside("a.txt")).unwrap();
    symlink("/dev/zero", inside("b.txt")).unwrap();
    symlink("/dev/zero", inside("e.png")).unwrap();
    symlink("a.png", inside("f.png")).unwrap();
    let pipe = |name: &str| {
        assert!(std::process::Command::new("mkfifo").arg(inside(name)).status().unwrap().success())
    };
    pipe("c.txt");
    pipe("g.png");
    fs::write(inside("d.txt"), "plain").unwrap();
    let (samples, manifest, rejects) = run(folder, "[[read]]\npath = \"in\"");
    let found: Vec<_> = samples.iter().map(|s| (s.key.as_str(), s.text.as_deref())).collect();
    assert_eq!(found, [("d", Some("plain"))]);
    let reasons: Vec<_> = rejects.iter().map(|r| (r.key.as_str(), r.reason.as_str())).collect();
    assert_eq!(reasons, [("a", "unsafe-path"), ("b", "unsafe-path"), ("c", "no-file")]);
    assert_eq!(counted(&manifest, "symbolic links")[0].1, 2 + 2);
    assert_eq!(counted(&manifest, "pipes")[0].1, 2);
    // Rows that name such files.
    fs::write(inside("rows.csv"), "image\ne.png\ng.png\n../secret.txt\n/etc/passwd\nf.png\n").unwrap();
    let (samples, _, rejects) = run(folder, "[[read]]\npath = \"in/rows.csv\"");
    let reasons: Vec<_> = rejects.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!((samples.len(), reasons), (1, vec!["unsafe-path", "no-file", "unsafe-path", "unsafe-path"]));
    // Shards that a folder links to are outside of it too.
    fs::create_dir(folder.join("shards")).unwrap();
    fs::write(folder.join("shards/a.jsonl"), "{\"text\": \"one\"}\n").unwrap();
    fs::write(folder.join("other.jsonl"), "{\"text\": \"two\"}\n").unwrap();
    symlink("../other.jsonl", folder.join("shards/b.jsonl")).unwrap();
    assert!(
        std::process::Command::new("mkfifo").arg(folder.join("shards/c.jsonl")).status().unwrap().success()
    );
    let (samples, manifest, _) = run(folder, "[[read]]\npath = \"shards\"");
    assert_eq!((samples.len(), manifest.left_out.len()), (1, 2), "{:?}", manifest.left_out);
}

#[test]
fn bombs_of_tables_and_texts_are_refused_before_they_go_off() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // One text of 20 MB in a dictionary, and rows that all have it.
    fs::copy(published("build_dict.parquet"), folder.join("a.parquet")).unwrap();
    let (samples, _, rejects) = run(folder, "[[read]]\npath = \"a.parquet\"");
    assert!(samples.is_empty() && rejects.len() == 1, "{rejects:?}");
    assert!(rejects[0].detail.contains("its rows come to more than 1024 times"), "{rejects:?}");
    // A quote that is never closed.
    let mut rows = b"id,text\na,good\nb,\"".to_vec();
    rows.resize(80 << 20, b'x');
    fs::write(folder.join("a.csv"), &rows).unwrap();
    let (samples, _, rejects) = run(folder, "[[read]]\npath = \"a.csv\"");
    assert_eq!((samples.len(), rejects.len()), (1, 1));
    assert!(rejects[0].detail.contains("one of its rows is too long"), "{rejects:?}");
    // Many values in few bytes, and nesting.
    let many = format!("{{\"a\": [{}0]}}\n", "0,".repeat(2 << 20));
    let deep = format!("{{\"a\": {}{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
    fs::write(folder.join("a.jsonl"), format!("{many}{deep}{{\"text\": \"good\"}}\n")).unwrap();
    let (samples, _, rejects) = run(folder, "[[read]]\npath = \"a.jsonl\"");
    let reasons: Vec<_> = rejects.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!((samples.len(), reasons), (1, vec!["too-large", "malformed"]));
}

#[test]
fn a_sample_of_many_files_takes_time_in_proportion() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let names: Vec<String> = (0..20_000).map(|at| format!("a.{at}.jpg")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"\xff\xd8\xff"[..])).collect();
    fs::write(folder.join("a.tar"), tar_of(&files, false)).unwrap();
    let started = std::time::Instant::now();
    let samples: Vec<_> = webdataset::read(&folder.join("a.tar"), 1 << 30).unwrap().collect();
    assert_eq!(samples[0].as_ref().unwrap().media.len(), 20_000);
    // By looking through all files for each one it took a minute.
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

/// Every file that the decoders are tested with passes, whatever its rate of frames and its edits; what is cut off of those
/// that say how long they are does not.
#[test]
fn what_is_cut_off_is_damaged_and_what_is_whole_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modalities/tests/media");
    fs::create_dir(folder.join("whole")).unwrap();
    fs::create_dir(folder.join("cut")).unwrap();
    let mut cut = 0;
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(kind) = path.extension().and_then(|e| Kind::of_extension(e.to_str()?)) else { continue };
        let bytes = fs::read(&path).unwrap();
        if ["truncated", "headless"].iter().any(|made| name.starts_with(made)) {
            continue;
        }
        fs::write(folder.join("whole").join(name), &bytes).unwrap();
        // Raw streams say nothing of their length, nor do these, and what is missing of the shortest is within the slack.
        let is_said = !["aac", "h264"].iter().any(|end| name.ends_with(end))
            && !["bare", "miscounted", "uncounted", "short"].iter().any(|made| name.starts_with(made));
        if kind != Kind::Image && is_said {
            fs::write(folder.join("cut").join(name), &bytes[..bytes.len() * 3 / 10]).unwrap();
            cut += 1;
        }
    }
    fs::write(folder.join("cut/truncated.mp4"), media("media/truncated.mp4")).unwrap();
    let validate = "[[stage]]\nrun = \"validate\"";
    let (samples, _, rejects) = run(folder, &format!("[[read]]\npath = \"whole\"\n{validate}"));
    assert!(rejects.is_empty() && samples.len() > 30, "{rejects:?}");
    let (samples, _, rejects) = run(folder, &format!("[[read]]\npath = \"cut\"\n{validate}"));
    let kept: Vec<_> = samples.iter().map(|s| s.key.as_str()).collect();
    assert!(kept.is_empty(), "{kept:?} are cut off");
    assert!(rejects.len() == cut + 1 && rejects.iter().all(|r| r.reason == "damaged"), "{rejects:?}");
}
