//! The fuzzers' seeds through the fuzzers' own entries.

use std::path::Path;

#[path = "../../fuzz/entries/image.rs"]
mod image;
#[path = "../../fuzz/entries/tokenizer.rs"]
mod tokenizer;

fn run(target: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        entry(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} has no seeds", folder.display());
}

#[test]
fn image() {
    run("image", image::run);
}

#[test]
fn tokenizer() {
    run("tokenizer", tokenizer::run);
}
