//! The seeds of the fuzz targets, and damaged copies of them: none may panic or take more memory than its file allows.

use std::path::Path;

use percept_model::checkpoint::{Checkpoint, Format, LoadOptions};

#[path = "../../../fuzz/entries/checkpoint.rs"]
mod entry;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let seeds: Vec<_> = files.map(|f| (f.display().to_string(), std::fs::read(&f).unwrap())).collect();
    assert!(!seeds.is_empty(), "{}", folder.display());
    seeds
}

/// Every seed, every prefix of it, and each byte of its head set to what tends to hurt.
fn damage(target: &str, format: Format, head: usize) {
    for (name, seed) in seeds(target) {
        entry::run(format, &seed);
        let opened = Checkpoint::from_bytes(format, &name, seed.clone(), LoadOptions::default());
        let sound = ["sound", "version2", "integers", "float8"].iter().any(|end| name.ends_with(end));
        assert_eq!(opened.is_ok(), sound, "{name}: {:?}", opened.err());
        let step = (seed.len() / 500).max(1);
        for length in (0..seed.len()).step_by(step) {
            let cut = Checkpoint::from_bytes(format, &name, seed[..length].to_vec(), LoadOptions::default());
            assert!(cut.is_err(), "{name} cut to {length} bytes was accepted");
        }
        for at in 0..head.min(seed.len()) {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = seed.clone();
                bad[at] = byte;
                entry::run(format, &bad);
            }
        }
    }
}

#[test]
fn gguf() {
    damage("gguf", Format::Gguf, 900);
}

#[test]
fn safetensors() {
    damage("safetensors", Format::Safetensors, 600);
}

#[test]
fn ctranslate2() {
    damage("ctranslate2", Format::CTranslate2, 600);
}
