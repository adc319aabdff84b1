//! Short synthesized sounds.

use crate::chance::Chance;

/// The sample rate in samples per second.
pub(super) const RATE: u32 = 16_000;

/// What a tone does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Rising,
    Falling,
    Steady,
    /// Steady, above 900 Hz.
    High,
    /// Steady, below 500 Hz.
    Low,
}

/// A tone of 0.5 to 0.65 seconds as a WAV file: one channel of 16 bits. Its timbre, loudness, envelope and
/// noise are drawn. It starts at 220 Hz or above, and moves by half an octave or more if it moves.
pub(super) fn wav(tone: Tone, chance: &mut Chance) -> Vec<u8> {
    let count = (f64::from(RATE) * chance.between(0.5, 0.65)) as usize;
    let pitch = Sweep::draw(tone, chance);
    let overtones: Vec<f64> = (1..=6).map(|n| chance.between(0.0, 1.0) / f64::from(n)).collect();
    let phases: Vec<f64> = (0..6).map(|_| chance.between(0.0, 1.0)).collect();
    let sum: f64 = 1.0 + overtones[1..].iter().sum::<f64>();
    let level = libm::exp2(chance.between(-3.5, -0.3));
    let hiss = level * libm::exp2(chance.between(-8.0, -3.5));
    let (attack, decay) = (chance.between(0.01, 0.08), chance.between(0.01, 0.15));

    let mut turns = 0.0;
    let samples = (0..count).map(|at| {
        let part = at as f64 / count as f64;
        let frequency = pitch.at(part);
        turns += frequency / f64::from(RATE);
        let mut value = 0.0;
        for (n, phase) in phases.iter().enumerate() {
            let multiple = (n + 1) as f64;
            // Overtones that the rate cannot carry are left out.
            if frequency * multiple < f64::from(RATE) * 0.45 {
                let amplitude = if n == 0 { 1.0 } else { overtones[n] };
                value += amplitude * libm::sin(std::f64::consts::TAU * (turns * multiple + phase));
            }
        }
        let envelope = (part / attack).min((1.0 - part) / decay).min(1.0);
        let value = level * envelope * value / sum + hiss * 0.3 * chance.normal();
        (value.clamp(-1.0, 1.0) * 32_767.0) as i16
    });
    let samples: Vec<i16> = samples.collect();
    file(&samples)
}

/// Frequencies that are even in octaves.
struct Sweep {
    /// Hertz at the beginning.
    from: f64,
    /// Octaves up, or down below zero.
    octaves: f64,
}

impl Sweep {
    fn draw(tone: Tone, chance: &mut Chance) -> Self {
        let moved = chance.between(0.5, 1.5);
        // The lower end, so that rising and falling tones cover the same frequencies.
        let low = 220.0 * libm::exp2(chance.between(0.0, 2.0));
        match tone {
            Tone::Rising => Self { from: low, octaves: moved },
            Tone::Falling => Self { from: low * libm::exp2(moved), octaves: -moved },
            Tone::Steady => Self { from: low * libm::exp2(chance.between(0.0, moved)), octaves: 0.0 },
            Tone::High => Self { from: 900.0 * libm::exp2(chance.between(0.0, 1.0)), octaves: 0.0 },
            Tone::Low => Self { from: 220.0 * libm::exp2(chance.between(0.0, 1.0)), octaves: 0.0 },
        }
    }

    fn at(&self, part: f64) -> f64 {
        self.from * libm::exp2(self.octaves * part)
    }
}

/// A WAV file of one channel: the RIFF header of 44 bytes and the samples.
fn file(samples: &[i16]) -> Vec<u8> {
    let bytes = 2 * samples.len() as u32;
    let mut out = Vec::with_capacity(44 + bytes as usize);
    out.extend(b"RIFF");
    out.extend((36 + bytes).to_le_bytes());
    out.extend(b"WAVEfmt ");
    // Of the format: its length, plain samples, one channel.
    out.extend([16, 0, 0, 0, 1, 0, 1, 0]);
    out.extend(RATE.to_le_bytes());
    out.extend((2 * RATE).to_le_bytes());
    // Bytes and bits of a sample.
    out.extend([2, 0, 16, 0]);
    out.extend(b"data");
    out.extend(bytes.to_le_bytes());
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use percept_modalities::audio;

    use super::*;

    fn samples(tone: Tone, index: u64) -> Vec<f64> {
        let bytes = wav(tone, &mut Chance::new(4, 0, index));
        assert_eq!(bytes[24..28], RATE.to_le_bytes());
        let audio = audio::decode_bytes("tone.wav", &bytes, RATE, &audio::Limits::default()).unwrap();
        audio.samples.iter().map(|&x| f64::from(x)).collect()
    }

    /// The strongest frequency near the middle of a part of a sound, by correlation with each.
    fn pitch(samples: &[f64], part: f64) -> f64 {
        let window = &samples[(part * samples.len() as f64) as usize..][..1200];
        let strength = |frequency: f64| {
            let turn = |at: usize| std::f64::consts::TAU * frequency * at as f64 / f64::from(RATE);
            let sum = |wave: fn(f64) -> f64| {
                window.iter().enumerate().map(|(at, x)| x * wave(turn(at))).sum::<f64>()
            };
            sum(f64::sin).powi(2) + sum(f64::cos).powi(2)
        };
        let candidates = (0..200).map(|step| 200.0 * 2f64.powf(f64::from(step) / 40.0));
        candidates.max_by(|&a, &b| strength(a).total_cmp(&strength(b))).unwrap()
    }

    #[test]
    fn tones_do_what_they_say() {
        for index in 0..10 {
            for tone in [Tone::Rising, Tone::Falling, Tone::Steady, Tone::High, Tone::Low] {
                let samples = samples(tone, index);
                assert!((0.49..0.66).contains(&(samples.len() as f64 / 16_000.0)));
                let (first, last) = (pitch(&samples, 0.05), pitch(&samples, 0.8));
                let moved = (last / first).log2();
                match tone {
                    Tone::Rising => assert!(moved > 0.25, "{moved}"),
                    Tone::Falling => assert!(moved < -0.25, "{moved}"),
                    _ => assert!(moved.abs() < 0.1, "{tone:?}: {moved}"),
                }
                match tone {
                    Tone::High => assert!(first > 850.0, "{first}"),
                    Tone::Low => assert!(first < 480.0, "{first}"),
                    _ => {}
                }
            }
        }
    }
}
