//! Audio towers.

mod conformer;
mod gemma4;
mod qwen2_5;
mod qwen3;
mod whisper;

pub use conformer::Conformer;
pub use gemma4::Gemma4AudioTower;
pub use qwen2_5::Qwen2_5Tower;
pub use qwen3::{Qwen3Tower, asr_defaults as qwen3_asr_defaults, omni_defaults as qwen3_omni_defaults};
pub(crate) use whisper::block as whisper_block;
pub use whisper::{AudioTower, defaults as whisper_defaults};

/// Whisper's fixed positions f32[rows,width]: sines of geometrically falling frequencies, then their cosines.
pub fn sinusoids(rows: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let frequency = |i: usize| (-(10_000f64.ln() * i as f64) / (half.max(2) - 1) as f64).exp();
    let row = |t: usize| {
        let angles = (0..half).map(move |i| t as f64 * frequency(i));
        angles.clone().map(f64::sin).chain(angles.map(f64::cos)).map(|v| v as f32)
    };
    (0..rows).flat_map(row).collect()
}
