//! Which frames of a video a model is given.

use super::Timeline;
use crate::error::{Error, Result};

/// How frames are picked from a video. The rules are those of Hugging Face transformers' video processors, to
/// the frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// All frames of the video.
    All,
    /// These frames, counted from 0 in presentation order.
    Indices(Vec<usize>),
    /// At most so many a second: the frames that are shown at the ticks of this rate, each once. A video
    /// whose frames never come faster keeps them all.
    Thinned(f64),
    /// Frame `i` of `n` is `i * total / n`, rounded down: the rule of processors that have none of their own,
    /// such as LLaVA-OneVision's.
    Uniform(Quota),
    /// A number of frames that is a multiple of `multiple`, rounded down (to the nearest for a fixed count),
    /// in single-precision steps from frame 0: Qwen2-VL and Qwen2.5-VL, whose `multiple` is the temporal
    /// patch size.
    Strided {
        /// The number of frames.
        quota: Quota,
        /// The number that divides the number of frames.
        multiple: usize,
    },
    /// At most so many, each in the middle of its equal share of the video, rounded down: InternVL.
    Middles(usize),
    /// Evenly from the first to the last frame, rounded to the nearest: Qwen3-VL.
    Spread(Quota),
    /// Evenly from the first to the last frame, rounded down and without repetition; `skip` seconds are left
    /// out at both ends of a video that is long enough: SmolVLM.
    Centered {
        /// Frames per second of video, before `most` cuts them.
        fps: f64,
        /// The largest number of frames.
        most: usize,
        /// Seconds that are left out at both ends.
        skip: f64,
    },
    /// The first frame at or behind each tick of a rate, each once, the last of an odd number twice. Of a longer video
    /// the ticks are as many as in so many seconds, spread over all of it: GLM-4V.
    Ticks {
        /// Ticks per second of video.
        fps: f64,
        /// Seconds of a video whose ticks are not spread.
        seconds: f64,
    },
    /// Groups of so many frames, three a second in videos of up to 30 seconds, one in those of up to five minutes, else
    /// one in two seconds, of 40 minutes at most: GLM-4.6V. The last of an odd number of frames comes twice.
    Groups(usize),
}

/// How many frames are picked.
#[derive(Debug, Clone, PartialEq)]
pub enum Quota {
    /// A fixed number of frames.
    Count(usize),
    /// This number, or every frame of a video that has fewer.
    UpTo(usize),
    /// So many per second of video, within bounds and never more than there are.
    PerSecond {
        /// Frames per second.
        fps: f64,
        /// The smallest number of frames.
        least: usize,
        /// The largest number of frames.
        most: usize,
    },
}

impl Sampling {
    /// The frames to take of a video of `total` frames at `fps` frames per second, in order.
    ///
    /// # Errors
    /// When the video has fewer frames than the rule needs, or a rate is not a positive number.
    pub fn indices(&self, total: usize, fps: f64) -> Result<Vec<usize>> {
        let rate = match self {
            Self::Centered { fps, .. } => *fps,
            Self::Uniform(quota) | Self::Spread(quota) | Self::Strided { quota, .. } => match quota {
                Quota::PerSecond { fps, .. } => *fps,
                Quota::Count(_) | Quota::UpTo(_) => 1.0,
            },
            Self::Thinned(fps) | Self::Ticks { fps, .. } => *fps,
            Self::All | Self::Indices(_) | Self::Middles(_) | Self::Groups(_) => 1.0,
        };
        if !(rate.is_finite() && rate > 0.0 && fps.is_finite() && fps > 0.0) {
            return Err(Error::Prompt(format!(
                "{rate} of {fps} frames per second cannot be picked from a video"
            )));
        }
        if total == 0 {
            return Err(Error::Prompt("frames cannot be picked from a video that has none".into()));
        }
        let (frames, end) = (total as f64, total as f64 - 1.0);
        let at_most = |n: usize| n.min(total);
        let indices = match self {
            Self::All => (0..total).collect(),
            Self::Indices(indices) => indices.clone(),
            Self::Thinned(rate) => Timeline::steady(total, fps).thinned(*rate),
            Self::Uniform(quota) => {
                let n = match quota {
                    Quota::Count(n) => *n,
                    Quota::UpTo(n) => at_most(*n),
                    Quota::PerSecond { fps: rate, least, most } => {
                        ((frames / fps * rate) as usize).max(1).max(*least).min(*most)
                    }
                };
                enough(n, total)?;
                (0..n).map(|i| (i as u128 * total as u128 / n as u128) as usize).collect()
            }
            Self::Middles(n) => {
                let n = at_most((*n).max(1));
                (0..n).map(|i| ((2 * i + 1) as u128 * total as u128 / (2 * n) as u128) as usize).collect()
            }
            Self::Strided { quota, multiple } => {
                let unit = (*multiple).max(1);
                let whole = |n: usize| (n as f64 / unit as f64).round_ties_even() as usize * unit;
                let n = match quota {
                    Quota::Count(n) => whole(*n),
                    Quota::UpTo(n) => at_most(whole(*n)),
                    Quota::PerSecond { fps: rate, least, most } => {
                        let most = (most.min(&total) / unit * unit) as f64;
                        let n = (frames / fps * rate).max(*least as f64).min(most);
                        (n / unit as f64).floor() as usize * unit
                    }
                };
                enough(n, total)?;
                strided(n, total)
            }
            Self::Spread(quota) => {
                let n = match quota {
                    Quota::Count(n) => *n,
                    Quota::UpTo(n) => at_most(*n),
                    Quota::PerSecond { fps: rate, least, most } => {
                        ((frames / fps * rate) as usize).max(*least).min(*most).min(total)
                    }
                };
                few(n)?;
                linspace(0.0, end, n).map(|at| at.round_ties_even() as usize).collect()
            }
            Self::Centered { fps: rate, most, skip } => {
                let seconds = frames / fps;
                let n = ((rate * seconds).round_ties_even() as usize).min(*most).max(1);
                few(n)?;
                let long = *skip > 0.0 && seconds - 2.0 * skip > *most as f64 * rate;
                let (mut first, mut last) = (0.0, end);
                if long {
                    first = (skip * fps).trunc();
                    last = (frames - skip * fps).trunc().min(end);
                }
                if first >= last {
                    (first, last) = (0.0, end);
                }
                let mut indices: Vec<usize> =
                    linspace(first, last, n).map(|at| at.floor() as usize).collect();
                indices.dedup();
                indices
            }
            Self::Ticks { fps: rate, seconds } => {
                let long = frames / fps;
                let most = (seconds * rate).max(0.0) as usize;
                let at = |place: f64| place.ceil().min(end) as usize;
                even(if long <= *seconds {
                    let n = ((long * rate).floor() as usize).max(1);
                    few(n)?;
                    (0..n).map(|i| at(i as f64 * fps / rate)).collect()
                } else if most >= total {
                    (0..total).collect()
                } else {
                    linspace(0.0, long, most).map(|moment| at(moment * fps)).collect()
                })
            }
            Self::Groups(size) => even(groups(*size, total, fps)),
        };
        if indices.is_empty() {
            return Err(Error::Prompt("no frame of the video is requested".into()));
        }
        match indices.iter().find(|&&index| index >= total) {
            Some(index) => {
                Err(Error::Prompt(format!("frame {index} is requested from a video of {total} frames")))
            }
            None => Ok(indices),
        }
    }
}

/// Frames that may be picked where a rule repeats those there are.
const MOST_FRAMES: usize = 1 << 16;

fn few(n: usize) -> Result<()> {
    if n > MOST_FRAMES {
        return Err(Error::Prompt(format!("{n} frames are requested, more than {MOST_FRAMES}")));
    }
    Ok(())
}

fn enough(n: usize, total: usize) -> Result<()> {
    match n {
        0 => Err(Error::Prompt(format!(
            "no frame would be picked from a video of {total} frames; it is too short"
        ))),
        n if n > total => Err(Error::Prompt(format!(
            "{n} frames are requested from a video of {total} frames; request fewer"
        ))),
        _ => Ok(()),
    }
}

/// `torch.arange(0, total, total / n).int()`. Torch fills eight values at a time from a base that is rounded
/// to single precision, and the last few one by one; which frame is hit can depend on it. Rounding may also
/// add a frame past the end, which readers of videos pass over.
fn strided(n: usize, total: usize) -> Vec<usize> {
    let step = total as f64 / n as f64;
    let length = (total as f64 / step).ceil() as usize;
    let value = |i: usize| {
        let exact = i as f64 * step;
        if i < length / 8 * 8 {
            let base = ((i / 8 * 8) as f64 * step) as f32;
            (f64::from(base) + (i % 8) as f64 * step) as f32
        } else {
            exact as f32
        }
    };
    (0..length).map(|i| value(i) as usize).filter(|&index| index < total).collect()
}

/// Each index once, the last of an odd number twice.
fn even(mut indices: Vec<usize>) -> Vec<usize> {
    indices.dedup();
    if !indices.len().is_multiple_of(2) {
        indices.extend(indices.last().copied());
    }
    indices
}

/// The frames of [`Sampling::Groups`], of which some may come twice.
fn groups(size: usize, total: usize, fps: f64) -> Vec<usize> {
    let seconds = total as f64 / fps;
    let long = seconds.min(2400.0);
    let rate = match long {
        s if s <= 30.0 => 3.0,
        s if s <= 300.0 => 1.0,
        _ => 0.5,
    };
    let wanted = ((long * rate * size as f64) as usize).min(640);
    let spread = |first: usize, last: usize| -> Vec<usize> {
        linspace(first as f64, last as f64, wanted).map(|at| at.floor() as usize).collect()
    };
    if total < wanted {
        return spread(0, total - 1);
    }
    // A frame for every tick that has passed, up to the last whole second.
    let (step, frame) = (1.0 / (size as f64 * rate), 1.0 / fps);
    let (mut next, mut found) = (0.0, Vec::new());
    for index in 0..total {
        if index as f64 * frame >= next {
            next += step;
            found.push(index);
            if next >= seconds.trunc() {
                break;
            }
        }
    }
    match (found.first(), found.last()) {
        (Some(first), Some(last)) if found.len() < wanted => spread(*first, *last),
        _ if found.len() > wanted => spread(0, total - 1),
        _ => found,
    }
}

/// numpy's `linspace`, its end included.
fn linspace(first: f64, last: f64, n: usize) -> impl Iterator<Item = f64> {
    let step = (last - first) / (n.max(2) - 1) as f64;
    (0..n).map(move |i| if i > 0 && i + 1 == n { last } else { i as f64 * step + first })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `tests/media/make_sampling.py` computed with transformers: one rule, its video and its frames per
    /// line.
    #[test]
    fn frames_are_those_that_transformers_picks() {
        let table = include_str!("../../tests/media/sampling.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(table).unwrap();
        assert!(cases.len() > 100);
        for case in cases {
            let number = |key: &str| case[key].as_f64().unwrap();
            let count = |key: &str| case[key].as_u64().unwrap() as usize;
            let quota = || match case["count"].as_u64() {
                Some(n) => Quota::Count(n as usize),
                None => Quota::PerSecond { fps: number("rate"), least: count("least"), most: count("most") },
            };
            let sampling = match case["rule"].as_str().unwrap() {
                "uniform" => Sampling::Uniform(quota()),
                "strided" => Sampling::Strided { quota: quota(), multiple: 2 },
                "spread" => Sampling::Spread(quota()),
                "centered" => {
                    Sampling::Centered { fps: number("rate"), most: count("most"), skip: number("skip") }
                }
                "ticks" => Sampling::Ticks { fps: number("rate"), seconds: number("seconds") },
                "groups" => Sampling::Groups(count("size")),
                rule => panic!("{rule}"),
            };
            let picked = sampling.indices(count("total"), number("fps")).ok();
            let expected: Option<Vec<usize>> = serde_json::from_value(case["indices"].clone()).unwrap();
            assert_eq!(picked, expected, "{case}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_met_is_an_error() {
        assert_eq!(Sampling::All.indices(3, 25.0).unwrap(), [0, 1, 2]);
        assert_eq!(Sampling::Indices(vec![2, 0]).indices(3, 25.0).unwrap(), [2, 0]);
        let message = Sampling::Indices(vec![3]).indices(3, 25.0).unwrap_err().to_string();
        assert!(message.contains("frame 3"), "{message}");
        assert!(Sampling::All.indices(0, 25.0).is_err());
        assert!(Sampling::Indices(Vec::new()).indices(3, 25.0).is_err());
        assert!(Sampling::All.indices(3, f64::NAN).is_err());
        assert!(Sampling::Uniform(Quota::Count(4)).indices(3, 25.0).is_err());
        let nothing = Quota::PerSecond { fps: f64::INFINITY, least: 0, most: 8 };
        let up_to = |n| Sampling::Uniform(Quota::UpTo(n)).indices(3, 25.0).unwrap();
        assert_eq!((up_to(2), up_to(32)), (vec![0, 1], vec![0, 1, 2]));
        assert!(Sampling::Spread(nothing).indices(3, 25.0).is_err());
    }
}
