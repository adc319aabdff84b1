//! Products of rows with the matrices of their groups: a mixture's experts.
//!
//! Rows are put in the order of their groups first. Then a task is some rows of one group against some of its columns, and
//! is the very product that a dense weight has, so a row's bits are those of [`crate::matmul`] whoever shares its group.
//! A matrix that no row asks for is not touched.

use percept_graph::{DType, OpDesc};

use crate::kernel::{Kernel, Operands};
use crate::matmul::{DotIsa, MatMul};
use crate::pool::{SharedSlice, Team};

/// Multiply-adds per nanosecond of one thread, roughly.
const SPEED: usize = 30;
/// Rows of a task, at most.
const ROWS: usize = 64;
/// Columns of a task whose rows are few, and whose rows are many: these are packed once for all columns of a task.
const NARROW: usize = 64;
const WIDE: usize = 256;
/// Rows of a group's matrix whose gradient is a task.
const SLICE: usize = 64;
/// To what the parts of the workspace are aligned.
const LINE: usize = 64;

/// Pairs of rows and groups, in the order of the groups; those of a row keep theirs.
struct Order<'a> {
    /// The pairs' numbers.
    pairs: &'a [u32],
    /// Where each group's pairs begin, and where the last group's end; pairs from there on have no group.
    starts: &'a [u32],
    /// Runs of at most [`ROWS`] pairs of one group, or of none: the group and the first pair.
    runs: &'a [[u32; 2]],
}

/// Where an [`Order`] lies in a workspace, in words.
#[derive(Clone, Copy)]
struct OrderRoom {
    pairs: usize,
    groups: usize,
}

impl OrderRoom {
    fn runs(self) -> usize {
        // Each group and the rest may end with a run that is not full, and no run is empty.
        self.pairs.min(self.pairs / ROWS + self.groups + 1)
    }

    /// Bytes, on whole cache lines.
    fn bytes(self) -> usize {
        ((1 + self.groups + 1 + self.pairs + 2 * self.runs()) * 4).next_multiple_of(LINE)
    }

    /// Makes the order on the team's first thread; all threads have it when this returns.
    fn fill<'a>(self, team: &Team<'_>, numbers: &[i32], room: SharedSlice<'a, u8>) -> Order<'a> {
        // SAFETY: the workspace is aligned to a cache line and this part of it is as long as `bytes` says; any bytes are
        // numbers. It is written by one thread before the barrier, and only read after it.
        let words = unsafe { SharedSlice::from_raw(room.as_ptr().cast::<u32>(), self.bytes() / 4) };
        let ends = [1, 1 + self.groups + 1, 1 + self.groups + 1 + self.pairs];
        if team.rank() == 0 {
            // SAFETY: the other threads wait at the barrier.
            let (head, runs) = unsafe { words.part(0..words.len()) }.split_at_mut(ends[2]);
            let (head, pairs) = head.split_at_mut(ends[1]);
            let (count, starts) = head.split_at_mut(1);
            count[0] = sort(numbers, starts, pairs, runs.as_chunks_mut::<2>().0) as u32;
        }
        team.barrier();
        // SAFETY: from the barrier on all threads only read.
        let words = unsafe { words.view(0..words.len()) };
        let runs = words[ends[2]..].as_chunks::<2>().0;
        Order {
            starts: &words[ends[0]..ends[1]],
            pairs: &words[ends[1]..ends[2]],
            runs: &runs[..words[0] as usize],
        }
    }
}

/// Sorts pairs by their groups' numbers, counting; gives how many runs there are.
fn sort(numbers: &[i32], starts: &mut [u32], pairs: &mut [u32], runs: &mut [[u32; 2]]) -> usize {
    let groups = starts.len() - 1;
    let of = |number: i32| usize::try_from(number).ok().filter(|g| *g < groups).unwrap_or(groups);
    starts.fill(0);
    for &number in numbers {
        // Those without a group come last and need no end.
        if let Some(next) = starts.get_mut(of(number) + 1) {
            *next += 1;
        }
    }
    for g in 0..groups {
        starts[g + 1] += starts[g];
    }
    // Each group's beginning moves to its end as its pairs are put down, which is the next one's beginning.
    for (pair, &number) in numbers.iter().enumerate() {
        let at = &mut starts[of(number)];
        pairs[*at as usize] = pair as u32;
        *at += 1;
    }
    starts.copy_within(0..groups, 1);
    starts[0] = 0;
    let mut count = 0;
    for g in 0..=groups {
        let end = if g < groups { starts[g + 1] } else { numbers.len() as u32 };
        for first in (starts[g]..end).step_by(ROWS) {
            runs[count] = [g as u32, first];
            count += 1;
        }
    }
    count
}

impl Order<'_> {
    /// The group and the pairs of a run; `None` for pairs without a group.
    fn run(&self, i: usize) -> (Option<usize>, &[u32]) {
        let [group, first] = self.runs[i].map(|n| n as usize);
        let end = self.starts.get(group + 1).map_or(self.pairs.len(), |end| *end as usize);
        let group = (group + 1 < self.starts.len()).then_some(group);
        (group, &self.pairs[first..end.min(first + ROWS)])
    }
}

/// `len` bytes of a shared slice from `at` on.
///
/// # Safety
/// Until the next barrier they must be the calling thread's alone.
unsafe fn part_of(all: SharedSlice<'_, u8>, at: usize, len: usize) -> SharedSlice<'_, u8> {
    assert!(at <= all.len() && len <= all.len() - at, "{len} bytes from {at} on of {}", all.len());
    // SAFETY: in bounds by the line above; the rest is the caller's promise.
    unsafe { SharedSlice::from_raw(all.as_ptr().add(at), len) }
}

/// Rows times the matrices of their groups.
pub(crate) fn dot(desc: &OpDesc<'_>, transposed: bool, threads: usize) -> Option<Kernel> {
    let (x, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let &[groups, n, k] = &w.dims[..] else { return None };
    let &[m, c, columns] = &y.dims[..] else { return None };
    let types = [x.dtype, w.dtype, y.dtype];
    let (inner, pairs) = (if transposed { n } else { k }, m * c);
    // Blocks, of which the transposed matrix has its columns in, divide both.
    let width = if pairs > 16 * groups { WIDE } else { WIDE.min(NARROW.max(w.dtype.block_len())) };
    let product = move |rows: usize, columns: usize| {
        let [x, w, y] = types;
        match transposed {
            true => MatMul { rhs_strides: [n * k, k], ..MatMul::plain(rows, columns, inner, x, w, y) },
            false => MatMul::linear(rows, columns, inner, x, w, y),
        }
    };
    // Bytes of a row of x, of a row of a matrix and of columns of the result.
    let [x_size, y_size] = [x.dtype, y.dtype].map(DType::block_bytes);
    let row = inner * x_size;
    let (block, block_bytes) = (w.dtype.block_len(), w.dtype.block_bytes());
    let matrix_row = k / block * block_bytes;
    // A thread's own memory: the rows of a task, its results, and what the product needs.
    let rows = ROWS.min(pairs);
    let gathered = (rows * row).next_multiple_of(LINE);
    let results = (rows * width * y_size).next_multiple_of(LINE);
    let sizes = [1, rows.min(4), rows].map(|rows| product(rows, width.min(columns)).workspace(1));
    let needed = sizes.into_iter().max()?.next_multiple_of(LINE);
    let own = gathered + results + needed;
    let order = OrderRoom { pairs, groups };
    let isa = DotIsa::best();
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let (x, w) = (operands.input::<u8>(0), operands.input::<u8>(1));
        let (out, work) = (operands.output::<u8>(0), operands.workspace::<u8>());
        let all = order.fill(team, operands.input(2), work);
        let start = order.bytes() + team.rank() * own;
        // SAFETY: each thread has memory of its own behind the order.
        let [gathered, results, needed] = unsafe {
            [
                part_of(work, start, gathered),
                part_of(work, start + gathered, results),
                part_of(work, start + gathered + results, needed),
            ]
        };
        let across = columns.div_ceil(width);
        for task in team.runs(all.runs.len() * across) {
            let first = task % across * width;
            let count = width.min(columns - first);
            let (group, pairs) = all.run(task / across);
            // SAFETY: a pair's columns belong to one task.
            let of_pair =
                |pair: usize| unsafe { part_of(out, (pair * columns + first) * y_size, count * y_size) };
            let Some(group) = group else {
                for &pair in pairs {
                    let to = of_pair(pair as usize);
                    // SAFETY: as above.
                    unsafe { to.part(0..to.len()) }.fill(0);
                }
                continue;
            };
            let matrix = &w[group * n * matrix_row..(group + 1) * n * matrix_row];
            let matrix = match transposed {
                true => &matrix[first / block * block_bytes..],
                false => &matrix[first * matrix_row..(first + count) * matrix_row],
            };
            let product = product(pairs.len(), count);
            let multiply = |x: &[u8], out: SharedSlice<'_, u8>| {
                Team::alone(|team| product.run(team, isa, x, matrix, out, needed, None));
            };
            if let &[pair] = pairs {
                let at = pair as usize / c * row;
                multiply(&x[at..at + row], of_pair(pair as usize));
                continue;
            }
            // SAFETY: the thread's own memory, of which these are the only views.
            let (rows, sums) = unsafe { (gathered.part(0..pairs.len() * row), results) };
            for (i, &pair) in pairs.iter().enumerate() {
                let at = pair as usize / c * row;
                rows[i * row..(i + 1) * row].copy_from_slice(&x[at..at + row]);
            }
            multiply(rows, sums);
            // SAFETY: the product is finished, and nobody else writes here.
            let sums = unsafe { sums.view(0..pairs.len() * count * y_size) };
            for (i, &pair) in pairs.iter().enumerate() {
                let to = of_pair(pair as usize);
                // SAFETY: a pair's columns belong to one task.
                unsafe { to.part(0..to.len()) }.copy_from_slice(&sums[i * to.len()..(i + 1) * to.len()]);
            }
        }
    };
    let read = pairs.min(groups) * n * k / 16;
    Some(Kernel::with_workspace(order.bytes() + threads * own, pairs * n * k / SPEED + read, body))
}

/// The gradient of each group's matrix: sums of outer products of its rows.
pub(crate) fn outer(desc: &OpDesc<'_>, threads: usize) -> Option<Kernel> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let &[groups, n, k] = &y.dims[..] else { return None };
    let &[m, c] = &desc.inputs[2].dims[..] else { return None };
    let (dtype, size, pairs) = (x.dtype, x.dtype.block_bytes(), m * c);
    let product = move |rows: usize, count: usize| MatMul {
        lhs_strides: [0, 1, n],
        ..MatMul::plain(rows, k, count, dtype, dtype, dtype)
    };
    let order = OrderRoom { pairs, groups };
    let sorted = [pairs * k * size, pairs * n * size].map(|bytes| bytes.next_multiple_of(LINE));
    let sizes = [1, n % SLICE, SLICE.min(n), n.min(4)].map(|rows| product(rows, pairs).workspace(1));
    let own = sizes.into_iter().max()?.next_multiple_of(LINE);
    let isa = DotIsa::best();
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let (x, y) = (operands.input::<u8>(0), operands.input::<u8>(1));
        let (out, work) = (operands.output::<u8>(0), operands.workspace::<u8>());
        let all = order.fill(team, operands.input(2), work);
        let start = order.bytes();
        // SAFETY: both lie behind the order and before the threads' own memory; rows are written by the thread that has
        // them, and read after the barrier.
        let [xs, ys] =
            unsafe { [part_of(work, start, sorted[0]), part_of(work, start + sorted[0], sorted[1])] };
        for i in team.share(all.starts[groups] as usize, 1) {
            let pair = all.pairs[i] as usize;
            let rows = [(xs, x, pair / c, k * size), (ys, y, pair, n * size)];
            for (to, from, row, bytes) in rows {
                // SAFETY: shares are disjoint.
                let to = unsafe { to.part(i * bytes..(i + 1) * bytes) };
                to.copy_from_slice(&from[row * bytes..(row + 1) * bytes]);
            }
        }
        team.barrier();
        // SAFETY: from the barrier on these are only read.
        let (xs, ys) = unsafe { (xs.view(0..sorted[0]), ys.view(0..sorted[1])) };
        let start = start + sorted[0] + sorted[1] + team.rank() * own;
        // SAFETY: each thread has memory of its own.
        let own = unsafe { part_of(work, start, own) };
        let slices = n.div_ceil(SLICE);
        for task in team.claims(groups * slices) {
            let (group, first) = (task / slices, task % slices * SLICE);
            let rows = SLICE.min(n - first);
            let [from, to] = [all.starts[group] as usize, all.starts[group + 1] as usize];
            // SAFETY: a group's slice of rows belongs to one task.
            let out = unsafe { part_of(out, (group * n + first) * k * size, rows * k * size) };
            if from == to {
                // SAFETY: as above.
                unsafe { out.part(0..out.len()) }.fill(0);
                continue;
            }
            let (left, right) = (&ys[(from * n + first) * size..to * n * size], &xs[from * k * size..]);
            Team::alone(|team| product(rows, to - from).run(team, isa, left, right, out, own, None));
        }
    };
    let workspace = order.bytes() + sorted[0] + sorted[1] + threads * own;
    Some(Kernel::with_workspace(workspace, pairs * n * k / SPEED + groups * n * k / 16, body))
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, Op, TensorType};

    use super::*;
    use crate::launch_test::{check_op, ints, operand, run_op};

    const FLOATS: [(DType, f64); 3] = [(DType::F32, 2e-6), (DType::F16, 2e-3), (DType::BF16, 1.6e-2)];

    /// Numbers of groups that leave some empty, crowd one, and are sometimes none.
    fn numbers(m: usize, c: usize, groups: usize) -> (TensorType, Vec<f64>) {
        let number = |i: usize| match i % 7 {
            3 => -1,
            5 => groups as i32,
            0 | 1 => 1 % groups as i32,
            _ => ((i * 11) % groups.max(1)) as i32 / 2 * 2 % groups as i32,
        };
        ints(&[m, c], &(0..m * c).map(number).collect::<Vec<_>>())
    }

    #[test]
    fn rows_meet_the_matrices_of_their_groups() {
        for (dtype, near) in FLOATS {
            for (m, c, groups, n, k) in [
                (1, 2, 5, 33, 40),
                (7, 3, 4, 70, 17),
                (90, 2, 3, 300, 16),
                (400, 1, 2, 5, 48),
                (3, 1, 1, 1, 1),
            ] {
                let w = operand(dtype, &[groups, n, k], 2);
                for transposed in [false, true] {
                    let x = operand(dtype, &[m, if transposed { n } else { k }], 1);
                    let op = Op::Composite(Composite::RaggedDot { transposed });
                    check_op(&op, &[x, w.clone(), numbers(m, c, groups)], near);
                }
                let y = operand(dtype, &[m, c, n], 3);
                let op = Op::Composite(Composite::RaggedOuter { groups });
                check_op(&op, &[operand(dtype, &[m, k], 1), y, numbers(m, c, groups)], 4.0 * near);
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_among_others_and_as_in_a_dense_layer() {
        let (m, c, groups, n, k) = (150, 2, 3, 130, 200);
        let (x, w) = (operand(DType::F32, &[m, k], 1), operand(DType::F32, &[groups, n, k], 2));
        let op = Op::Composite(Composite::RaggedDot { transposed: false });
        let of = numbers(m, c, groups);
        let all = run_op(&op, &[x.clone(), w.clone(), of.clone()], 2).remove(0);
        for i in [0, 4, 77, 149] {
            let row = (TensorType::new(DType::F32, [1, k]), x.1[i * k..(i + 1) * k].to_vec());
            let own = (TensorType::new(DType::I32, [1, c]), of.1[i * c..(i + 1) * c].to_vec());
            let alone = run_op(&op, &[row.clone(), w.clone(), own.clone()], 1).remove(0);
            assert_eq!(alone, all[i * c * n..(i + 1) * c * n], "row {i}");
            for (j, &group) in own.1.iter().enumerate().filter(|(_, g)| (0.0..groups as f64).contains(*g)) {
                let at = group as usize * n * k;
                let matrix = (TensorType::new(DType::F32, [n, k]), w.1[at..at + n * k].to_vec());
                let linear = Op::Composite(Composite::Linear { bias: false, act: None });
                assert_eq!(run_op(&linear, &[row.clone(), matrix], 2)[0], alone[j * n..(j + 1) * n]);
            }
        }
    }
}
