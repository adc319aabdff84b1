//! The fuzz target of requests on its seeds.

use std::path::Path;

#[path = "../../../fuzz/each_seed.rs"]
mod each_seed;
#[path = "../../../fuzz/entries/requests.rs"]
mod requests;

#[test]
fn requests_of_the_fuzzer_are_understood_or_refused() {
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let entry = |data: &[u8]| requests::run(&parity, data);
    each_seed::run("requests", each_seed::spoiled(entry));
}
