//! A video of any format.

use percept_modalities::video::{Limits, Quota, Sampling, sample_bytes};

/// Decodes and picks four frames, with caps low enough to keep a run quick.
pub fn run(data: &[u8]) {
    let limits = Limits { pixels: 1 << 20, bytes: 1 << 24, decoded: 1 << 28 };
    if let Ok(clip) = sample_bytes("fuzz", data.into(), &Sampling::Spread(Quota::Count(4)), &limits) {
        assert_eq!(clip.frames.len(), clip.indices.len());
        assert!(clip.frames.iter().all(|frame| frame.rgb.len() == 3 * frame.width * frame.height));
        assert!(clip.indices.iter().all(|&index| index < clip.total_frames));
    }
}
