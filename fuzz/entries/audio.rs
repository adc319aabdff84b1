//! A sound of any format.

use percept_modalities::audio::{Limits, decode_bytes};

/// Decodes, with a cap low enough to keep a run quick.
pub fn run(data: &[u8]) {
    if let Ok(sound) = decode_bytes("fuzz", data, 16_000, &Limits { samples: 1 << 20 }) {
        assert!(sound.samples.len() <= 1 << 20);
        assert!(sound.samples.iter().all(|sample| sample.is_finite()));
    }
}
