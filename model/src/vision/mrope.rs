//! Positions in time, height and width for the decoders of Qwen-VL.

use percept_modalities::Inputs;

use crate::causal::{Layout, input_ids};
use crate::error::{Error, Result};
use crate::vision::feature_rows;

/// The images or clips that one placeholder stands for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grids {
    /// The placeholder's id.
    pub token: i32,
    /// Frames, rows and columns of features of each, in the order of the prompt.
    pub features: Vec<[usize; 3]>,
    /// Positions in time from one frame to the next, for each. A frame between two positions has the first.
    pub steps: Vec<f32>,
}

/// Positions are below this; a day of video at a hundred positions a second ends before it.
const FARTHEST: f32 = (1 << 24) as f32;

/// Where text goes on behind features, and where the model's own answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Behind the largest of their positions, and the answer behind the largest of the whole prompt
    /// (`get_rope_index` of the original, and of transformers before 5.3).
    AllAxes,
    /// Behind the largest of their rows and columns, whatever the time, and the answer behind the prompt's
    /// last token, on every axis (transformers 5.3 and later).
    RowsAndColumns,
}

/// Text counts on all axes alike. Features start where the text before them ended, on every axis, and text
/// goes on behind them as `resume` says.
///
/// # Errors
/// When placeholders do not match the grids.
pub fn mrope_layout(inputs: &Inputs, kinds: &[Grids], resume: Resume) -> Result<Layout> {
    mrope_of(input_ids(inputs)?, kinds, resume)
}

/// As [`mrope_layout`], of ids.
///
/// # Errors
/// As there.
pub fn mrope_of(ids: Vec<i32>, kinds: &[Grids], resume: Resume) -> Result<Layout> {
    let step = |kind: usize, which: usize| kinds[kind].steps.get(which).copied().unwrap_or(1.0);
    mrope_at(ids, kinds, resume, |kind, which, frame| (frame as f32 * step(kind, which)).trunc())
}

/// As [`mrope_of`], with the positions in time that `time` gives for the kind, the number of the image or clip and that of
/// the frame, counted from the first one.
///
/// # Errors
/// As [`mrope_layout`].
pub fn mrope_at(
    ids: Vec<i32>,
    kinds: &[Grids],
    resume: Resume,
    time: impl Fn(usize, usize, usize) -> f32,
) -> Result<Layout> {
    let count = |g: &[usize; 3]| g.iter().product::<usize>();
    let rows: Vec<(i32, usize)> =
        kinds.iter().map(|k| (k.token, k.features.iter().map(count).sum())).collect();
    let features = feature_rows(&ids, &rows)?;

    let mut positions = vec![Vec::new(); 3];
    let mut taken = vec![0; kinds.len()];
    let (mut at, mut next) = (0, 0f32);
    while at < ids.len() {
        let Some(kind) = kinds.iter().position(|k| k.token == ids[at]) else {
            positions.iter_mut().for_each(|axis| axis.push(next));
            (at, next) = (at + 1, next + 1.0);
            continue;
        };
        let which = taken[kind];
        let grid = kinds[kind].features.get(which).copied().filter(|g| {
            let end = at + count(g);
            end > at && ids.get(at..end).is_some_and(|run| run.iter().all(|id| *id == kinds[kind].token))
        });
        let Some([frames, h, w]) = grid else {
            return Err(Error::Inputs(format!(
                "at token {at} the prompt has another number of placeholders than its image or clip has rows of features"
            )));
        };
        let mut largest = next;
        for (t, y, x) in (0..frames).flat_map(|t| (0..h).flat_map(move |y| (0..w).map(move |x| (t, y, x)))) {
            for (i, offset) in [time(kind, which, t), y as f32, x as f32].into_iter().enumerate() {
                let position = next + offset;
                if !(0.0..FARTHEST).contains(&position) {
                    return Err(Error::Inputs(format!(
                        "a frame would stand at position {position}: config.json's tokens_per_second, or the clip's \
                         rate, is not that of any video"
                    )));
                }
                if i > 0 || resume == Resume::AllAxes {
                    largest = largest.max(position);
                }
                positions[i].push(position);
            }
        }
        taken[kind] += 1;
        at += frames * h * w;
        next = largest + 1.0;
    }
    let behind = |position: Option<f32>| position.map_or(0.0, |p| p + 1.0);
    let next = positions.iter().map(|axis| match resume {
        Resume::AllAxes => behind(positions.iter().flatten().copied().reduce(f32::max)),
        Resume::RowsAndColumns => behind(axis.last().copied()),
    });
    Ok(Layout { next: next.collect(), ids, positions, features, blocks: None })
}

#[cfg(test)]
mod tests {
    use percept_modalities::{Array, Values};

    use super::*;

    fn prompt(ids: &[i64]) -> Inputs {
        let array = Array { dims: vec![1, ids.len()], values: Values::I64(ids.to_vec()) };
        Inputs { arrays: [("input_ids".to_string(), array)].into(), ..Inputs::default() }
    }

    fn kind(token: i32, features: &[[usize; 3]], steps: &[f32]) -> Grids {
        Grids { token, features: features.to_vec(), steps: steps.to_vec() }
    }

    // Worked out by hand from the rule in the docstring of get_rope_index, transformers 4.57.1.
    #[test]
    fn text_goes_on_behind_the_largest_position() {
        let kinds = [kind(8, &[[1, 2, 2]], &[]), kind(9, &[[3, 1, 2]], &[5.0])];
        let ids = prompt(&[1, 8, 8, 8, 8, 2, 9, 9, 9, 9, 9, 9, 3]);
        let l = mrope_layout(&ids, &kinds, Resume::AllAxes).unwrap();
        assert_eq!(l.positions[0], [0., 1., 1., 1., 1., 3., 4., 4., 9., 9., 14., 14., 15.]);
        assert_eq!(l.positions[1], [0., 1., 1., 2., 2., 3., 4., 4., 4., 4., 4., 4., 15.]);
        assert_eq!(l.positions[2], [0., 1., 2., 1., 2., 3., 4., 5., 4., 5., 4., 5., 15.]);
        assert_eq!((l.next, l.features[6], l.features[4]), (vec![16.0; 3], Some(4), Some(3)));
    }

    // Positions of get_rope_index of Qwen2.5-VL, transformers 5.23, with 0.6 seconds a frame at 4 positions a
    // second.
    #[test]
    fn later_releases_go_on_behind_rows_and_columns() {
        let kinds = [kind(9, &[[3, 1, 2]], &[2.4])];
        let l = mrope_layout(&prompt(&[1, 9, 9, 9, 9, 9, 9, 3]), &kinds, Resume::RowsAndColumns).unwrap();
        assert_eq!(l.positions[0], [0., 1., 1., 3., 3., 5., 5., 3.]);
        assert_eq!(l.positions[2], [0., 1., 2., 1., 2., 1., 2., 3.]);
        // `generate` goes on behind the last token, not behind the last frame's 5.
        assert_eq!(l.next, [4.0; 3]);
        let ends_in_a_clip = mrope_layout(&prompt(&[1, 9, 9, 9, 9, 9, 9]), &kinds, Resume::RowsAndColumns);
        assert_eq!(ends_in_a_clip.unwrap().next, [6., 2., 3.]);
    }

    #[test]
    fn places_must_be_those_of_the_grids() {
        for ids in [[8, 1, 8], [8, 8, 8]] {
            let layout = mrope_layout(&prompt(&ids), &[kind(8, &[[1, 1, 2]], &[])], Resume::AllAxes);
            assert!(layout.is_err());
        }
    }
}
