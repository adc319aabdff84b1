//! Launch geometry and strided views: how linear ids become groups, and how an index becomes an element of a
//! tensor.

use crate::caps::Caps;
use crate::program::Unsupported;

/// Indices are 32-bit in the kernels; tensors of this many elements or more have no kernel.
pub(crate) const MAX_ELEMENTS: usize = 1 << 31;

/// Spread `count` linear groups over three dimensions of at most `max` each. Kernels compute the linear id
/// back and return when it is past the end, because the product may exceed `count`.
pub(crate) fn fold_groups(count: usize, max: u32) -> Result<[u32; 3], Unsupported> {
    let max = max.max(1) as usize;
    let x = count.clamp(1, max);
    let y = count.div_ceil(x).clamp(1, max);
    let z = count.div_ceil(x * y).max(1);
    if z > max || count > u32::MAX as usize {
        return Err(Unsupported::new(format!("{count} workgroups are more than the adapter can launch")));
    }
    Ok([x as u32, y as u32, z as u32])
}

/// The element count of a shape, if 32-bit indices can address it.
pub(crate) fn count(dims: &[usize]) -> Result<usize, Unsupported> {
    let n = if dims.contains(&0) { 0 } else { dims.iter().fold(1usize, |a, &d| a.saturating_mul(d)) };
    if n >= MAX_ELEMENTS {
        return Err(Unsupported::new(format!("a tensor of shape {dims:?} is past 32-bit indices")));
    }
    Ok(n)
}

/// A matrix of `rows` rows of `row_bytes` as the fewest ranges of rows that bindings can show, each the first
/// row and how many; one range when it fits. Every range starts where a window and a vector of rows may.
pub(crate) fn row_ranges(
    rows: usize,
    row_bytes: u64,
    caps: &Caps,
) -> Result<Vec<(usize, usize)>, Unsupported> {
    if row_bytes.saturating_mul(rows as u64) <= caps.max_window {
        return Ok(vec![(0, rows)]);
    }
    // Four rows at a time, so that vectors across rows stay whole.
    let unit = (caps.alignment / gcd(caps.alignment, row_bytes.max(1))).max(4);
    let step = caps.max_window / row_bytes / unit * unit;
    if step == 0 {
        return Err(Unsupported::new(format!(
            "{unit} rows of {row_bytes} bytes are more than a binding shows"
        )));
    }
    Ok((0..rows).step_by(step as usize).map(|at| (at, (rows - at).min(step as usize))).collect())
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Row-major strides of a shape.
pub(crate) fn strides(dims: &[usize]) -> Vec<i64> {
    let mut s = vec![1i64; dims.len()];
    for i in (0..dims.len().saturating_sub(1)).rev() {
        s[i] = s[i + 1].wrapping_mul(dims[i + 1] as i64);
    }
    s
}

/// Reads of one index space out of several tensors: element `i` of the space, row-major over `dims`, is
/// element `offset + sum(coordinate * stride)` of each tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Views {
    /// Extents of the index space, collapsed.
    pub dims: Vec<usize>,
    /// Strides of each tensor over `dims`.
    pub strides: Vec<Vec<i64>>,
    /// Where each tensor's element 0 of the index space is.
    pub offsets: Vec<i64>,
}

impl Views {
    /// Views over `dims`, with dimensions of extent 1 dropped and neighbours merged wherever every tensor
    /// steps through the pair as through one dimension.
    pub fn new(dims: &[usize], strides: &[Vec<i64>]) -> Self {
        let mut out = Self {
            dims: Vec::new(),
            strides: vec![Vec::new(); strides.len()],
            offsets: vec![0; strides.len()],
        };
        for d in 0..dims.len() {
            if dims[d] == 1 {
                continue;
            }
            let merges = out.dims.last().is_some()
                && strides.iter().zip(&out.strides).all(|(s, o)| o.last() == Some(&(s[d] * dims[d] as i64)));
            match out.dims.last_mut() {
                Some(last) if merges => {
                    *last *= dims[d];
                    for (s, o) in strides.iter().zip(&mut out.strides) {
                        if let Some(stride) = o.last_mut() {
                            *stride = s[d];
                        }
                    }
                }
                _ => {
                    out.dims.push(dims[d]);
                    for (s, o) in strides.iter().zip(&mut out.strides) {
                        o.push(s[d]);
                    }
                }
            }
        }
        out
    }

    /// The same views with these offsets.
    pub fn with_offsets(mut self, offsets: Vec<i64>) -> Self {
        self.offsets = offsets;
        self
    }

    /// Whether this tensor is read in order, without gaps.
    pub fn is_contiguous(&self, tensor: usize) -> bool {
        self.offsets[tensor] == 0 && self.strides[tensor] == strides(&self.dims)
    }

    /// Whether this tensor is one element, read everywhere.
    pub fn is_scalar(&self, tensor: usize) -> bool {
        self.offsets[tensor] == 0 && self.strides[tensor].iter().all(|&s| s == 0)
    }
}

/// Strides of an operand under `stablehlo.broadcast_in_dim` to `dims`: 0 where an extent of 1 is repeated.
pub(crate) fn broadcast_strides(operand: &[usize], axes: &[usize], dims: &[usize]) -> Vec<i64> {
    let dense = strides(operand);
    let mut out = vec![0; dims.len()];
    for (i, &axis) in axes.iter().enumerate() {
        if operand[i] == dims[axis] && operand[i] != 1 {
            out[axis] = dense[i];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_groups_cover_every_linear_id() {
        for count in [0, 1, 65535, 65536, 65537, 200_000, 4_000_000_000] {
            let [x, y, z] = fold_groups(count, 65535).unwrap();
            assert!(x <= 65535 && y <= 65535 && z <= 65535);
            assert!(x as u64 * y as u64 * z as u64 >= count as u64, "{count}");
        }
        assert_eq!(fold_groups(65536, 65535).unwrap(), [65535, 2, 1]);
        assert!(fold_groups(100, 4).is_err());
    }

    #[test]
    fn views_collapse_what_steps_together() {
        let v = Views::new(&[2, 3, 4], &[strides(&[2, 3, 4]), vec![0, 0, 1]]);
        assert_eq!(
            (v.dims.clone(), v.strides[0].clone(), v.strides[1].clone()),
            (vec![6, 4], vec![4, 1], vec![0, 1])
        );
        assert!(v.is_contiguous(0) && !v.is_contiguous(1) && !v.is_scalar(1));
        let t = Views::new(&[4, 1, 5], &[vec![1, 7, 4]]);
        assert_eq!((t.dims, t.strides), (vec![4, 5], vec![vec![1, 4]]));
        assert!(Views::new(&[3, 3], &[vec![0, 0]]).is_scalar(0));
        assert_eq!(broadcast_strides(&[3, 1], &[0, 2], &[3, 5, 4]), [1, 0, 0]);
    }

    #[test]
    fn ranges_of_rows_are_aligned_and_cover_a_table_once() {
        for (rows, row_bytes) in [(1000, 3584), (151_936, 896 * 4), (9, 4), (1001, 210 * 7)] {
            let caps = Caps { max_window: 1 << 20, ..Caps::default() };
            let ranges = row_ranges(rows, row_bytes, &caps).unwrap();
            let mut next = 0;
            for &(first, count) in &ranges {
                assert_eq!(first, next);
                assert!((first as u64 * row_bytes).is_multiple_of(256) && first % 4 == 0);
                assert!(count as u64 * row_bytes <= 1 << 20 && count > 0);
                next += count;
            }
            assert_eq!(next, rows);
            assert_eq!(ranges.len() == 1, rows as u64 * row_bytes <= 1 << 20);
        }
        assert!(row_ranges(100, 1 << 20, &Caps { max_window: 1 << 20, ..Caps::default() }).is_err());
    }

    #[test]
    fn sizes_past_32_bits_are_refused() {
        assert_eq!(count(&[0, usize::MAX]).unwrap(), 0);
        assert!(count(&[1 << 20, 1 << 20]).is_err());
        assert!(count(&[usize::MAX, usize::MAX]).is_err());
    }
}
