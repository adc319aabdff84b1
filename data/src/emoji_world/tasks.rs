//! Which samples there are.

use super::colour::main_colour;
use super::sheet::Emoji;
use super::sound::Tone;
use crate::chance::Chance;

/// Samples of one folder and split.
pub(super) struct Task {
    /// The name of the task's folder.
    pub folder: &'static str,
    /// `train` or `held-out`.
    pub split: &'static str,
    /// Its samples, in an order that is random, so that the first few are like the rest.
    pub jobs: Vec<Job>,
}

/// One sample to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Job {
    /// The emoji, by its place in the list; none for sounds.
    pub emoji: Option<usize>,
    /// What is made of it.
    pub make: Make,
}

/// What a sample shows, and the question about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Make {
    Category,
    Colour(&'static str),
    Name,
    Direction(Direction),
    Count(usize),
    Sound(Tone),
    Pitch(Tone),
    Flag,
}

/// Where an emoji moves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum Direction {
    Left,
    Right,
    Up,
    Down,
}

impl Direction {
    pub const ALL: [Self; 4] = [Self::Left, Self::Right, Self::Up, Self::Down];

    /// Its name and a step in it, in pixels right and down.
    pub fn step(self) -> (&'static str, f64, f64) {
        match self {
            Self::Left => ("left", -1.0, 0.0),
            Self::Right => ("right", 1.0, 0.0),
            Self::Up => ("up", 0.0, -1.0),
            Self::Down => ("down", 0.0, 1.0),
        }
    }
}

pub(super) const TRAIN: &str = "train";
pub(super) const HELD_OUT: &str = "held-out";

/// All samples, from a list of emoji. One emoji of five is held out.
pub(super) fn plan(emoji: &[Emoji], seed: u64) -> Vec<Task> {
    let is_flag = |at: &usize| emoji[*at].category == "flags";
    let flags: Vec<usize> = (0..emoji.len()).filter(is_flag).collect();
    let mut tasks = Vec::new();
    for split in [TRAIN, HELD_OUT] {
        let in_split = |at: &usize| emoji[*at].lot(seed).is_multiple_of(5) == (split == HELD_OUT);
        let known: Vec<usize> = (0..emoji.len()).filter(|at| !is_flag(at)).filter(in_split).collect();
        let coloured: Vec<_> =
            known.iter().filter_map(|&at| main_colour(&emoji[at]).map(|name| (at, name))).collect();
        let of = |train, held_out| if split == TRAIN { train } else { held_out };
        let each = |list: &[usize], views: usize, make: Make| -> Vec<Job> {
            list.iter().flat_map(|&at| vec![Job { emoji: Some(at), make }; views]).collect()
        };
        let drawn = |folder, count, make: &dyn Fn(usize) -> Make| -> Vec<Job> {
            let mut chance = Chance::new(seed, stream(folder, split), u64::MAX);
            (0..count)
                .map(|at| Job { emoji: Some(known[chance.below(known.len())]), make: make(at) })
                .collect()
        };
        let sound = |make: Make| Job { emoji: None, make };
        let tones = [Tone::Rising, Tone::Falling, Tone::Steady];
        let mut sounds: Vec<Job> = (0..of(800, 210)).map(|at| sound(Make::Sound(tones[at % 3]))).collect();
        sounds.extend((0..of(400, 100)).map(|at| sound(Make::Pitch([Tone::High, Tone::Low][at % 2]))));
        let colours = coloured.iter().flat_map(|&(at, name)| each(&[at], of(3, 2), Make::Colour(name)));
        let all = [
            ("category", each(&known, of(3, 2), Make::Category)),
            ("colour", colours.collect()),
            ("name", each(&known, 1, Make::Name)),
            ("direction", drawn("direction", of(2400, 400), &|at| Make::Direction(Direction::ALL[at % 4]))),
            ("count", drawn("count", of(1200, 200), &|at| Make::Count(at % 4 + 1))),
            ("sound", sounds),
            ("flags", each(&flags, of(8, 2), Make::Flag)),
        ];
        for (folder, mut jobs) in all {
            shuffle(&mut jobs, &mut Chance::new(seed, stream(folder, split), u64::MAX - 1));
            tasks.push(Task { folder, split, jobs });
        }
    }
    tasks
}

/// A number of its own for each folder and split: their letters.
pub(super) fn stream(folder: &str, split: &str) -> u64 {
    folder.bytes().take(7).chain(split.bytes().take(1)).fold(0, |number, byte| number << 8 | u64::from(byte))
}

fn shuffle<T>(list: &mut [T], chance: &mut Chance) {
    for at in (1..list.len()).rev() {
        list.swap(at, chance.below(at + 1));
    }
}
