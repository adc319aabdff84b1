//! The paged cache of keys and values that a decoder's steps carry from run to run.
//!
//! Keys and values lie in pools of fixed-size pages, one pool of each a layer. A sequence has a table of
//! pages, so its rows may lie anywhere, share pages with other sequences, and grow without moving.
//!
//! Layers that have no keys and values but a state of fixed size have it in slots of a pool, one slot a sequence. A step
//! reads a sequence's state from one slot and leaves it in another or the same, so that a state that someone else has too is
//! never copied by itself.

use std::cell::RefCell;

use percept_graph::{AttentionSpec, DType, Role, StateRows, Tensor, TensorType, Trace};

use crate::pass::{Group, Input, PassInputs};

/// Rows of a page. A multiple of the keys that the cpu's attention reads together, so that it reads them
/// where they lie.
pub const PAGE: usize = 64;

/// The extents of a paged cache in a graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheShape {
    /// f32 or f16.
    pub dtype: DType,
    /// Rows of a page.
    pub page: usize,
    /// Pages of a sequence's table.
    pub table: usize,
    /// Pages of the pools, by kind of layer: see [`crate::Decoder::windows`].
    pub pools: Vec<usize>,
    /// Slots of the pools of states; 0 where no layer has a state.
    pub states: usize,
    /// The runs of rows of one step, which have a cache in common.
    pub groups: Vec<Group>,
}

/// The pools of a traced step: inputs `cache.{layer}.{k,v}` [pages,heads,page,features] and, of layers with states,
/// `cache.{layer}.{which}` [slots,..], updated in place.
pub struct Cache<'a> {
    shape: &'a CacheShape,
    windows: &'a [Option<usize>],
    inputs: &'a PassInputs,
    updated: RefCell<Vec<(String, [Tensor; 2])>>,
}

impl<'a> Cache<'a> {
    /// The cache of a step with these inputs; `windows` are the kinds of layers.
    pub fn new(shape: &'a CacheShape, windows: &'a [Option<usize>], inputs: &'a PassInputs) -> Self {
        Self { shape, windows, inputs, updated: RefCell::default() }
    }

    /// Attention of the step's rows q [rows,h,1,d] to what their sequences hold in a layer, the step's `own`
    /// keys and values [rows,hk,1,d] among it, which are appended first. Without them the rows attend to what
    /// the layer of this number appended. The result is [rows,h,1,d].
    ///
    /// [`AttentionSpec::blocks`] says whether image blocks count, if the step has any.
    pub fn attend(
        &self,
        layer: usize,
        q: &Tensor,
        own: Option<&[Tensor; 2]>,
        spec: &AttentionSpec,
    ) -> Tensor {
        match own {
            Some([k, v]) => self.attend_to(layer, q, &[("k", k), ("v", v)], spec),
            None => self.attend_to(layer, q, &[], spec),
        }
    }

    /// Attention to the first pool of a layer, whose values are in the last: those of what is to be kept, or those that the
    /// layer has appended to.
    fn attend_to(&self, layer: usize, q: &Tensor, kept: &[(&str, &Tensor)], spec: &AttentionSpec) -> Tensor {
        let kind = self.windows.iter().position(|window| *window == spec.window);
        let Some((kind, &pages)) = kind.and_then(|kind| Some((kind, self.shape.pools.get(kind)?))) else {
            return self
                .refuse(q, format!("the cache has no pool for layers with the window {:?}", spec.window));
        };
        let pools = match kept {
            [] => self.appended(layer),
            kept => kept.iter().map(|(which, new)| self.append(layer, which, new, (kind, pages))).collect(),
        };
        let ([k, ..], [.., v]) = (&pools[..], &pools[..]) else {
            return self.refuse(q, format!("layer {layer}, whose keys are shared, appended none before"));
        };
        let has_blocks = self.inputs.find(Input::QueryBlocks(0)).is_some();
        let spec = AttentionSpec {
            offset: true,
            kv_len: true,
            paged: true,
            blocks: spec.blocks && has_blocks,
            ..spec.clone()
        };
        let of_group = |(g, q): (usize, Tensor)| {
            let mut wanted = Vec::new();
            if spec.blocks {
                wanted.extend([Input::QueryBlocks(g), Input::KeyBlocks(g)]);
            }
            wanted.extend([Input::Offset(g), Input::Length(g), Input::Pages(g, kind)]);
            let optional: Vec<&Tensor> = wanted.into_iter().map(|input| self.inputs.get(input)).collect();
            q.cast(self.shape.dtype).attention(k, v, &optional, spec.clone()).cast(DType::F32)
        };
        self.each_group(q, of_group)
    }

    /// A pool of a layer with the step's own keys or values [rows,hk,1,d] in it.
    fn append(&self, layer: usize, which: &str, new: &Tensor, (kind, pages): (usize, usize)) -> Tensor {
        let (slots, at) = (self.inputs.get(Input::PageOf(kind)), self.inputs.get(Input::RowOfPage));
        let name = format!("{}{which}", pool_prefix(layer));
        let dims = [pages, new.dim(1), self.shape.page, new.dim(3)];
        let pool = new.trace().input(&name, Role::State, TensorType::new(self.shape.dtype, dims));
        let updated = pool.kv_append(&new.cast(self.shape.dtype), at, Some(slots));
        self.updated.borrow_mut().push((name, [pool, updated.clone()]));
        updated
    }

    /// The pools that a layer has appended to in this step.
    fn appended(&self, layer: usize) -> Vec<Tensor> {
        let prefix = pool_prefix(layer);
        let updated = self.updated.borrow();
        let own = updated.iter().filter(|(name, _)| name.starts_with(&prefix));
        own.map(|(_, [_, updated])| updated.clone()).collect()
    }

    /// As [`Cache::attend`], with values that are the keys: one pool holds both.
    pub fn attend_shared(&self, layer: usize, q: &Tensor, keys: &Tensor, spec: &AttentionSpec) -> Tensor {
        self.attend_to(layer, q, &[("k", keys)], spec)
    }

    /// The rows [rows,1,..] that a layer with a state makes of the step's `rows`, each [rows,1,..]: `step` is given those of
    /// a group as [sequences,rows,..], and its states f32[slots,..dims].
    pub fn carry(
        &self,
        layer: usize,
        which: &str,
        dims: &[usize],
        rows: &[&Tensor],
        step: impl Fn(&[Tensor], StateRows<'_>) -> [Tensor; 2],
    ) -> Tensor {
        let count = rows[0].dim(0);
        if self.shape.states == 0 {
            return self.refuse(rows[0], format!("the cache has no slots for the states of layer {layer}"));
        }
        let name = format!("cache.{layer}.{which}");
        let all: Vec<usize> = [self.shape.states].into_iter().chain(dims.iter().copied()).collect();
        let first = rows[0].trace().input(&name, Role::State, TensorType::new(DType::F32, all));
        let (mut pool, mut start, mut parts) = (first.clone(), 0, Vec::new());
        for (g, &Group { sequences, rows: each }) in self.shape.groups.iter().enumerate() {
            let end = start + sequences * each;
            let own = |x: &&Tensor| {
                let own = if end - start == count { (*x).clone() } else { x.narrow(0, start, end) };
                own.reshape([&[sequences, each][..], &x.dims()[2..]].concat())
            };
            let own: Vec<Tensor> = rows.iter().map(own).collect();
            let [from, to, rows] = [Input::StateFrom(g), Input::StateTo(g), Input::StateRows(g)]
                .map(|input| self.inputs.get(input));
            let [out, updated] = step(&own, StateRows { pool: &pool, from, to, rows });
            parts.push(out.reshape([&[end - start, 1][..], &out.dims()[2..]].concat()));
            (pool, start) = (updated, end);
        }
        self.updated.borrow_mut().push((name, [first, pool]));
        self.joined(parts, rows[0])
    }

    /// Applies attention to the rows [rows,h,1,d] of each group as [sequences,h,rows,d], and puts the results
    /// together.
    pub fn each_group(&self, q: &Tensor, of_group: impl Fn((usize, Tensor)) -> Tensor) -> Tensor {
        let (h, d) = (q.dim(1), q.dim(3));
        let mut start = 0;
        let mut parts = Vec::new();
        for (g, &Group { sequences, rows }) in self.shape.groups.iter().enumerate() {
            let end = start + sequences * rows;
            let own = if end - start == q.dim(0) { q.clone() } else { q.narrow(0, start, end) };
            let own = swapped(&own.reshape([sequences, rows, h, d]));
            let out = of_group((g, own));
            parts.push(swapped(&out).reshape([end - start, h, 1, out.dim(3)]));
            start = end;
        }
        self.joined(parts, q)
    }

    /// The rows of all groups.
    fn joined(&self, parts: Vec<Tensor>, rows: &Tensor) -> Tensor {
        match &parts[..] {
            [one] => one.clone(),
            _ => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
                .unwrap_or_else(|| self.refuse(rows, "a step over a cache has no groups of rows".into())),
        }
    }

    /// Keeps the error in the trace; what is made of the handle is ignored.
    fn refuse(&self, q: &Tensor, why: String) -> Tensor {
        q.trace().fail("attention over a cache".into(), vec![q.ty()], why);
        q.clone()
    }

    /// Name the updated pools as outputs that replace the given ones.
    pub fn finish(&self, t: &Trace) {
        for (name, [pool, updated]) in self.updated.borrow().iter() {
            t.output_in_place(name, updated, pool);
        }
    }
}

/// What the names of a layer's pools begin with; `k` or `v` follows.
fn pool_prefix(layer: usize) -> String {
    format!("cache.{layer}.")
}

/// x [a,b,c,d] as [a,c,b,d]; nothing has to move where one of the two extents is 1.
pub(crate) fn swapped(x: &Tensor) -> Tensor {
    if x.dim(1) == 1 || x.dim(2) == 1 {
        x.reshape([x.dim(0), x.dim(2), x.dim(1), x.dim(3)])
    } else {
        x.transpose([0, 2, 1, 3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Norm, Stack};
    use crate::decoder::Decoder;
    use crate::pass::PassShape;

    /// A pass whose groups or pools do not fit its decoder is an error of the trace, never another graph.
    #[test]
    fn a_cache_that_does_not_fit_the_layers_is_refused() {
        let decoder = Decoder {
            vocab: 4,
            hidden: 16,
            context: 8,
            table: "table.weight".into(),
            embedding_scale: None,
            ropes: Vec::new(),
            stack: Stack { prefix: "layers".into(), blocks: Vec::new() },
            norm: Norm::rms(1e-5),
            norm_name: "norm".into(),
            head: "head.weight".into(),
            logit_divisor: None,
            logit_cap: None,
            deepstack: 0,
            per_layer: None,
            layer_scalar: false,
        };
        let traced = |pools: Vec<usize>, groups: Vec<Group>, windows: &[Option<usize>]| {
            let shape = CacheShape { dtype: DType::F32, page: 4, table: 2, pools, states: 0, groups };
            let pass = PassShape::step(shape.clone(), None);
            let t = Trace::new("step");
            let inputs = pass.declare(&decoder, &t);
            let cache = Cache::new(&shape, windows, &inputs);
            let of = |name: &str| t.data(name, DType::F32, [pass.count(), 2, 1, 8]);
            let (q, k, v) = (of("q"), of("k"), of("v"));
            t.output("out", &cache.attend(0, &q, Some(&[k, v]), &AttentionSpec::causal(0.5)));
            cache.finish(&t);
            t.finish().map(|_| ()).map_err(|e| e.to_string())
        };
        let groups = || vec![Group { sequences: 2, rows: 1 }, Group { sequences: 1, rows: 3 }];
        traced(vec![5], groups(), &[None]).unwrap();
        let e = traced(vec![5], groups(), &[Some(8)]).unwrap_err();
        assert!(e.contains("no pool for layers with the window None"), "{e}");
        let e = traced(Vec::new(), groups(), &[None]).unwrap_err();
        assert!(e.contains("no pool"), "{e}");
    }
}
