//! Reductions and maps over one row, and kernels that treat a tensor as independent rows.
//!
//! The order of a row's reduction depends on its length alone: four vectors of sixteen lanes take the row's vectors
//! in turn, and are combined pairwise, then lane by lane.

use percept_graph::{DType, TensorType};

use crate::element::{Element, with_float};
use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::lanes::finish_streams;
use crate::pool::{SharedSlice, Team};
use crate::scratch::with_scratch;

/// Results at least this long (in bytes) are stored past the caches, which they would only empty.
const STREAM_BYTES: usize = 8 << 20;
/// Elements a thread should have before a second one is woken.
const GRAIN: usize = 4096;

/// Folds equally long rows into one lane vector: `fold_rows!(l, [x: row, fill, ..], start, acc => next, a, b => both)`.
macro_rules! fold_rows {
    ($l:ident, [$($x:ident: $row:expr, $fill:expr);+], $start:expr, $acc:ident => $next:expr,
        $a:ident, $b:ident => $both:expr) => {{
        use $crate::lanes::WIDTH;
        $(let $x: &[f32] = $row;)+
        let len = [$($x.len()),+][0];
        $(let $x = &$x[..len];)+
        let mut accs = [$start; 4];
        let groups = len / (4 * WIDTH);
        $(let $x = $x.as_chunks::<WIDTH>();)+
        for group in 0..groups {
            for (j, acc) in accs.iter_mut().enumerate() {
                let $acc = *acc;
                $(let $x = $l.load(&$x.0[group * 4 + j]);)+
                *acc = $next;
            }
        }
        let whole = len / WIDTH - groups * 4;
        for (j, acc) in accs.iter_mut().enumerate().take(whole) {
            let $acc = *acc;
            $(let $x = $l.load(&$x.0[groups * 4 + j]);)+
            *acc = $next;
        }
        if !len.is_multiple_of(WIDTH) {
            let $acc = accs[whole];
            $(let $x = $l.load_first($x.1, $fill);)+
            accs[whole] = $next;
        }
        let low = { let ($a, $b) = (accs[0], accs[1]); $both };
        let high = { let ($a, $b) = (accs[2], accs[3]); $both };
        let ($a, $b) = (low, high);
        $both
    }};
}
pub(crate) use fold_rows;

/// Sums an expression over equally long rows.
macro_rules! sum_rows {
    ($l:ident, [$($x:ident: $row:expr),+], $acc:ident => $next:expr) => {{
        let total = $crate::rows::fold_rows!(
            $l, [$($x: $row, 0.0);+], $l.splat(0.0), $acc => $next, a, b => $l.add(a, b));
        $l.sum(total)
    }};
}
pub(crate) use sum_rows;

/// Writes an expression of equally long rows to another: `map_rows!(l, [x: row, ..], out, stream, value)`.
macro_rules! map_rows {
    ($l:ident, [$($x:ident: $row:expr),+], $out:expr, $stream:expr, $value:expr) => {{
        use $crate::lanes::WIDTH;
        let out: &mut [f32] = $out;
        $(let $x: &[f32] = &$row[..out.len()];)+
        let (out, last) = out.as_chunks_mut::<WIDTH>();
        $(let $x = $x.as_chunks::<WIDTH>();)+
        if $stream {
            for (i, out) in out.iter_mut().enumerate() {
                $(let $x = $l.load(&$x.0[i]);)+
                $l.stream($value, out);
            }
        } else {
            for (i, out) in out.iter_mut().enumerate() {
                $(let $x = $l.load(&$x.0[i]);)+
                $l.store($value, out);
            }
        }
        if !last.is_empty() {
            $(let $x = $l.load_first($x.1, 0.0);)+
            $l.store_first($value, last);
        }
    }};
}
pub(crate) use map_rows;

/// A tensor seen as `count` rows of its last dimension.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub count: usize,
    pub len: usize,
    pub dtype: DType,
}

impl Rows {
    /// `None` for types without f32 arithmetic.
    pub(crate) fn of(ty: &TensorType) -> Option<Rows> {
        let len = *ty.dims.last()?;
        let count = ty.numel().checked_div(len).unwrap_or(0);
        ty.dtype.is_float().then_some(Rows { count, len, dtype: ty.dtype })
    }

    /// Rows a thread should take at least.
    pub(crate) fn grain(self) -> usize {
        GRAIN.div_ceil(self.len.max(1))
    }

    /// Whether results of this size should bypass the caches.
    pub(crate) fn streams(self) -> bool {
        self.dtype == DType::F32 && self.count * self.len * 4 >= STREAM_BYTES
    }

    /// Row `i` of operand `operand` in f32: where it lies, or widened into `buffer`.
    pub(crate) fn read<'a>(
        self,
        operands: &Operands<'a>,
        operand: usize,
        i: usize,
        buffer: &'a mut [f32],
    ) -> &'a [f32] {
        let start = i * self.len;
        if self.dtype == DType::F32 {
            return &operands.input::<f32>(operand)[start..start + self.len];
        }
        let buffer = &mut buffer[..self.len];
        memory::widen(self.dtype, operands.input(operand), start, 1, bytemuck::cast_slice_mut(buffer));
        buffer
    }

    /// Lets `fill` compute row `i` of a result in f32: where it lies, or in `buffer` to be narrowed from there.
    pub(crate) fn write(
        self,
        operands: &Operands<'_>,
        output: usize,
        i: usize,
        buffer: &mut [f32],
        fill: impl FnOnce(&mut [f32]),
    ) {
        let start = i * self.len;
        if self.dtype == DType::F32 {
            // SAFETY: each row is written by the one thread that owns it.
            return fill(unsafe { operands.output::<f32>(output).part(start..start + self.len) });
        }
        let buffer = &mut buffer[..self.len];
        fill(buffer);
        memory::narrow(self.dtype, bytemuck::cast_slice(buffer), operands, output, start, false);
    }
}

/// Three rows of scratch: two widened operands and a result.
fn split_scratch(scratch: &mut [f32], len: usize) -> [&mut [f32]; 4] {
    let padded = len.next_multiple_of(crate::lanes::WIDTH);
    let (a, rest) = scratch.split_at_mut(padded);
    let (b, rest) = rest.split_at_mut(padded);
    let (c, d) = rest.split_at_mut(padded);
    [a, b, c, d]
}

/// A kernel that computes each row of its one result from the same row of its first operand:
/// `row(x, y, temporary, stream)`, all of the row's length.
pub(crate) fn row_by_row(
    rows: Rows,
    work: usize,
    row: impl Fn(&Operands<'_>, &[f32], &mut [f32], &mut [f32], bool) + Send + Sync + 'static,
) -> Kernel {
    Kernel::new(work, move |team, operands| {
        for_rows(team, rows, |i, [x, y, temporary, _]| {
            let x = rows.read(operands, 0, i, x);
            rows.write(operands, 0, i, y, |y| row(operands, x, y, temporary, rows.streams()));
        });
    })
}

/// Calls `body` with each row number that is this thread's and four rows of scratch.
pub(crate) fn for_rows(team: &Team<'_>, rows: Rows, mut body: impl FnMut(usize, [&mut [f32]; 4])) {
    let range = team.share(rows.count, rows.grain());
    if range.is_empty() {
        return;
    }
    with_scratch(4 * rows.len.next_multiple_of(crate::lanes::WIDTH), |scratch| {
        for i in range {
            body(i, split_scratch(scratch, rows.len));
        }
    });
    finish_streams();
}

/// A vector operand in f32, widened into `buffer` unless it is already.
pub(crate) fn vector<'a>(
    operands: &Operands<'a>,
    i: usize,
    dtype: DType,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    if dtype == DType::F32 {
        return operands.input::<f32>(i);
    }
    let len = operands.input::<u8>(i).len() / dtype.block_bytes();
    buffer.resize(len, 0.0);
    memory::widen(dtype, operands.input(i), 0, 1, bytemuck::cast_slice_mut(&mut buffer[..]));
    buffer
}

/// Stores f32 values as the elements `start..` of a float result.
pub(crate) fn store_floats(dtype: DType, x: &[f32], operands: &Operands<'_>, output: usize, start: usize) {
    let stored = with_float!(dtype, T => {
        let to: SharedSlice<'_, T> = operands.output(output);
        // SAFETY: each thread stores its own part.
        let to = unsafe { to.part(start..start + x.len()) };
        to.iter_mut().zip(x).for_each(|(to, x)| *to = <T as Element>::from_f32(*x));
    });
    debug_assert!(stored.is_some());
}
