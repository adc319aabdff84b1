//! Learning rates over the steps.

use std::f64::consts::PI;

use crate::config::{Curve, Schedule};

impl Schedule {
    /// What the rate is multiplied by at `step`, counted from 1, of `steps`.
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let share = |from: u64, to: u64| {
            let done = step.saturating_sub(from) as f64 / to.saturating_sub(from).max(1) as f64;
            done.min(1.0)
        };
        let fall = |left: f64| self.end + (1.0 - self.end) * left;
        match self.kind {
            Curve::Constant => 1.0,
            Curve::Cosine => fall(0.5 * (1.0 + (PI * share(self.warmup, steps)).cos())),
            Curve::Linear => fall(1.0 - share(self.warmup, steps)),
            Curve::Wsd => fall(1.0 - share(steps.saturating_sub(self.decay).max(self.warmup), steps)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_rise_stay_and_fall() {
        let schedule = |kind| Schedule { kind, warmup: 4, decay: 10, end: 0.1 };
        let at = |kind, step: u64| schedule(kind).factor(step, 24);
        for kind in [Curve::Constant, Curve::Cosine, Curve::Linear, Curve::Wsd] {
            assert_eq!((at(kind, 1), at(kind, 2), at(kind, 4)), (0.25, 0.5, 1.0));
        }
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(at(Curve::Cosine, 14), 0.55) && near(at(Curve::Linear, 14), 0.55));
        assert!(near(at(Curve::Cosine, 9), 0.1 + 0.9 * 0.5 * (1.0 + (PI / 4.0).cos())));
        assert!(
            near(at(Curve::Wsd, 14), 1.0) && near(at(Curve::Wsd, 19), 0.55) && near(at(Curve::Wsd, 24), 0.1)
        );
        assert_eq!(at(Curve::Constant, 24), 1.0);
        assert!(near(at(Curve::Cosine, 24), 0.1) && near(at(Curve::Linear, 99), 0.1));
        let bare = Schedule { kind: Curve::Linear, warmup: 0, decay: 0, end: 0.0 };
        assert!(near(bare.factor(1, 2), 0.5) && near(bare.factor(1, 1), 0.0));
    }
}
