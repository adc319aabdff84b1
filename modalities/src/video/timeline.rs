//! When the frames of a video are shown.

use super::Sampling;
use crate::error::Result;

/// Seconds by which a frame may be off its place in a steady rate: clocks that count milliseconds round, and
/// cameras waver.
const WAVER: f64 = 0.005;

/// What separates two moments, in seconds. Less is rounding: many containers count milliseconds.
const MOMENT: f64 = 0.000_6;

/// The first tick of a rate that is not before a moment, in seconds.
pub fn tick_from(seconds: f64, rate: f64) -> f64 {
    ((seconds - MOMENT) * rate).ceil().max(0.0) / rate
}

/// The presentation times of a video's frames.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// When each frame appears, in seconds after the first of them; they never fall.
    pub times: Vec<f64>,
    /// How long the video is shown: until the end of its last frame.
    pub seconds: f64,
    /// Frames per second, on average over `seconds`.
    pub fps: f64,
    /// Every frame is shown equally long, so that frame `i` appears at `i / fps`.
    pub steady: bool,
}

impl Timeline {
    /// From times on any clock in the order of presentation, how long the last frame is shown (0 where the
    /// file does not say), and the rate that the file states.
    pub(super) fn new(mut times: Vec<f64>, last: f64, stated: f64) -> Self {
        let first = times.first().copied().unwrap_or(0.0);
        let mut latest = 0.0_f64;
        for time in &mut times {
            latest = latest.max(*time - first);
            *time = latest;
        }
        let count = times.len() as f64;
        let last = if last > 0.0 && last.is_finite() { last } else { 1.0 / stated };
        let seconds = latest + last;
        let steady = |fps: f64| {
            let waver = WAVER.min(0.5 / fps);
            let spaced = times.iter().enumerate().all(|(i, time)| (time - i as f64 / fps).abs() <= waver);
            // Of the last frame's length some files state less than all.
            let (less, more) = (count / fps - seconds, seconds - count / fps);
            spaced && less <= 1.0 / fps + waver && more <= 0.5 / fps + waver
        };
        // Where the stated rate is wrong, the frames may still come at a steady one.
        let found = if latest > 0.0 { (count - 1.0) / latest } else { stated };
        match [stated, found].into_iter().find(|fps| steady(*fps)) {
            Some(fps) => Self { seconds: count / fps, fps, steady: true, times },
            None => Self { fps: count / seconds, steady: false, seconds, times },
        }
    }

    /// A video of so many frames at a steady rate.
    pub(super) fn steady(frames: usize, fps: f64) -> Self {
        let times = (0..frames).map(|i| i as f64 / fps).collect();
        Self { times, seconds: frames as f64 / fps, fps, steady: true }
    }

    /// When frame `index` appears. At a steady rate it is the quotient that transformers too computes.
    pub(super) fn at(&self, index: usize) -> f64 {
        match self.steady {
            true => index as f64 / self.fps,
            false => self.times.get(index).copied().unwrap_or(self.seconds),
        }
    }

    /// The frame that is shown at a moment, in seconds after the first appears.
    pub fn shown_at(&self, seconds: f64) -> usize {
        self.times.partition_point(|time| *time <= seconds + MOMENT).saturating_sub(1)
    }

    /// The frames of [`Sampling::Thinned`].
    pub(super) fn thinned(&self, rate: f64) -> Vec<usize> {
        let slow = self.times.windows(2).all(|pair| pair[1] - pair[0] >= 1.0 / rate - WAVER.min(0.1 / rate));
        let end = |i: usize| self.times.get(i + 1).copied().unwrap_or(self.seconds);
        let ticks = |i: &usize| slow || tick_from(self.times[*i], rate) < end(*i) - MOMENT;
        (0..self.times.len()).filter(ticks).collect()
    }

    /// The frames that a rule picks. A rule of transformers takes the video for one of a steady rate: where
    /// it is not, the rule's picks are moments, and the frames that are shown then are taken. A rule that
    /// picks every frame picks every frame.
    ///
    /// # Errors
    /// As [`Sampling::indices`].
    pub fn pick(&self, sampling: &Sampling) -> Result<Vec<usize>> {
        let indices = sampling.indices(self.times.len(), self.fps)?;
        if let Sampling::Thinned(rate) = sampling {
            return Ok(self.thinned(*rate));
        }
        let by_number = self.steady || matches!(sampling, Sampling::All | Sampling::Indices(_));
        if by_number || indices.iter().copied().eq(0..self.times.len()) {
            return Ok(indices);
        }
        let mut shown: Vec<usize> =
            indices.into_iter().map(|index| self.shown_at(index as f64 / self.fps)).collect();
        if matches!(sampling, Sampling::Centered { .. }) {
            // This rule shows no frame twice.
            shown.dedup();
        }
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::Quota;

    #[test]
    fn a_steady_rate_keeps_the_stated_one_and_its_numbers() {
        let milliseconds = (0..300).map(|i| (f64::from(i) * 1001.0 / 30.0).round() / 1000.0 + 7.0).collect();
        let stated = 30_000.0 / 1001.0;
        let line = Timeline::new(milliseconds, 0.033, stated);
        assert!(line.steady && line.fps == stated);
        assert_eq!(line.at(100), 100.0 / stated);
        let spread = Sampling::Spread(Quota::Count(4));
        assert_eq!(line.pick(&spread).unwrap(), spread.indices(300, stated).unwrap());
    }

    #[test]
    fn a_wrong_rate_is_replaced_and_moments_find_their_frames() {
        // Ten frames in a third of a second, then one every two seconds: stated at 30 a second.
        let mut times: Vec<f64> = (0..10).map(|i| f64::from(i) / 30.0).collect();
        times.extend((1..=10).map(|i| 2.0 * f64::from(i)));
        let line = Timeline::new(times.clone(), 1.0 / 30.0, 30.0);
        assert!(!line.steady && (line.seconds - 20.033).abs() < 1e-3, "{line:?}");
        let two = Quota::PerSecond { fps: 0.5, least: 1, most: 100 };
        let picked = line.pick(&Sampling::Uniform(two)).unwrap();
        assert_eq!(picked, [0, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
        let all = Quota::PerSecond { fps: 30.0, least: 1, most: 1000 };
        let every = Sampling::Strided { quota: all, multiple: 2 };
        assert_eq!(line.pick(&every).unwrap(), (0..20).collect::<Vec<_>>());
        // Six a second: those that are shown at the sixths of the first second, and all that come later.
        assert_eq!(line.pick(&Sampling::Thinned(6.0)).unwrap()[..5], [0, 5, 9, 10, 11]);
        let slow = Timeline::steady(25, 5.0);
        assert_eq!(slow.pick(&Sampling::Thinned(8.0)).unwrap().len(), 25);
        assert_eq!(
            Timeline::steady(50, 25.0).pick(&Sampling::Thinned(5.0)).unwrap(),
            (0..50).step_by(5).collect::<Vec<_>>()
        );
        assert_eq!((line.shown_at(1.99), line.shown_at(2.0), line.shown_at(99.0)), (9, 10, 19));
    }

    #[test]
    fn a_steady_video_of_another_rate_than_stated_is_steady() {
        let line = Timeline::new((0..50).map(|i| f64::from(i) / 10.0).collect(), 0.1, 25.0);
        assert!(line.steady && (line.fps - 10.0).abs() < 1e-9 && (line.seconds - 5.0).abs() < 1e-9);
        let one = Timeline::new(vec![3.0], 0.0, 25.0);
        assert_eq!((one.seconds, one.at(0)), (0.04, 0.0));
        let still = Timeline::new(vec![3.0], 5.0, 25.0);
        assert_eq!((still.seconds, still.fps), (5.0, 0.2));
        let held = Timeline::new((0..50).map(|i| f64::from(i) / 10.0).collect(), 5.1, 10.0);
        assert!(!held.steady && (held.seconds - 10.0).abs() < 1e-9);
    }
}
