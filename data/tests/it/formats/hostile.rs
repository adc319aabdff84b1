//! Files that are cut short, or made to do harm.

use std::fs;
use std::path::Path;

use percept_data::Kind;
use percept_data::format::webdataset;

use super::{counted, golden, media, published, run, tar_of};

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
        let is_said = !["aac", "h264", "voc"].iter().any(|end| name.ends_with(end))
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
