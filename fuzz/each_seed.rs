//! The fuzzers' seeds through the fuzzers' own entries, as ordinary tests.

use std::path::Path;

/// Each seed of a target, through its entry.
pub fn run(target: &str, entry: impl Fn(&[u8])) {
    // The crate under test stands beside the fuzzers, or above them.
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = ["fuzz/seeds", "../fuzz/seeds"].map(|seeds| crate_folder.join(seeds).join(target));
    let folder = all.iter().find(|folder| folder.exists()).unwrap_or(&all[1]);
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        entry(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} has no seeds", folder.display());
}

/// Faults in the middle of a file matter too: bytes changed and the end cut off.
pub fn spoiled(entry: impl Fn(&[u8])) -> impl Fn(&[u8]) {
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
