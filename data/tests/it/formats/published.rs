//! Files of data as others publish them.

use std::fs;

use percept_data::{Kind, Sample};

use super::{counted, golden, media, published, refusal, run, tar_of, turn, turns};

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
    let expected = [("column 'picture' names image files that are not read; set image = \"picture\"", 2)];
    assert_eq!(counted(&manifest, "picture"), expected);
    let (samples, manifest, rejects) = run(folder, "[[read]]\npath = \"a.csv\"\nimage = \"picture\"");
    assert_eq!((samples.len(), rejects.len(), manifest.left_out.len()), (2, 1, 0));
    // The structs of a table, where another column is said to hold its images.
    fs::copy(golden("hugging-face.parquet"), folder.join("a.parquet")).unwrap();
    let (_, manifest, _) = run(folder, "[[read]]\npath = \"a.parquet\"\nimage = \"tags\"");
    assert!(!manifest.left_out.is_empty());
    let is_told = |what: &String| what.contains("'image'") || what.starts_with("a sample holds");
    assert!(manifest.left_out.keys().all(is_told), "{:?}", manifest.left_out);
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
        // Its name says that it is a video, and it has audio alone.
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
    // A still image is no video.
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
