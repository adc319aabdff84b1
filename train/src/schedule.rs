//! Learning rates over the steps.

use std::f64::consts::PI;

use crate::config::{Curve, Schedule};

impl Schedule {
    /// What the rate is multiplied by at `step`, counted from 1, of `steps`.
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let step = step.max(1);
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        // As in transformers, what falls is counted by the steps that are done: a run neither begins nor ends
        // at rate 0.
        let share = |from: u64, to: u64| {
            let done = (step - 1).saturating_sub(from) as f64 / to.saturating_sub(from).max(1) as f64;
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
        assert!(near(at(Curve::Cosine, 15), 0.55) && near(at(Curve::Linear, 15), 0.55));
        assert!(near(at(Curve::Cosine, 10), 0.1 + 0.9 * 0.5 * (1.0 + (PI / 4.0).cos())));
        assert!(
            near(at(Curve::Wsd, 15), 1.0) && near(at(Curve::Wsd, 20), 0.55) && near(at(Curve::Wsd, 24), 0.19)
        );
        assert_eq!(at(Curve::Constant, 24), 1.0);
        assert!(near(at(Curve::Linear, 24), 0.1 + 0.9 / 20.0) && near(at(Curve::Linear, 99), 0.1));
    }

    /// By transformers 5: `get_scheduler`, ten steps, three of them warm-up; wsd with a linear fall over the
    /// last four. Its warm-up counts the steps that are done, so that its first has the rate 0; ours counts
    /// the one that is taken.
    #[test]
    fn the_fall_is_that_of_transformers() {
        let fallen: [(Curve, [f64; 7]); 3] = [
            (
                Curve::Cosine,
                [
                    1.0,
                    0.9504844339512095,
                    0.8117449009293668,
                    0.6112604669781572,
                    0.38873953302184283,
                    0.18825509907063326,
                    0.04951556604879048,
                ],
            ),
            (
                Curve::Linear,
                [
                    1.0,
                    0.8571428571428571,
                    0.7142857142857143,
                    0.5714285714285714,
                    0.42857142857142855,
                    0.2857142857142857,
                    0.14285714285714285,
                ],
            ),
            (Curve::Wsd, [1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ];
        for (kind, expected) in fallen {
            let decay = if kind == Curve::Wsd { 4 } else { 0 };
            let schedule = Schedule { kind, warmup: 3, decay, end: 0.0 };
            let found: Vec<f64> = (4..=10).map(|step| schedule.factor(step, 10)).collect();
            for (f, e) in found.iter().zip(expected) {
                assert!((f - e).abs() < 1e-9, "{kind:?}: {found:?}");
            }
            assert_eq!(
                (1..=3).map(|step| schedule.factor(step, 10)).collect::<Vec<_>>(),
                [1.0 / 3.0, 2.0 / 3.0, 1.0]
            );
        }
    }

    #[test]
    fn no_step_is_wasted_at_rate_zero() {
        for kind in [Curve::Constant, Curve::Cosine, Curve::Linear, Curve::Wsd] {
            for (warmup, steps) in [(0, 1), (0, 2), (2, 5), (5, 5), (9, 5)] {
                let schedule = Schedule { kind, warmup, decay: 3, end: 0.0 };
                let all: Vec<f64> = (1..=steps).map(|step| schedule.factor(step, steps)).collect();
                assert!(all.iter().all(|f| *f > 0.0), "{kind:?} over {steps} steps: {all:?}");
            }
        }
    }
}
