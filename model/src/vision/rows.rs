//! Rows put together from the rows of a table: picked, or mixed by bilinear or bicubic interpolation.

use percept_graph::{HostTensor, Tensor};

use crate::error::Result;

/// For each new row, the rows that it is made of and their weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// One row as it is.
    picked: Vec<i32>,
    /// Rows with their weights, equally many for each new row, in place of `picked`.
    mixed: Vec<Vec<(i32, f32)>>,
}

impl Rows {
    /// Rows as they are.
    pub fn pick(rows: impl IntoIterator<Item = usize>) -> Self {
        Self { picked: rows.into_iter().map(|r| r as i32).collect(), mixed: Vec::new() }
    }

    /// A grid of `to` rows and columns sampled from a grid of `from`, whose cell (y, x) is row `at(y, x)`.
    /// Weights are those of `torch.nn.functional.interpolate` without antialiasing.
    pub fn bilinear(
        from: (usize, usize),
        to: (usize, usize),
        align_corners: bool,
        at: impl Fn(usize, usize) -> usize,
    ) -> Self {
        Self::mix(axis(from.0, to.0, align_corners), axis(from.1, to.1, align_corners), at)
    }

    /// As [`Rows::bilinear`], by cubic convolution of four cells in each direction, those at the border repeated: the
    /// weights of `torch.nn.functional.grid_sample` at the centres of the new cells, without aligned corners.
    pub fn bicubic(from: (usize, usize), to: (usize, usize), at: impl Fn(usize, usize) -> usize) -> Self {
        Self::mix(cubic_axis(from.0, to.0), cubic_axis(from.1, to.1), at)
    }

    /// The rows of a grid, whose weights are products of those along its two directions.
    fn mix<const N: usize>(
        ys: Vec<[(usize, f32); N]>,
        xs: Vec<[(usize, f32); N]>,
        at: impl Fn(usize, usize) -> usize,
    ) -> Self {
        let cell = |y: &[(usize, f32); N], x: &[(usize, f32); N]| -> Vec<(i32, f32)> {
            let corners = y.iter().flat_map(|y| x.iter().map(move |x| (*y, *x)));
            corners.map(|((y, wy), (x, wx))| (at(y, x) as i32, wy * wx)).collect()
        };
        let places = ys.iter().flat_map(|y| xs.iter().map(move |x| (y, x)));
        let mixed = places.map(|(y, x)| cell(y, x)).collect();
        Self { picked: Vec::new(), mixed }
    }

    /// The same rows in another order.
    pub fn reordered(&self, order: impl Iterator<Item = usize> + Clone) -> Self {
        let pick = |n: usize| n > 0;
        Self {
            picked: order.clone().filter(|_| pick(self.picked.len())).map(|i| self.picked[i]).collect(),
            mixed: order.filter(|_| pick(self.mixed.len())).map(|i| self.mixed[i].clone()).collect(),
        }
    }

    /// These rows and then one of the table's as it is.
    pub fn then(self, row: usize) -> Self {
        self.chain(Self::pick([row]))
    }

    /// All of these rows, then all of the others.
    pub fn chain(self, other: Self) -> Self {
        if self.mixed.is_empty() && other.mixed.is_empty() {
            return Self::pick([self.picked, other.picked].concat().into_iter().map(|r| r as usize));
        }
        let wide = |rows: &Self| rows.mixed.first().map_or(0, Vec::len);
        let width = wide(&self).max(wide(&other));
        let mixed = [self, other].into_iter().flat_map(|rows| rows.widened(width)).collect();
        Self { picked: Vec::new(), mixed }
    }

    /// These rows in so many lines, which may be empty, with one of the table's as it is after every line.
    pub fn with_each(&self, lines: usize, row: usize) -> Self {
        let long = self.len() / lines.max(1);
        (0..lines)
            .fold(Self::default(), |all, i| all.chain(self.reordered(i * long..(i + 1) * long).then(row)))
    }

    /// All of them as mixtures of so many rows.
    fn widened(self, width: usize) -> impl Iterator<Item = Vec<(i32, f32)>> {
        let picked = self.picked.into_iter().map(|i| vec![(i, 1.0)]);
        picked.chain(self.mixed).map(move |mut row| {
            let (first, _) = row[0];
            row.resize(width, (first, 0.0));
            row
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.picked.len() + self.mixed.len()
    }

    /// What [`Rows::of`] reads in a graph: indices i32[n k], and weights f32[n,k,1] when each is mixed of k rows.
    ///
    /// # Errors
    /// When memory for them cannot be had.
    pub fn arguments(&self) -> Result<Vec<(&'static str, HostTensor)>> {
        if self.mixed.is_empty() {
            return Ok(vec![("rows", HostTensor::from_i32([self.len()], &self.picked)?)]);
        }
        let (index, weights): (Vec<i32>, Vec<f32>) = self.mixed.iter().flatten().copied().unzip();
        let width = index.len() / self.len();
        Ok(vec![
            ("rows", HostTensor::from_i32([index.len()], &index)?),
            ("row_weights", HostTensor::from_f32([self.len(), width, 1], &weights)?),
        ])
    }

    /// Rows f32[n,d] of a table f32[v,d], by the graph's inputs that [`Rows::arguments`] fills.
    pub fn of(table: &Tensor, arguments: &[Tensor]) -> Tensor {
        match arguments {
            [index, weights] => {
                let some = table.gather(index, 0).reshape([weights.dim(0), weights.dim(1), table.dim(1)]);
                (some * weights).sum([1])
            }
            [index, ..] => table.gather(index, 0),
            [] => table.clone(),
        }
    }
}

/// The two cells and weights of each position along one direction.
fn axis(from: usize, to: usize, align_corners: bool) -> Vec<[(usize, f32); 2]> {
    let place = |i: usize| {
        let at = if align_corners {
            i as f32 * (from - 1) as f32 / (to.max(2) - 1) as f32
        } else {
            ((i as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0)
        };
        let low = (at as usize).min(from - 1);
        let share = at - low as f32;
        [(low, 1.0 - share), ((low + 1).min(from - 1), share)]
    };
    (0..to).map(place).collect()
}

/// The four cells and weights of each position along one direction (Keys 1981, with torch's a = -0.75).
fn cubic_axis(from: usize, to: usize) -> Vec<[(usize, f32); 4]> {
    const A: f32 = -0.75;
    let near = |t: f32| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let far = |t: f32| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
    let place = |i: usize| {
        // In single precision and by way of -1 .. 1, as there.
        let share = (i as f32 + 0.5) / to as f32 * 2.0 - 1.0;
        let at = ((share + 1.0) * from as f32 - 1.0) / 2.0;
        let (low, t) = (at.floor(), at - at.floor());
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        let cell = |k: usize| (low + k as f32 - 1.0).clamp(0.0, from as f32 - 1.0) as usize;
        [0, 1, 2, 3].map(|k| (cell(k), weights[k]))
    };
    (0..to).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of torch.nn.functional.interpolate on [0, 1, 2, 3] and [0, 1, 2].
    #[test]
    fn weights_are_those_of_interpolate() {
        let sample = |from, to, align| -> Vec<f32> {
            axis(from, to, align).iter().map(|t| t.iter().map(|(i, w)| *i as f32 * w).sum()).collect()
        };
        assert_eq!(sample(4, 2, false), [0.5, 2.5]);
        assert_eq!(sample(3, 2, false), [0.25, 1.75]);
        assert_eq!(sample(3, 5, true), [0.0, 0.5, 1.0, 1.5, 2.0]);
        assert_eq!(sample(3, 1, true), [0.0]);
        assert_eq!(sample(2, 4, false), [0.0, 0.25, 0.75, 1.0]);
    }

    // Values of torch.nn.functional.grid_sample, bicubic with padding by the border, on [0, 1, 8] and [0, 1, 4, 9].
    #[test]
    fn cubic_weights_are_those_of_grid_sample() {
        let sample = |values: &[f32], to| -> Vec<f32> {
            let axis = cubic_axis(values.len(), to);
            axis.iter().map(|t| t.iter().map(|(i, w)| values[*i] * w).sum()).collect()
        };
        let near =
            |a: Vec<f32>, b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(
            near(sample(&[0.0, 1.0, 8.0], 2), &[-0.019531, 6.449219]),
            "{:?}",
            sample(&[0.0, 1.0, 8.0], 2)
        );
        assert!(
            near(sample(&[0.0, 1.0, 8.0], 5), &[-0.096, -0.116, 1.0, 5.355997, 8.672]),
            "{:?}",
            sample(&[0.0, 1.0, 8.0], 5)
        );
        assert!(near(sample(&[0.0, 1.0, 4.0, 9.0], 4), &[0.0, 1.0, 4.0, 9.0]));
    }

    #[test]
    fn picked_rows_become_mixed_ones_beside_mixed_ones() {
        let mixed = Rows::bilinear((2, 2), (1, 1), false, |y, x| 2 * y + x);
        assert_eq!(mixed.mixed, [[(0, 0.25), (1, 0.25), (2, 0.25), (3, 0.25)]]);
        let all = Rows::pick([7]).chain(mixed).then(9);
        assert_eq!((all.len(), all.mixed[0][0], all.mixed[2][0]), (3, (7, 1.0), (9, 1.0)));
        assert_eq!(Rows::pick([4, 5]).then(6).reordered([2, 0].into_iter()), Rows::pick([6, 4]));
        assert_eq!(Rows::pick([1, 2, 3, 4, 5, 6]).with_each(2, 9), Rows::pick([1, 2, 3, 9, 4, 5, 6, 9]));
        assert_eq!(Rows::pick([]).with_each(2, 9), Rows::pick([9, 9]));
    }
}
