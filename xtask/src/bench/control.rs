//! Whether the machine was quiet: the same arithmetic on every core, looked at between rows.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};

/// Times of the arithmetic that are this much longer than the shortest mean that something else ran.
const SLOWER: f64 = 1.15;

/// What the arithmetic took so far.
pub struct Control {
    /// What it took at the last look.
    last: f64,
}

impl Control {
    /// Looks for the first time.
    pub fn new() -> Self {
        Self { last: arithmetic() }
    }

    /// The slower one of the looks before and behind a row, in milliseconds.
    pub fn look(&mut self) -> f64 {
        let before = std::mem::replace(&mut self.last, arithmetic());
        before.max(self.last)
    }

    /// Marks the rows around which the machine was slower than at its best; how many they are.
    pub fn mark(&self, rows: &mut [Value]) -> usize {
        let of = |row: &Value| row["control_ms"].as_f64().unwrap_or(self.last);
        let best = rows.iter().map(of).fold(self.last, f64::min);
        let mut noisy = 0;
        for row in rows {
            let slow = of(row) > SLOWER * best;
            row["noisy"] = json!(slow);
            noisy += usize::from(slow);
        }
        noisy
    }
}

/// Milliseconds of one pass on all cores together, the best of three.
fn arithmetic() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pass = |_| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for seed in 0..cores as u64 {
                scope.spawn(move || {
                    let step = |x: u64, i: u64| x.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i;
                    black_box((0..8_000_000).fold(seed, step))
                });
            }
        });
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..3).map(pass).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_busy_machine_are_marked() {
        let control = Control { last: 10.0 };
        let mut rows =
            [json!({ "control_ms": 10.5 }), json!({ "control_ms": 13.0 }), json!({ "control_ms": 10.0 })];
        assert_eq!(control.mark(&mut rows), 1);
        assert_eq!(rows.map(|row| row["noisy"].clone()), [json!(false), json!(true), json!(false)]);
    }
}
