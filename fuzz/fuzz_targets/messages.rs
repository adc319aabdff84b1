#![no_main]

#[path = "../entries/messages.rs"]
mod entry;
#[path = "../entries/rows.rs"]
mod rows;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
