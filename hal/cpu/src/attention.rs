//! Scaled-dot-product attention over blocks of keys, with an online softmax (Dao et al. 2022).
//!
//! A query row's result depends on its own values and its keys only: key blocks start at multiples of [`BLOCK`],
//! every product is summed in order of depth, and a block without an allowed key leaves a row's bits alone. So a row
//! is the same alone, in a batch, in another chunk of queries and in decoding. Sums run over splits of a fixed number of
//! keys, which threads may share, and are merged in order.

mod backward;
mod forward;
mod mask;

use percept_graph::{AttentionSpec, DType, OpDesc};

pub(crate) use self::backward::attention_grad;
pub(crate) use self::forward::attention;
use self::mask::Mask;
use crate::fused::memory;
use crate::kernel::Operands;
use crate::lanes::{WIDTH, simd};

/// Keys in a block.
const BLOCK: usize = 64;

/// The shapes of an attention.
#[derive(Clone, Debug)]
struct Shape {
    spec: AttentionSpec,
    dtype: DType,
    batch: usize,
    heads: usize,
    key_heads: usize,
    queries: usize,
    /// Keys there is room for.
    keys: usize,
    /// Features of a query and key, and of a value.
    d: usize,
    e: usize,
    /// Rows of a page, and of the page table.
    page: usize,
    pages: usize,
}

impl Shape {
    fn of(desc: &OpDesc<'_>, spec: &AttentionSpec) -> Shape {
        let (q, k, v) = (&desc.inputs[0].dims, &desc.inputs[1].dims, &desc.inputs[2].dims);
        let table = 2 + spec.optional_operands();
        let pages = if spec.paged { desc.inputs[table].dims[1] } else { 1 };
        Shape {
            spec: spec.clone(),
            dtype: desc.inputs[0].dtype,
            batch: q[0],
            heads: q[1],
            key_heads: k[1],
            queries: q[2],
            keys: if spec.paged { k[2] * pages } else { k[2] },
            d: q[3],
            e: v[3],
            page: k[2],
            pages,
        }
    }

    /// Query heads that share a key head.
    fn groups(&self) -> usize {
        self.heads / self.key_heads
    }

    /// Query rows of one key head: its groups one after the other.
    fn rows(&self) -> usize {
        self.groups() * self.queries
    }

    /// Lanes that hold a row of values.
    fn e_lanes(&self) -> usize {
        self.e.next_multiple_of(WIDTH)
    }

    /// Where row `r` of a key head begins in a tensor of query rows of `width` features.
    fn query_start(&self, b: usize, key_head: usize, r: usize, width: usize) -> usize {
        let head = key_head * self.groups() + r / self.queries;
        ((b * self.heads + head) * self.queries + r % self.queries) * width
    }

    /// Where a key's row begins in the keys (or values) of `width` features.
    fn key_start(
        &self,
        table: &[i32],
        pool: usize,
        b: usize,
        key_head: usize,
        key: usize,
        width: usize,
    ) -> usize {
        let (slot, row) = if self.spec.paged {
            let page = table[b * self.pages + key / self.page];
            (page.clamp(0, pool as i32 - 1) as usize, key % self.page)
        } else {
            (b, key)
        };
        ((slot * self.key_heads + key_head) * self.page + row) * width
    }
}

/// A block's keys and values in f32.
struct KeyBlock<'a> {
    shape: &'a Shape,
    k: &'a [u8],
    v: &'a [u8],
    table: &'a [i32],
    /// Pages (or batches) that the keys hold.
    pool: usize,
}

impl<'a> KeyBlock<'a> {
    fn new(shape: &'a Shape, operands: &Operands<'a>) -> KeyBlock<'a> {
        let k: &[u8] = operands.input(1);
        let slot = shape.key_heads * shape.page * shape.d * shape.dtype.block_bytes();
        let table = if shape.spec.paged { operands.input(2 + shape.spec.optional_operands()) } else { &[] };
        KeyBlock { shape, k, v: operands.input(2), table, pool: k.len().checked_div(slot).unwrap_or(0) }
    }

    /// Copies rows `first..` of keys or values, `lanes` apart, zeros where there is no key (from `live` on) or feature.
    #[allow(clippy::too_many_arguments)]
    fn rows(
        &self,
        of: &[u8],
        width: usize,
        b: usize,
        key_head: usize,
        first: usize,
        live: usize,
        lanes: usize,
        to: &mut [f32],
    ) {
        for (i, row) in to[..BLOCK * lanes].chunks_exact_mut(lanes).enumerate() {
            let (values, rest) = row.split_at_mut(width);
            rest.fill(0.0);
            if first + i < live {
                let start = self.shape.key_start(self.table, self.pool, b, key_head, first + i, width);
                memory::widen(self.shape.dtype, of, start, 1, bytemuck::cast_slice_mut(values));
            } else {
                values.fill(0.0);
            }
        }
    }

    /// Keys as rows, padded to whole lane vectors.
    fn keys(&self, b: usize, key_head: usize, first: usize, live: usize, to: &mut [f32]) {
        let lanes = self.shape.d.next_multiple_of(WIDTH);
        self.rows(self.k, self.shape.d, b, key_head, first, live, lanes, to);
    }

    /// Values as rows, padded to whole lane vectors.
    fn values(&self, b: usize, key_head: usize, first: usize, live: usize, to: &mut [f32]) {
        self.rows(self.v, self.shape.e, b, key_head, first, live, self.shape.e_lanes(), to);
    }

    /// Keys as rows: where they lie if nothing has to be added to them, else copied to `buffer`.
    fn keys_in_place<'b>(
        &'b self,
        b: usize,
        key_head: usize,
        first: usize,
        live: usize,
        buffer: &'b mut [f32],
    ) -> &'b [f32] {
        if let Some(rows) = self.in_place(self.k, self.shape.d, b, key_head, first, live) {
            return rows;
        }
        self.keys(b, key_head, first, live, buffer);
        buffer
    }

    /// Values as rows, likewise.
    fn values_in_place<'b>(
        &'b self,
        b: usize,
        key_head: usize,
        first: usize,
        live: usize,
        buffer: &'b mut [f32],
    ) -> &'b [f32] {
        if let Some(rows) = self.in_place(self.v, self.shape.e, b, key_head, first, live) {
            return rows;
        }
        self.values(b, key_head, first, live, buffer);
        buffer
    }

    /// A block's rows where they lie, if they lie together, are f32 and whole lane vectors, and are all there.
    fn in_place(
        &self,
        of: &'a [u8],
        width: usize,
        b: usize,
        key_head: usize,
        first: usize,
        live: usize,
    ) -> Option<&'a [f32]> {
        let shape = self.shape;
        let whole = first + BLOCK <= live && (!shape.spec.paged || shape.page.is_multiple_of(BLOCK));
        if shape.dtype != DType::F32 || !width.is_multiple_of(WIDTH) || !whole {
            return None;
        }
        let start = shape.key_start(self.table, self.pool, b, key_head, first, width);
        Some(&bytemuck::cast_slice(of)[start..start + BLOCK * width])
    }
}

simd! {
    /// `to[j][i] = from[i][j]`: `BLOCK` rows of `lanes` values become `lanes` rows of `BLOCK`.
    fn transpose_block(l, from: &[f32], lanes: usize, to: &mut [f32]) {
        assert!(lanes.is_multiple_of(WIDTH) && from.len().min(to.len()) >= BLOCK * lanes);
        for i in (0..BLOCK).step_by(WIDTH) {
            for j in (0..lanes).step_by(WIDTH) {
                // SAFETY: the square lies in the rows that were checked above.
                unsafe {
                    let (from, to) = (from.as_ptr().add(i * lanes + j), to.as_mut_ptr().add(j * BLOCK + i));
                    l.transpose(from, lanes, to, BLOCK);
                }
            }
        }
    }
}

/// Query rows (or rows like them) in f32, `lanes` apart and zero-padded, multiplied by `scale`.
fn load_queries(
    shape: &Shape,
    of: &[u8],
    width: usize,
    (b, key_head): (usize, usize),
    rows: std::ops::Range<usize>,
    scale: f32,
    to: &mut [f32],
) {
    let lanes = width.next_multiple_of(WIDTH);
    for (r, row) in rows.zip(to.chunks_exact_mut(lanes)) {
        let (values, rest) = row.split_at_mut(width);
        rest.fill(0.0);
        let start = shape.query_start(b, key_head, r, width);
        memory::widen(shape.dtype, of, start, 1, bytemuck::cast_slice_mut(values));
        if scale != 1.0 {
            values.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

#[cfg(test)]
#[path = "attention_test.rs"]
mod tests;
