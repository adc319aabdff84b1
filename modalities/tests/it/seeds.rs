//! The fuzzers' seeds through the fuzzers' own entries.

use std::path::Path;

#[path = "../../../fuzz/entries/audio.rs"]
mod audio;
#[path = "../../../fuzz/entries/image.rs"]
mod image;
#[path = "../../../fuzz/entries/tokenizer.rs"]
mod tokenizer;
#[path = "../../../fuzz/entries/video.rs"]
mod video;

fn run(target: &str, entry: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        entry(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} has no seeds", folder.display());
}

/// Faults in the middle of a file matter too: bytes changed and the end cut off.
fn spoiled(entry: fn(&[u8])) -> impl Fn(&[u8]) {
    move |bytes| {
        entry(bytes);
        for part in 1..8 {
            entry(&bytes[..bytes.len() * part / 8]);
            let mut changed = bytes.to_vec();
            for at in (part * 11..changed.len()).step_by(97) {
                changed[at] ^= 0x55 << (at % 3);
            }
            entry(&changed);
        }
    }
}

#[test]
fn audio() {
    run("audio", spoiled(audio::run));
}

#[test]
fn video() {
    run("video", spoiled(video::run));
}

#[test]
fn image() {
    run("image", spoiled(image::run));
}

#[test]
fn tokenizer() {
    run("tokenizer", tokenizer::run);
}
