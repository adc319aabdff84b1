use std::fs;
use std::path::{Path, PathBuf};

use percept_modalities::{Content, Message, Part};
use serde_json::json;

use super::*;
use crate::error::Error;
use crate::format::Fault;
use crate::sample::{Blob, Kind, Sample};

fn blob(kind: Kind, extension: &str, bytes: &[u8]) -> Blob {
    Blob { kind, extension: extension.to_string(), bytes: bytes.into() }
}

fn samples() -> Vec<Sample> {
    let long = format!("folder/{}", "long".repeat(60));
    let image = Sample {
        key: long,
        media: vec![blob(Kind::Image, "png", &[7; 700])],
        text: Some("a caption: Grüße".to_string()),
        messages: vec![Message::new(
            "user",
            Content::Parts(vec![Part::Image { path: None }, Part::Text { text: "what?".to_string() }]),
        )],
        meta: json!({"width": 3, "licence": "CC0"}).as_object().unwrap().clone(),
    };
    let media =
        vec![blob(Kind::Image, "jpg", b"a"), blob(Kind::Audio, "wav", b""), blob(Kind::Image, "jpg", b"b")];
    let several = Sample { key: "b".to_string(), media, ..Sample::default() };
    let nothing = Sample { key: "c".to_string(), ..Sample::default() };
    let text = Sample { key: "d".to_string(), text: Some(String::new()), ..Sample::default() };
    vec![image, several, nothing, text]
}

fn write_all(path: &Path, samples: &[Sample]) -> Written {
    let mut writer = Writer::create(path).unwrap();
    for sample in samples {
        writer.push(sample).unwrap();
    }
    writer.finish().unwrap()
}

/// A tar file of these files.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        // Set by hand, since the library refuses names that lead out of a folder.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn stream(bytes: Vec<u8>) -> Vec<Result<Sample, Error>> {
    read_from(Path::new("x.tar"), std::io::Cursor::new(bytes), DEFAULT_CAP).collect()
}

/// Streamed and by index, which must agree.
fn both_ways(folder: &Path, bytes: &[u8]) -> Vec<Result<Sample, String>> {
    let path = folder.join("both.tar");
    fs::write(&path, bytes).unwrap();
    let text = |sample: Result<Sample, Error>| sample.map_err(|e| e.to_string());
    let streamed: Vec<_> = read(&path, DEFAULT_CAP).unwrap().map(text).collect();
    let shard = Shard::open(&path).unwrap();
    let indexed: Vec<_> = (0..shard.len()).map(|at| text(shard.read(at))).collect();
    assert_eq!(streamed, indexed);
    streamed
}

#[test]
fn what_is_written_is_read_streamed_and_by_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let written = write_all(&path, &samples());
    let bytes = fs::read(&path).unwrap();
    assert_eq!((written.samples, written.bytes), (4, bytes.len() as u64));
    let read: Vec<_> = both_ways(folder.path(), &bytes).into_iter().map(Result::unwrap).collect();
    assert_eq!(read, samples());
    // Twice the same bytes, with the hash that is claimed.
    let again = write_all(&folder.path().join("b.tar"), &samples());
    assert_eq!(fs::read(again.path).unwrap(), bytes);
    assert_eq!(again.sha256, written.sha256);
    use sha2::Digest;
    let digest: String = sha2::Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(written.sha256, digest);
}

#[test]
fn a_shard_appears_when_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let mut writer = Writer::create(&path).unwrap();
    writer.push(&samples()[1]).unwrap();
    assert!(!path.exists());
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&folder.path().join("a.tar")).unwrap();
    let refuse = |writer: &mut Writer, sample: &Sample| {
        assert!(matches!(writer.push(sample), Err(Error::Sample { .. })), "{sample:?}");
    };
    for key in ["", "a.b", "../a", "/a", "x/", "__a__"] {
        refuse(&mut writer, &Sample { key: key.to_string(), ..Sample::default() });
    }
    for extension in ["PNG", "wav", "txt", "p/ng"] {
        let media = vec![blob(Kind::Image, extension, b"x")];
        refuse(&mut writer, &Sample { key: "a".to_string(), media, ..Sample::default() });
    }
    writer.push(&samples()[1]).unwrap();
    refuse(&mut writer, &samples()[1]);
    assert_eq!(writer.finish().unwrap().samples, 1);
}

#[test]
fn one_bad_sample_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 13] = [
        ("a.txt", b"good"),
        ("b.txt", b"bad \xff"),
        ("b.png", b"x"),
        ("../c.txt", b"out"),
        ("d.json", b"{\"messages\": 3}"),
        ("README", b"skipped"),
        ("e.json", b"[1, 2]"),
        ("e.cls", b"7"),
        ("f.txt", b"1"),
        ("f.txt", b"2"),
        ("g.10.jpg", b"ten"),
        ("g.9.jpg", b"nine"),
        ("h.json", b"{\"meta\": {\"a\": 1}, \"b\": 2}"),
    ];
    let read = both_ways(folder.path(), &tar_of(&files));
    let keys: Vec<_> =
        read.iter().map(|s| s.as_ref().map(|s| s.key.as_str()).map_err(String::as_str)).collect();
    assert_eq!(keys[0], Ok("a"));
    assert!(keys[1].unwrap_err().contains("sample 'b'") && keys[1].unwrap_err().contains("UTF-8 at byte 4"));
    assert!(keys[2].unwrap_err().contains("'..'"), "{:?}", keys[2]);
    assert!(keys[3].unwrap_err().contains("messages"), "{:?}", keys[3]);
    assert_eq!(read[4].as_ref().unwrap().meta, *json!({"json": [1, 2], "cls": "7"}).as_object().unwrap());
    assert!(keys[5].unwrap_err().contains("twice"));
    let jpgs: Vec<_> = read[6].as_ref().unwrap().media.iter().map(|m| m.bytes.to_vec()).collect();
    assert_eq!(jpgs, [b"nine".to_vec(), b"ten".to_vec()]);
    assert_eq!(read[7].as_ref().unwrap().meta, *json!({"a": 1, "b": 2}).as_object().unwrap());
    assert_eq!(read.len(), 8);
}

#[test]
fn a_damaged_shard_gives_what_is_whole_and_then_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    write_all(&path, &samples());
    let bytes = fs::read(&path).unwrap();
    let end = bytes.len() - 1024;
    for length in (0..end).step_by(128) {
        let read = stream(bytes[..length].to_vec());
        let (last, before) = read.split_last().unwrap();
        assert!(matches!(last, Err(Error::Shard { .. })), "cut at {length}: {last:?}");
        // Between two files nothing tells whether more would follow, so what is there is a sample.
        let is_open = last.as_ref().unwrap_err().to_string().contains("without the mark of its end");
        let sure = before.len() - usize::from(is_open && !before.is_empty());
        for (at, (sample, whole)) in before.iter().zip(samples()).enumerate() {
            let sample = sample.as_ref().unwrap();
            match at < sure {
                true => assert_eq!(*sample, whole, "cut at {length}"),
                false => assert_eq!(sample.key, whole.key, "cut at {length}"),
            }
        }
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(Shard::open(&path), Err(Error::Shard { .. })));
    }
    // All but the mark of the end is there.
    let read = stream(bytes[..end].to_vec());
    let found: Vec<_> = read.iter().filter_map(|sample| sample.as_ref().ok().cloned()).collect();
    assert_eq!((found, read.len()), (samples(), 5));
    // Any byte of a header changed is noticed.
    let mut changed = bytes.clone();
    changed[130] ^= 1;
    assert!(matches!(stream(changed)[0], Err(Error::Shard { .. })));
}

#[test]
fn claims_of_size_take_no_memory() {
    let mut header = tar::Header::new_gnu();
    header.set_path("a.png").unwrap();
    header.set_size(1 << 62);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([0; 2048]);
    assert!(matches!(stream(bytes)[0], Err(Error::Shard { .. })));

    let files: [(&str, &[u8]); 3] = [("a.png", &[1; 4000]), ("a.txt", b"x"), ("b.txt", b"y")];
    let read: Vec<_> = read_from(Path::new("x"), std::io::Cursor::new(tar_of(&files)), 3000).collect();
    assert!(matches!(&read[0], Err(Error::Sample { fault: Fault::TooLarge { .. }, .. })));
    assert_eq!(read[1].as_ref().unwrap().key, "b");
}

/// `tests/webdataset/make.py` wrote these with Python's webdataset and tarfile.
#[test]
fn shards_of_other_writers_are_read() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/webdataset");
    for name in ["webdataset.tar", "pax.tar", "gnu.tar", "ustar.tar.gz"] {
        let read: Vec<_> = read(&golden.join(name), DEFAULT_CAP).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), 2, "{name}");
        let long = format!("{}/first", "folder".repeat(16));
        assert_eq!(read[0].key, if name == "webdataset.tar" { "first" } else { long.as_str() });
        assert_eq!(read[0].media, [blob(Kind::Image, "png", b"\x89PNG")]);
        assert_eq!(read[0].text.as_deref(), Some("Grüße"));
        assert_eq!(read[0].meta["licence"], "CC0");
        assert_eq!(read[1].key, "second");
        assert_eq!(read[1].media.iter().map(|m| m.bytes[0]).collect::<Vec<_>>(), [0, 1, 2]);
    }
    let shard = Shard::open(&golden.join("pax.tar")).unwrap();
    assert_eq!(shard.read(0).unwrap().text.as_deref(), Some("Grüße"));
    assert_eq!(shard.read(1).unwrap().media.len(), 3);
}
