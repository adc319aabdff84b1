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
        vec![blob(Kind::Image, "jpg", b"a"), blob(Kind::Audio, "wav", b"c"), blob(Kind::Image, "jpg", b"b")];
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

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, bytes).unwrap();
    packed.finish().unwrap()
}

fn stream(bytes: Vec<u8>) -> Vec<Result<Sample, Error>> {
    read_from(Path::new("x.tar"), std::io::Cursor::new(bytes), DEFAULT_CAP).collect()
}

/// Streamed and by index, which must agree.
fn both_ways(folder: &Path, bytes: &[u8]) -> Vec<Result<Sample, String>> {
    let path = folder.join("both.tar");
    let text = |sample: Result<Sample, Error>| sample.map_err(|e| e.to_string());
    let ways = [bytes.to_vec(), gzip(bytes)].map(|bytes| {
        fs::write(&path, bytes).unwrap();
        let streamed: Vec<_> = read(&path, DEFAULT_CAP).unwrap().map(text).collect();
        let shard = Shard::open(&path).unwrap();
        let indexed: Vec<_> = (0..shard.len()).map(|at| text(shard.read(at))).collect();
        assert_eq!(streamed, indexed);
        assert!(!shard.lacks_end());
        streamed
    });
    let [plain, packed] = ways;
    assert_eq!(plain, packed);
    plain
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
        // By index the same is read, packed or not; only what ends inside a file is damaged.
        fs::write(&path, &bytes[..length]).unwrap();
        let packed = folder.path().join("a.tar.gz");
        fs::write(&packed, gzip(&bytes[..length])).unwrap();
        for path in [&path, &packed] {
            let shard = Shard::open(path);
            assert_eq!(shard.is_ok(), is_open, "cut at {length}: {shard:?}");
            let Ok(shard) = shard else { continue };
            assert!(shard.lacks_end() && shard.len() == before.len());
            for (at, sample) in before.iter().enumerate() {
                assert_eq!(shard.read(at).unwrap(), *sample.as_ref().unwrap(), "cut at {length}");
            }
        }
    }
    // What gzip packed and then was cut off is an error wherever that was.
    let packed = gzip(&bytes);
    for length in (3..packed.len() - 8).step_by(61) {
        fs::write(&path, &packed[..length]).unwrap();
        let shard = Shard::open(&path);
        // All of the samples may be there before the end of the packing.
        assert!(
            shard.as_ref().is_ok_and(|s| s.len() == 4) || matches!(shard, Err(Error::Shard { .. })),
            "{length}"
        );
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
        let shard = Shard::open(&golden.join(name)).unwrap();
        assert_eq!([0, 1].map(|at| shard.read(at).unwrap()), [read[0].clone(), read[1].clone()], "{name}");
    }
}

/// `tests/webdataset/make.py` wrote these with GNU tar: the parts of a file with holes, then a whole one.
#[test]
fn sparse_files_are_refused_and_the_next_file_is_read() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/webdataset");
    let folder = tempfile::tempdir().unwrap();
    for name in ["sparse-gnu.tar", "sparse-0.0.tar", "sparse-0.1.tar", "sparse-1.0.tar"] {
        let read = both_ways(folder.path(), &fs::read(golden.join(name)).unwrap());
        let why = read[0].as_ref().unwrap_err();
        assert!(why.contains(".txt' is a sparse file") && !why.contains("GNUSparseFile"), "{name}: {why}");
        let after = read[1].as_ref().unwrap();
        assert_eq!(
            (read.len(), after.key.as_str(), after.text.as_deref()),
            (2, "c", Some("after")),
            "{name}"
        );
    }
}

/// Python's tarfile takes what has no type and a name that is cut behind a slash for a folder, and loses its bytes.
#[test]
fn files_are_written_with_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let key = format!("{}name", "d/".repeat(80));
    write_all(&path, &[Sample { key, text: Some("x".into()), ..Sample::default() }]);
    let bytes = fs::read(&path).unwrap();
    // The long name's header and its name, then the file's own header.
    assert_eq!((bytes[156], bytes[1024 + 99], bytes[1024 + 156]), (b'L', b'/', b'0'));
}

/// A few kilobytes that would become gigabytes are no shard.
#[test]
fn bombs_of_packed_shards_are_refused_before_they_go_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.gz");
    let mut header = tar::Header::new_gnu();
    header.set_path("a.png").unwrap();
    header.set_size(3 << 30);
    header.set_cksum();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, header.as_bytes()).unwrap();
    for _ in 0..80 {
        std::io::Write::write_all(&mut packed, &[0; 1 << 20]).unwrap();
    }
    fs::write(&path, packed.finish().unwrap()).unwrap();
    let e = Shard::open(&path).unwrap_err().to_string();
    assert!(e.contains("which is no shard's packing"), "{e}");
}
