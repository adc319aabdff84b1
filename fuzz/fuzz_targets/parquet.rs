#![no_main]

#[path = "../entries/parquet.rs"]
mod entry;
#[path = "../entries/rows.rs"]
mod rows;

// A panic of the parquet crate is one reject, so only those that are not caught end the fuzzer.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |data: &[u8]| entry::run(data));
