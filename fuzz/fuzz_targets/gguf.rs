#![no_main]

#[path = "../entries/checkpoint.rs"]
mod entry;

use percept_model::checkpoint::Format;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(Format::Gguf, data));
