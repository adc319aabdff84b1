//! Dot products of dense and block-quantized operands: f32 accumulation, one order of additions per path.
//!
//! The path of a product is chosen by where the reduced axis lies in the right operand (see [`Layout`]) and by the
//! dtypes, never by the other dimensions: a row alone has the bits of the same row in a batch, on any number of
//! threads. bf16 times bf16 runs on pairs; 4-bit weights are multiplied by digits where the machine can (digits.rs); every other
//! combination is widened to f32 on the way.

mod bytes;
mod digits;
#[cfg(test)]
mod digits_test;
mod inner;
#[cfg(target_arch = "aarch64")]
mod neon;
mod outer;
mod pack;
mod panel;
mod row;
mod strip;
#[cfg(test)]
mod tests;
mod tile;
pub(crate) mod unit;

use percept_graph::DType;

use self::bytes::with_bytes;
use self::digits::ByDigits;
use self::inner::Inner;
use self::outer::Outer;
use self::pack::{Lhs, decode_units};
pub use self::unit::DotIsa;
use crate::pool::{SharedSlice, Team};

/// Bytes of a cache line, to which packed operands are aligned.
const LINE: usize = 64;

/// Called with finished sums before they are stored: the row, the first column, and the f32 sums from there on.
pub type Finish<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// How the right operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// [n, k]: the reduced axis is contiguous, as in a linear layer's weight.
    Inner,
    /// [k, n]: the columns are contiguous, as in a plain matrix product.
    Outer,
}

/// A batch of products [m, k] x [k, n] -> [m, n].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatMul {
    /// Products in the batch.
    pub batch: usize,
    /// Rows of the left operand.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the reduced axis.
    pub k: usize,
    /// f32, f16 or bf16.
    pub lhs: DType,
    /// Elements from one left matrix to the next, one row to the next, one reduced element to the next.
    pub lhs_strides: [usize; 3],
    /// f32, f16, bf16 or quantized; quantized rows are whole blocks.
    pub rhs: DType,
    /// How each right matrix lies in memory.
    pub layout: Layout,
    /// Elements from one right matrix to the next, and from one of its stored rows to the next.
    pub rhs_strides: [usize; 2],
    /// f32, f16 or bf16; the result is dense.
    pub out: DType,
}

/// One product of a batch, by address.
struct Product<'a> {
    m: usize,
    n: usize,
    k: usize,
    lhs: Lhs,
    rhs: *const u8,
    rhs_dtype: DType,
    /// Bytes from one stored row of the right operand to the next.
    rhs_row: usize,
    out: *mut u8,
    out_dtype: DType,
    work: *mut u8,
    finish: Option<Finish<'a>>,
}

impl MatMul {
    /// x [m, k] times w [n, k], both dense: a linear layer.
    pub fn linear(m: usize, n: usize, k: usize, x: DType, w: DType, out: DType) -> MatMul {
        let layout = Layout::Inner;
        MatMul {
            batch: 1,
            m,
            n,
            k,
            lhs: x,
            lhs_strides: [m * k, k, 1],
            rhs: w,
            layout,
            rhs_strides: [n * k, k],
            out,
        }
    }

    /// a [m, k] times b [k, n], both dense.
    pub fn plain(m: usize, n: usize, k: usize, a: DType, b: DType, out: DType) -> MatMul {
        let layout = Layout::Outer;
        MatMul {
            batch: 1,
            m,
            n,
            k,
            lhs: a,
            lhs_strides: [m * k, k, 1],
            rhs: b,
            layout,
            rhs_strides: [n * k, n],
            out,
        }
    }

    /// Bytes of workspace that [`MatMul::run`] needs on a team of `threads`.
    pub fn workspace(&self, threads: usize) -> usize {
        let bytes =
            if self.alone(threads) { threads * self.one_workspace(1) } else { self.one_workspace(threads) };
        // Room to begin on a cache line.
        bytes + LINE
    }

    /// Whether each thread multiplies whole matrices by itself.
    fn alone(&self, threads: usize) -> bool {
        threads > 1 && self.batch >= 2 * threads
    }

    fn pairs(&self) -> bool {
        self.lhs == DType::BF16 && self.rhs == DType::BF16
    }

    fn one_workspace(&self, threads: usize) -> usize {
        let per_unit = if self.pairs() { 2 } else { 1 };
        let bytes = match self.layout {
            Layout::Inner => {
                let digits =
                    if digits::has(self.rhs) { digits::workspace(self.m, self.k, threads) } else { 0 };
                digits.max(inner::workspace(self.m, self.k, per_unit, threads))
            }
            Layout::Outer => outer::workspace(self.m, self.n, self.k, per_unit, self.out),
        };
        bytes.next_multiple_of(LINE)
    }

    /// Computes the batch on a team, all of whose threads call this with the same arguments. Ends without a barrier.
    ///
    /// Panics when an operand, the result or the workspace is shorter than the strides and shapes say, or the result
    /// not aligned to its elements.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        team: &Team<'_>,
        isa: DotIsa,
        lhs: &[u8],
        rhs: &[u8],
        out: SharedSlice<'_, u8>,
        work: SharedSlice<'_, u8>,
        finish: Option<Finish<'_>>,
    ) {
        if self.batch * self.m * self.n == 0 {
            return;
        }
        self.check(lhs, rhs, &out, &work, team.size());
        let one = self.one_workspace(1);
        let start = work.as_ptr();
        let work = start.wrapping_add(start.addr().next_multiple_of(LINE) - start.addr());
        let multiply = |team: &Team<'_>, at: usize, work: *mut u8| {
            let (l, r) = (self.lhs.block_bytes(), self.rhs.block_bytes());
            let product = Product {
                m: self.m,
                n: self.n,
                k: self.k,
                lhs: Lhs {
                    start: lhs.as_ptr().wrapping_add(at * self.lhs_strides[0] * l),
                    dtype: self.lhs,
                    row: self.lhs_strides[1] * l,
                    k: self.lhs_strides[2] * l,
                },
                rhs: rhs.as_ptr().wrapping_add(at * self.rhs_strides[0] / self.rhs.block_len() * r),
                rhs_dtype: self.rhs,
                rhs_row: self.rhs_strides[1] / self.rhs.block_len() * r,
                out: out.as_ptr().wrapping_add(at * self.m * self.n * self.out.block_bytes()),
                out_dtype: self.out,
                work,
                finish,
            };
            product.multiply(self, team, isa);
        };
        if self.alone(team.size()) {
            let work = work.wrapping_add(team.rank() * one);
            for at in team.claims(self.batch) {
                Team::alone(|alone| multiply(alone, at, work));
            }
        } else {
            for at in 0..self.batch {
                if at > 0 {
                    // The workspace of the product before is still read by slower threads.
                    team.barrier();
                }
                multiply(team, at, work);
            }
        }
    }

    fn check(
        &self,
        lhs: &[u8],
        rhs: &[u8],
        out: &SharedSlice<'_, u8>,
        work: &SharedSlice<'_, u8>,
        threads: usize,
    ) {
        let last = |sizes: &[usize], strides: &[usize]| -> usize {
            sizes.iter().zip(strides).map(|(size, stride)| size.saturating_sub(1) * stride).sum()
        };
        if self.k > 0 {
            let elements = last(&[self.batch, self.m, self.k], &self.lhs_strides) + 1;
            assert!(lhs.len() >= elements * self.lhs.block_bytes(), "left operand too short");
            let (rows, row) = match self.layout {
                Layout::Inner => (self.n, self.k),
                Layout::Outer => (self.k, self.n),
            };
            let block = self.rhs.block_len();
            assert!(row.is_multiple_of(block), "rows of {row} are not whole blocks of {}", self.rhs);
            assert!(self.rhs_strides.iter().all(|s| s.is_multiple_of(block)), "strides are not whole blocks");
            let elements = last(&[self.batch, rows], &self.rhs_strides) + row;
            assert!(rhs.len() >= elements / block * self.rhs.block_bytes(), "right operand too short");
        }
        let (m, n) = (self.m, self.n);
        assert!(out.len() >= self.batch * m * n * self.out.block_bytes(), "result too short");
        assert!(out.as_ptr().addr().is_multiple_of(self.out.block_bytes()), "result not aligned");
        assert!(work.len() >= self.workspace(threads), "workspace too short");
    }
}

impl Product<'_> {
    fn multiply(&self, matmul: &MatMul, team: &Team<'_>, isa: DotIsa) {
        let product = self;
        if let Some(bytes) = isa.bytes()
            && matmul.layout == Layout::Inner
            && digits::has(self.rhs_dtype)
        {
            return with_bytes(bytes, ByDigits { product, team });
        }
        match (matmul.layout, matmul.pairs()) {
            (Layout::Inner, true) => unit::pairs(isa, Inner { product, team, isa }),
            (Layout::Inner, false) => unit::singles(isa, Inner { product, team, isa }),
            (Layout::Outer, pairs) => Outer { product, team, isa, pairs }.multiply(),
        }
    }
}

/// Decodes `out.len()` elements of `dtype` (dense float or quantized) to f32; quantized rows are whole blocks.
///
/// Panics when `bytes` is too short or the elements are not whole blocks.
pub fn decode_f32(isa: DotIsa, dtype: DType, bytes: &[u8], out: &mut [f32]) {
    let block = dtype.block_len();
    assert!(out.len().is_multiple_of(block), "{} elements are not whole blocks of {dtype}", out.len());
    assert!(bytes.len() >= out.len() / block * dtype.block_bytes(), "too few bytes of {dtype}");
    let whole = out.len() / 16 * 16;
    let (first, rest) = out.split_at_mut(whole);
    // SAFETY: the lengths were checked; whole vectors fit, and the rest, which only dense types have, goes through an
    // array.
    unsafe {
        decode_units(isa, dtype, bytes.as_ptr(), whole, first.as_mut_ptr().cast());
        if !rest.is_empty() {
            let mut last = [0.0f32; 16];
            let from = bytes.as_ptr().add(whole * dtype.block_bytes());
            decode_units(isa, dtype, from, rest.len(), last.as_mut_ptr().cast());
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}
