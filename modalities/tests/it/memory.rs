//! Memory that decoding gives back, and that tokenizers take.

use percept_modalities::audio::{Limits, decode_bytes};
use percept_modalities::text::{Tokenizer, TokenizerSettings};

use crate::alone::alone;

/// Bytes of memory that the process has.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Two seconds of silence at 16 kHz, as a wave file.
fn wave() -> Vec<u8> {
    let samples = 64_000u32;
    let mut wave =
        [b"RIFF".as_slice(), &(36 + samples).to_le_bytes(), b"WAVEfmt \x10\0\0\0\x01\0\x01\0"].concat();
    wave.extend(16_000u32.to_le_bytes());
    wave.extend(32_000u32.to_le_bytes());
    wave.extend(b"\x02\0\x10\0data");
    wave.extend(samples.to_le_bytes());
    wave.resize(wave.len() + samples as usize, 0);
    wave
}

#[test]
fn files_that_were_decoded_leave_nothing_behind() {
    alone(|| {
        let wave = wave();
        let decode = |times: usize| {
            for _ in 0..times {
                let audio = decode_bytes("a sound", &wave, 16_000, &Limits::default()).unwrap();
                assert_eq!(audio.samples.len(), 32_000);
            }
        };
        decode(50);
        let before = resident();
        decode(500);
        // What all of them hold is 32 MB.
        let grown = resident().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes are held after they were decoded");
    });
}

#[test]
fn a_tokenizer_does_not_remember_all_words_of_long_texts() {
    alone(|| {
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            ('a'..='z').zip(0..).map(|(letter, id): (char, u32)| (letter.to_string(), id.into())).collect();
        let json = serde_json::json!({
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] }, "pre_tokenizer": { "type": "Whitespace" },
        });
        let tokenizer =
            Tokenizer::from_json(json.to_string().as_bytes(), TokenizerSettings::default()).unwrap();
        // Words of sixteen letters, a thousand a text, each another one.
        let word = |i: usize| (0..16).map(|k| char::from(b'a' + ((i >> k) & 15) as u8)).collect::<String>();
        let encode = |text: usize| {
            let text: Vec<String> = (0..1000).map(|i| word(1000 * text + i)).collect();
            assert_eq!(tokenizer.encode(&text.join(" "), false).unwrap().len(), 16_000);
        };
        (0..2).for_each(encode);
        let before = resident();
        (2..40).for_each(encode);
        // Ten thousand of them take 8 MB.
        let grown = resident().saturating_sub(before);
        assert!(grown < 3 << 20, "{grown} bytes are held after {} words", 40_000);
    });
}
