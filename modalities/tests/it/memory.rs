//! Memory that decoding gives back.

use percept_modalities::audio::{Limits, decode_bytes};

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
