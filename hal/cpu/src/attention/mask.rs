//! Which keys a query may see.

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
        Mask {
            causal: spec.causal,
            window: spec.window.map(|w| w as i64),
            offset,
            live,
            queries: shape.queries,
            segments,
            // Blocks only lift the causal rule.
            blocks: blocks.filter(|_| spec.causal),
        }
    }

    /// Keys outside this range are masked for row `r`; inside it, segments and blocks decide.
    pub(super) fn range(&self, r: usize) -> Range<usize> {
        let position = (r % self.queries) as i64 + self.offset;
        let (mut low, mut high) = (0, self.live as i64);
        if self.causal && self.blocks.is_none() {
            high = high.min(position + 1);
        }
        if let Some(window) = self.window {
            low = low.max(position - window + 1);
            if !self.causal {
                high = high.min(position + window);
            }
        }
        let low = low.clamp(0, self.live as i64);
        low as usize..high.clamp(low, self.live as i64) as usize
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
            let before = j as i64 <= query as i64 + self.offset;
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
