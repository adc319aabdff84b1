//! Which keys a query may attend to.

use std::collections::HashMap;
use std::ops::Range;

use super::{BLOCK, Shape};
use crate::kernel::Operands;

/// The rules of one batch element.
pub(super) struct Mask<'a> {
    causal: bool,
    window: Option<i64>,
    offset: i64,
    /// Keys there are.
    pub(super) live: usize,
    queries: usize,
    segments: Option<(&'a [i32], &'a [i32])>,
    blocks: Option<(&'a [i32], &'a [i32])>,
    /// Where the keys of each query's own segment begin and end.
    own_segment: Vec<Range<usize>>,
    /// Where the keys of each query's own block begin and end; none without one.
    own_block: Vec<Option<Range<usize>>>,
    /// The window masks no key of a query's own block.
    wide_blocks: bool,
}

impl<'a> Mask<'a> {
    pub(super) fn new(shape: &Shape, operands: &Operands<'a>, b: usize) -> Mask<'a> {
        let spec = &shape.spec;
        let mut next = 2;
        let mut take = |there: bool, len: usize| {
            there.then(|| {
                next += 1;
                &operands.input::<i32>(next)[b * len..(b + 1) * len]
            })
        };
        let segments = take(spec.segments, shape.queries).zip(take(spec.segments, shape.keys));
        let blocks = take(spec.blocks, shape.queries).zip(take(spec.blocks, shape.keys));
        let offset = take(spec.offset, 1).map_or(0, |x| i64::from(x[0]));
        let live = take(spec.kv_len, 1).map_or(shape.keys, |x| (x[0].max(0) as usize).min(shape.keys));
        // Blocks only lift the causal rule.
        let blocks = blocks.filter(|_| spec.causal);
        let own_segment = segments.map_or(Vec::new(), |(q, k)| extents(q, k));
        let of_block = |(id, keys): (&i32, Range<usize>)| (*id >= 0 && !keys.is_empty()).then_some(keys);
        let own_block =
            blocks.map_or(Vec::new(), |(q, k)| q.iter().zip(extents(q, k)).map(of_block).collect());
        Mask {
            causal: spec.causal,
            window: spec.window.map(|w| w as i64),
            offset,
            live,
            queries: shape.queries,
            segments,
            blocks,
            own_segment,
            own_block,
            wide_blocks: spec.wide_blocks,
        }
    }

    /// Keys outside this range are masked for row `r`; inside it, segments and blocks decide.
    pub(super) fn range(&self, r: usize) -> Range<usize> {
        let query = r % self.queries;
        let position = query as i64 + self.offset;
        let (mut low, mut high) = (0, self.live as i64);
        let own_block = self.own_block.get(query).and_then(Option::as_ref);
        if self.causal {
            high = high.min((position + 1).max(own_block.map_or(0, |keys| keys.end as i64)));
        }
        if let Some(own) = self.own_segment.get(query) {
            (low, high) = (own.start as i64, high.min(own.end as i64));
        }
        if let Some(window) = self.window {
            let near = position - window + 1;
            let near =
                own_block.filter(|_| self.wide_blocks).map_or(near, |keys| near.min(keys.start as i64));
            low = low.max(near);
            if !self.causal {
                high = high.min(position + window);
            }
        }
        let low = low.clamp(0, self.live as i64);
        low as usize..high.clamp(low, self.live as i64) as usize
    }

    /// Whether row `r` attends to no key of the block from key `first` on.
    pub(super) fn sees_nothing(&self, r: usize, first: usize) -> bool {
        let seen = self.range(r);
        seen.is_empty() || seen.end <= first || seen.start >= first + BLOCK
    }

    /// Sets the scores of row `r` that are masked in the block from key `first` on to -inf; says whether any is left.
    pub(super) fn apply(&self, r: usize, first: usize, scores: &mut [f32]) -> bool {
        let range = self.range(r);
        let low = range.start.clamp(first, first + BLOCK) - first;
        let high = range.end.clamp(first, first + BLOCK) - first;
        if low >= high {
            scores.fill(f32::NEG_INFINITY);
            return false;
        }
        scores[..low].fill(f32::NEG_INFINITY);
        scores[high..].fill(f32::NEG_INFINITY);
        if self.segments.is_none() && self.blocks.is_none() {
            return true;
        }
        let query = r % self.queries;
        let mut any = false;
        for (j, score) in (first + low..first + high).zip(&mut scores[low..high]) {
            let position = query as i64 + self.offset;
            let near = !self.wide_blocks || self.window.is_none_or(|window| position - (j as i64) < window);
            let before = j as i64 <= position && near;
            let together = self.blocks.is_none_or(|(q, k)| before || q[query] >= 0 && q[query] == k[j]);
            if together && self.segments.is_none_or(|(q, k)| q[query] == k[j]) {
                any = true;
            } else {
                *score = f32::NEG_INFINITY;
            }
        }
        any
    }
}

/// For each query the keys from the first to the last that have its number; none where no key has. Neighbours mostly have
/// one number, which is then looked up once.
fn extents(queries: &[i32], keys: &[i32]) -> Vec<Range<usize>> {
    let mut found: HashMap<i32, Range<usize>> = HashMap::new();
    let mut first = 0;
    for run in keys.chunk_by(|a, b| a == b) {
        let end = first + run.len();
        found.entry(run[0]).or_insert(first..end).end = end;
        first = end;
    }
    let own = |run: &[i32]| {
        let keys = found.get(&run[0]).cloned().unwrap_or(0..0);
        std::iter::repeat_n(keys, run.len())
    };
    queries.chunk_by(|a, b| a == b).flat_map(own).collect()
}
