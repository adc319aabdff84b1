//! Towers over patches of any grid, whose frames do not see each other: how their runs are put together.

use percept_graph::{HostTensor, Tensor};

use crate::causal::EncoderRun;
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::vision::{PATCHES, encoder_run};
use crate::weights::Weights;

/// Inputs of a run by name.
pub type Arguments = Vec<(&'static str, HostTensor)>;

/// A tower whose patches come in the order in which squares of them are merged.
pub trait Framed {
    /// The label of its graphs.
    fn label(&self) -> String;

    /// Numbers of a patch.
    fn numbers(&self) -> usize;

    /// Patches on the edge of the square that becomes one row of features.
    fn merge(&self) -> usize;

    /// The order in which patches of a frame of `h` x `w` go in, and what all frames of this grid read beside them.
    ///
    /// # Errors
    /// When memory for it cannot be had.
    fn prepare(&self, h: usize, w: usize) -> Result<(Vec<usize>, Arguments)>;

    /// The outputs for patches f32[b,h w,numbers] of `b` frames and what [`Framed::prepare`] gives beside them.
    fn trace(&self, p: &Parameters, inputs: &[Tensor]) -> Vec<(String, Tensor)>;
}

/// The runs for images or clips whose patches f32[rows,numbers] follow each other, each with its grid of
/// frames, rows and columns. Frames of one grid run together, a few at a time.
///
/// # Errors
/// When the patches do not fill the grids, or do not fit the tower.
pub fn framed_runs(
    tower: &impl Framed,
    weights: &Weights,
    ([rows, numbers], patches): ([usize; 2], &[f32]),
    grids: &[[usize; 3]],
) -> Result<Vec<EncoderRun>> {
    let wrong = |why: String| Err(Error::Inputs(format!("pixel values [{rows}, {numbers}]: {why}")));
    if numbers != tower.numbers() {
        return wrong(format!("the tower's patches have {} numbers", tower.numbers()));
    }
    let merge = tower.merge();
    let fits = |g: &[usize; 3]| {
        let whole = |n: usize| n > 0 && n < 1 << 20 && n.is_multiple_of(merge);
        g[0] > 0 && g[0] < 1 << 20 && whole(g[1]) && whole(g[2])
    };
    if !grids.iter().all(fits) || grids.iter().map(|g| g.iter().product::<usize>()).sum::<usize>() != rows {
        return wrong(format!("they do not fill grids {grids:?} of multiples of {merge}"));
    }
    let mut runs = Vec::new();
    let mut rest = patches;
    for &[frames, h, w] in grids {
        let n = h * w;
        let (order, shared) = tower.prepare(h, w)?;
        let together = (PATCHES / n).clamp(1, frames);
        for start in (0..frames).step_by(together) {
            let b = together.min(frames - start);
            let (now, later) = rest.split_at(b * n * numbers);
            rest = later;
            let moved: Vec<f32> = now
                .chunks_exact(n * numbers)
                .flat_map(|frame| order.iter().flat_map(move |&i| &frame[i * numbers..(i + 1) * numbers]))
                .copied()
                .collect();
            let mut arguments = vec![("patches", HostTensor::from_f32([b, n, numbers], &moved)?)];
            arguments.extend(shared.iter().cloned());
            runs.push(encoder_run(&tower.label(), weights, arguments, |p, x| tower.trace(p, x))?);
        }
    }
    Ok(runs)
}

/// Row and column of every patch, in the order in which patches are merged.
pub fn places(h: usize, w: usize, m: usize) -> Vec<[usize; 2]> {
    let mut places = Vec::with_capacity(h * w);
    for (top, left) in (0..h).step_by(m).flat_map(|top| (0..w).step_by(m).map(move |left| (top, left))) {
        places.extend((0..m).flat_map(|y| (0..m).map(move |x| [top + y, left + x])));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values from transformers 5.23: get_vision_position_ids.
    #[test]
    fn patches_stand_where_the_original_has_them() {
        assert_eq!(places(2, 4, 2), [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]);
    }
}
