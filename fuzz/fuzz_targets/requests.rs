#![no_main]

use std::path::Path;

#[path = "../entries/requests.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    entry::run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity"), data);
});
