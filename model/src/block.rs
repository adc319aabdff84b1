//! The transformer block that every tower and decoder is a stack of.
//!
//! Activations are f32 [b,t,hidden]. Norms, rotation, attention and the residual stream are computed in f32
//! whatever the weights' dtype, so whether a family casts before or after it multiplies by a norm's weight
//! makes no difference.

use std::cell::RefCell;
use std::collections::BTreeMap;

use percept_graph::{Activation, AttentionSpec, DType, Tensor};

use crate::cache::{Cache, swapped};
use crate::error::{Error, Result};
use crate::latent::Latent;
use crate::mixture::{Mixture, Routing};
use crate::names::{AttentionNames, BlockNames};
use crate::parameters::Parameters;
use crate::recurrent::Recurrent;

/// What varies between the blocks of the families.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpec {
    /// Width of the residual stream.
    pub hidden: usize,
    /// The norms of attention, cross-attention and the MLP.
    pub norm: Norm,
    /// Where they stand.
    pub norms: Norms,
    /// Self-attention.
    pub attention: Attention,
    /// What stands in its place.
    pub recurrent: Option<Recurrent>,
    /// Attention to another sequence, between self-attention and the MLP.
    pub cross: Option<Attention>,
    /// The MLP.
    pub mlp: Mlp,
    /// A mixture of experts in place of the MLP.
    pub mixture: Option<Mixture>,
    /// What attention and the MLP add is multiplied by a vector first.
    pub layer_scale: bool,
    /// And by a number (Granite).
    pub residual_scale: Option<f32>,
    /// What its parameters are called below its prefix.
    pub names: BlockNames,
}

/// Where a block has its norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// Before attention and the MLP: x + f(norm(x)).
    Before,
    /// On both sides of them: x + norm(f(norm(x))).
    Around,
    /// Behind the sum: norm(x + f(x)).
    After,
}

/// A norm over the last dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// What it divides by, and which parameters it has.
    pub kind: NormKind,
    /// Added to the mean square or the variance.
    pub eps: f32,
}

/// Kinds of norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Layer norm with weight and bias.
    Layer,
    /// Division by the root of the mean square, with a weight (Zhang and Sennrich 2019).
    Rms {
        /// The weight is stored less one.
        unit_offset: bool,
    },
    /// The same without a weight.
    BareRms,
}

/// Attention of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Features of a head; `heads * head_dim` need not be the hidden width.
    pub head_dim: usize,
    /// Queries, keys and values come from one matrix.
    pub fused: bool,
    /// Which projections have a bias.
    pub bias: Biases,
    /// Every head's queries have as many gates behind them; what it gives is multiplied by their logistic functions.
    pub gated: bool,
    /// Norms of queries and keys, before they are rotated.
    pub qk_norm: QkNorm,
    /// Norm of each head's values, one without parameters.
    pub v_norm: Option<Norm>,
    /// Values are what keys are before they are normalized and rotated; there is no projection of their own.
    pub k_is_v: bool,
    /// The layer before this one whose keys and values it attends to, having none of its own.
    pub keys_of: Option<usize>,
    /// Multiplies the scores before the softmax.
    pub scale: f32,
    /// Scores become cap * tanh(score / cap).
    pub soft_cap: Option<f32>,
    /// A query sees keys up to its own position, and all of its own image where [`Context::blocks`] says so.
    pub causal: bool,
    /// Of causal attention: [`Context::blocks`] count here.
    pub in_blocks: bool,
    /// Distance at which keys stop being seen.
    pub window: Option<usize>,
    /// The rows of an image see each other however far apart they are, beyond the window too.
    pub wide_blocks: bool,
    /// Index into [`Context::segments`]: queries see keys of their own segment only.
    pub segments: Option<usize>,
    /// Index into [`Context::angles`] of its rotation.
    pub rope: Option<usize>,
    /// Keys and values are made of a narrow row, which is what is kept.
    pub latent: Option<Latent>,
    /// The two features of a pair that turns are neighbours, not halves of the head apart.
    pub neighbours: bool,
}

/// Which projections of an attention have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Biases {
    pub q: bool,
    pub k: bool,
    pub v: bool,
    pub out: bool,
}

impl Biases {
    /// Every projection has one, or none.
    pub const fn all(there: bool) -> Self {
        Self { q: there, k: there, v: there, out: there }
    }
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QkNorm {
    /// They are not normalized.
    None,
    /// Over each head's features, one weight [head_dim] for all heads.
    PerHead(Norm),
    /// Over all heads' features together.
    Full(Norm),
}

/// The MLP of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mlp {
    /// Features between its two layers.
    pub width: usize,
    /// The function between its two layers.
    pub activation: Activation,
    /// act(gate) * up instead of act(up).
    pub gated: bool,
    /// The projections have biases.
    pub bias: bool,
}

/// What all blocks of a stack share in one run.
#[derive(Default)]
pub struct Context<'a> {
    /// Cosines and sines f32[b,t,pairs] of each rotation that blocks name; f32[b,n t,pairs] where each of `n`
    /// equal parts of a head turns by itself.
    pub angles: Vec<[Tensor; 2]>,
    /// Self-attention's and the MLP's projections have bounds: see [`Parameters::clipped_linear`].
    pub clipped: bool,
    /// Segment numbers i32[b,t] of each division that blocks name.
    pub segments: Vec<Tensor>,
    /// Block numbers of queries i32[b,t] and keys i32[b,s]: within a non-negative block causal attention sees
    /// both ways.
    pub blocks: Option<[Tensor; 2]>,
    /// Keys and values of earlier steps.
    pub cache: Option<&'a Cache<'a>>,
    /// Keys and values [b,h,s,d] of cross-attention, one pair a layer; see [`BlockSpec::cross_keys`].
    pub cross: Vec<[Tensor; 2]>,
    /// Where each row of a step over a cache is kept, i32[rows]; those that only fill a step up, at negative places,
    /// go to no expert.
    pub places: Option<Tensor>,
    /// Receives what the router of every mixture chose.
    pub routings: Option<&'a RefCell<Vec<Routing>>>,
    /// Receives the weights f32[b,h,t,s] of every cross-attention, one tensor a layer.
    pub cross_attention: Option<&'a RefCell<Vec<Tensor>>>,
    /// Without a cache: the keys and values [b,h,s,d] that layers so far made of the rows, by layer.
    pub made: RefCell<BTreeMap<usize, [Tensor; 2]>>,
}

impl Context<'_> {
    /// A projection of a block, as [`Parameters::linear`].
    fn linear(
        &self,
        p: &Parameters,
        x: &Tensor,
        (name, bias): (&str, bool),
        n: usize,
        act: Option<Activation>,
    ) -> Tensor {
        match self.clipped {
            true => p.clipped_linear(x, name, n, bias, act),
            false => p.linear(x, name, n, bias, act),
        }
    }

    /// The keys and values of a layer: its `own`, which are kept for layers that share them, or those that were kept.
    fn keys(&self, layer: usize, own: Option<[Tensor; 2]>, q: &Tensor) -> [Tensor; 2] {
        let mut made = self.made.borrow_mut();
        if let Some(own) = own {
            made.insert(layer, own);
        }
        made.get(&layer).cloned().unwrap_or_else(|| {
            let why = format!("layer {layer}, whose keys and values are shared, made none before");
            q.trace().fail("attention".into(), vec![q.ty()], why);
            [q.clone(), q.clone()]
        })
    }
}

impl Norm {
    /// A layer norm.
    pub const fn layer(eps: f32) -> Self {
        Self { kind: NormKind::Layer, eps }
    }

    /// A root-mean-square norm.
    pub const fn rms(eps: f32) -> Self {
        Self { kind: NormKind::Rms { unit_offset: false }, eps }
    }

    /// A root-mean-square norm without a weight.
    pub const fn bare(eps: f32) -> Self {
        Self { kind: NormKind::BareRms, eps }
    }

    /// Normalize by the parameters `{name}.weight` and, in a layer norm, `{name}.bias`.
    pub fn trace(&self, p: &Parameters, name: &str, x: &Tensor) -> Tensor {
        let width = [x.dim(x.rank().saturating_sub(1))];
        let weight = || p.get(&format!("{name}.weight"), width);
        match self.kind {
            NormKind::Layer => x.layer_norm(&weight(), &p.get(&format!("{name}.bias"), width), self.eps),
            NormKind::Rms { unit_offset: false } => x.rms_norm(&weight(), self.eps),
            NormKind::Rms { unit_offset: true } => x.rms_norm_unit_offset(&weight(), self.eps),
            NormKind::BareRms => x.rms_norm(&p.trace().full(DType::F32, width, 1.0), self.eps),
        }
    }
}

impl Attention {
    /// Causal or full self-attention with as many key heads as query heads, no biases and the usual scale.
    pub fn plain(heads: usize, head_dim: usize, causal: bool) -> Self {
        Self {
            heads,
            kv_heads: heads,
            head_dim,
            fused: false,
            bias: Biases::default(),
            gated: false,
            qk_norm: QkNorm::None,
            v_norm: None,
            k_is_v: false,
            keys_of: None,
            scale: (head_dim as f64).powf(-0.5) as f32,
            soft_cap: None,
            causal,
            in_blocks: true,
            window: None,
            wide_blocks: false,
            segments: None,
            rope: None,
            latent: None,
            neighbours: false,
        }
    }

    /// The type of one layer's cached keys or values for one sequence.
    pub fn cache_dims(&self, batch: usize, capacity: usize) -> [usize; 4] {
        [batch, self.kv_heads, capacity, self.head_dim]
    }

    /// Self-attention of normalized x [b,t,hidden], projected back to `hidden`.
    fn itself(
        &self,
        p: &Parameters,
        (path, names): (&str, &AttentionNames),
        layer: usize,
        x: &Tensor,
        cx: &Context,
    ) -> Tensor {
        if let Some(latent) = &self.latent {
            return latent.trace(p, path, (self, layer), x, cx);
        }
        let widths = [self.heads, self.kv_heads, self.kv_heads].map(|h| h * self.head_dim);
        let [q_width, kv_width, _] = widths;
        let part =
            |name: &str, width: usize, bias: bool| cx.linear(p, x, (&join(path, name), bias), width, None);
        let (q, own) = if self.fused {
            let all = part(names.fused, widths.iter().sum(), self.bias.q);
            let mut start = 0;
            let [q, k, v] = widths.map(|w| {
                start += w;
                all.narrow(2, start - w, start)
            });
            (q, Some([k, v]))
        } else {
            let q = part(names.q, if self.gated { 2 * q_width } else { q_width }, self.bias.q);
            let own = self.keys_of.is_none().then(|| {
                let k = part(names.k, kv_width, self.bias.k);
                let v = if self.k_is_v { k.clone() } else { part(names.v, kv_width, self.bias.v) };
                [k, v]
            });
            (q, own)
        };
        let (q, gates) = self.ungated(q);
        let q = self.turned(p, &join(path, names.q_norm), &q, self.heads, cx);
        let own = own.map(|[k, v]| {
            let k = self.turned(p, &join(path, names.k_norm), &k, self.kv_heads, cx);
            [k, self.normed(p, self.v_norm.map(|norm| (norm, "")), &v, self.kv_heads)]
        });
        let mut spec = AttentionSpec {
            causal: self.causal,
            blocks: self.causal && self.in_blocks,
            window: self.window,
            wide_blocks: self.wide_blocks,
            soft_cap: self.soft_cap,
            ..AttentionSpec::full(self.scale)
        };
        let layer = self.keys_of.unwrap_or(layer);
        let out = match cx.cache {
            Some(cache) => cache.attend(layer, &q, own.as_ref(), &spec),
            None => {
                let mut optional: Vec<&Tensor> = Vec::new();
                if let Some(segments) = self.segments.and_then(|i| cx.segments.get(i)) {
                    spec.segments = true;
                    optional.extend([segments, segments]);
                }
                match &cx.blocks {
                    Some([queries, keys]) if spec.blocks => optional.extend([queries, keys]),
                    _ => spec.blocks = false,
                }
                let [k, v] = cx.keys(layer, own, &q);
                q.attention(&k, &v, &optional, spec)
            }
        };
        let joined = self.joined(x, &out);
        let joined = gates.map_or(joined.clone(), |gates| joined * gates.logistic());
        cx.linear(p, &joined, (&join(path, names.out), self.bias.out), x.dim(2), None)
    }

    /// Queries [b,t,h d], and their gates where there are some.
    fn ungated(&self, q: Tensor) -> (Tensor, Option<Tensor>) {
        if !self.gated {
            return (q, None);
        }
        let (b, t, d) = (q.dim(0), q.dim(1), self.head_dim);
        let both = q.reshape([b, t, self.heads, 2 * d]);
        let part = |from: usize| both.narrow(3, from, from + d).reshape([b, t, self.heads * d]);
        (part(0), Some(part(d)))
    }

    /// Attention of normalized x to the keys and values of another sequence.
    fn across(
        &self,
        p: &Parameters,
        (path, names): (&str, &AttentionNames),
        x: &Tensor,
        [k, v]: &[Tensor; 2],
        cx: &Context,
    ) -> Tensor {
        let q = p.linear(x, &join(path, names.q), self.heads * self.head_dim, self.bias.q, None);
        let q = self.split(&q, self.heads);
        if let Some(layers) = cx.cross_attention {
            let scores = q.matmul(&k.transpose([0, 1, 3, 2]));
            layers.borrow_mut().push((&scores * scores.like(f64::from(self.scale))).softmax());
        }
        let attend = |q: &Tensor| q.attention(k, v, &[], AttentionSpec::full(self.scale));
        let out = match cx.cache {
            Some(cache) => cache.each_group(&q, |(_, q)| attend(&q)),
            None => attend(&q),
        };
        p.linear(&self.joined(x, &out), &join(path, names.out), x.dim(2), self.bias.out, None)
    }

    /// Keys and values [b,h,s,d] of another sequence.
    fn keys_values(
        &self,
        p: &Parameters,
        (path, names): (&str, &AttentionNames),
        memory: &Tensor,
    ) -> [Tensor; 2] {
        let width = self.kv_heads * self.head_dim;
        [(names.k, self.bias.k), (names.v, self.bias.v)].map(|(name, bias)| {
            self.split(&p.linear(memory, &join(path, name), width, bias, None), self.kv_heads)
        })
    }

    /// [b,t,h d] as [b,h,t,d].
    fn split(&self, x: &Tensor, heads: usize) -> Tensor {
        swapped(&x.reshape([x.dim(0), x.dim(1), heads, self.head_dim]))
    }

    /// [b,t,h d] as [b,h,t,d], each head's features normalized by a norm and its name.
    fn normed(&self, p: &Parameters, norm: Option<(Norm, &str)>, x: &Tensor, heads: usize) -> Tensor {
        let Some((norm, name)) = norm else { return self.split(x, heads) };
        let by_head = x.reshape([x.dim(0), x.dim(1), heads, self.head_dim]);
        swapped(&norm.trace(p, name, &by_head))
    }

    /// Queries or keys as heads, normalized and rotated.
    fn turned(&self, p: &Parameters, norm_name: &str, x: &Tensor, heads: usize, cx: &Context) -> Tensor {
        let x = match self.qk_norm {
            QkNorm::Full(norm) => self.split(&norm.trace(p, norm_name, x), heads),
            QkNorm::PerHead(norm) => self.normed(p, Some((norm, norm_name)), x, heads),
            QkNorm::None => self.split(x, heads),
        };
        match self.rope.and_then(|i| cx.angles.get(i)) {
            Some([cos, sin]) => {
                let whole = x.dims();
                // Parts of a head that turn by themselves are as good as rows.
                let parts = (cos.dim(1) / x.dim(2).max(1)).max(1);
                if parts == 1 {
                    return x.rope(cos, sin, self.neighbours);
                }
                let x = x.reshape([x.dim(0), heads, x.dim(2) * parts, self.head_dim / parts]);
                x.rope(cos, sin, self.neighbours).reshape(whole)
            }
            None => x,
        }
    }

    /// Heads [b,h,t,d] as the rows [b,t,h d] of x.
    fn joined(&self, x: &Tensor, out: &Tensor) -> Tensor {
        swapped(out).reshape([x.dim(0), x.dim(1), self.heads * self.head_dim])
    }
}

impl Mlp {
    fn trace(&self, p: &Parameters, path: &str, names: &BlockNames, x: &Tensor, cx: &Context) -> Tensor {
        let layer = |x: &Tensor, name: &str, width: usize, act: Option<Activation>| {
            cx.linear(p, x, (&join(path, name), self.bias), width, act)
        };
        let inner = if self.gated && names.gate == names.up {
            let both = layer(x, names.up, 2 * self.width, None);
            both.narrow(2, 0, self.width).gated(self.activation, &both.narrow(2, self.width, 2 * self.width))
        } else if self.gated {
            let gate = layer(x, names.gate, self.width, None);
            gate.gated(self.activation, &layer(x, names.up, self.width, None))
        } else {
            layer(x, names.up, self.width, Some(self.activation))
        };
        layer(&inner, names.down, x.dim(2), None)
    }
}

impl BlockSpec {
    /// Block number `layer` of its stack on x f32[b,t,hidden], with parameters below `path`.
    pub fn trace(&self, p: &Parameters, path: &str, layer: usize, x: &Tensor, cx: &Context) -> Tensor {
        let _scope = p.trace().scope(path);
        let names = &self.names;
        let scaled = |y: Tensor, name: &str| {
            let y = match self.layer_scale {
                true => y * p.get(&join(path, name), [self.hidden]),
                false => y,
            };
            self.residual_scale.map_or(y.clone(), |scale| y * f64::from(scale))
        };
        let named = |x: &Tensor, name: &str| self.norm.trace(p, &join(path, name), x);
        let before = |x: &Tensor, name: &str| match self.norms {
            Norms::Before | Norms::Around => named(x, name),
            Norms::After => x.clone(),
        };
        let after = |y: Tensor, name: &str| match self.norms {
            Norms::Around => named(&y, name),
            Norms::Before | Norms::After => y,
        };
        let behind = |x: Tensor, name: &str| match self.norms {
            Norms::After => named(&x, name),
            Norms::Before | Norms::Around => x,
        };
        let normed = before(x, names.attention_norm);
        let y = match &self.recurrent {
            Some(recurrent) => recurrent.trace(p, path, layer, &normed, cx),
            None => self.attention.itself(p, (path, &names.attention), layer, &normed, cx),
        };
        let x = x + scaled(after(y, names.attention_out_norm), names.attention_scale);
        let mut x = behind(x, names.attention_norm);
        if let (Some(cross), Some(pair)) = (&self.cross, cx.cross.get(layer)) {
            let y = cross.across(p, (path, &names.cross), &before(&x, names.cross_norm), pair, cx);
            x = behind(x + y, names.cross_norm);
        }
        let y = match &self.mixture {
            None => self.mlp.trace(p, path, names, &before(&x, names.mlp_norm), cx),
            Some(mixture) => {
                let (read, places) = (before(&x, names.mlp_norm), cx.places.as_ref());
                let (y, routing) = match &names.beside {
                    None => mixture.trace(p, path, &read, places),
                    Some(beside) => {
                        let dense = self.mlp.trace(p, path, names, &read, cx);
                        mixture.beside(p, path, (&x, &dense), (self.norm, beside), places)
                    }
                };
                cx.routings.iter().for_each(|all| all.borrow_mut().push(routing.clone()));
                y
            }
        };
        behind(x + scaled(after(y, names.mlp_out_norm), names.mlp_scale), names.mlp_norm)
    }
}

impl BlockSpec {
    /// Keys and values [b,h,s,d] of another sequence f32[b,s,width] for [`Context::cross`]; `None` without
    /// cross-attention.
    pub fn cross_keys(&self, p: &Parameters, path: &str, memory: &Tensor) -> Option<[Tensor; 2]> {
        let _scope = p.trace().scope(path);
        self.cross.as_ref().map(|cross| cross.keys_values(p, (path, &self.names.cross), memory))
    }
}

/// A name below a prefix.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

/// Blocks one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// The blocks' common prefix: block i has its parameters below `{prefix}.{i}`.
    pub prefix: String,
    /// Each block, in the order in which they act.
    pub blocks: Vec<BlockSpec>,
}

impl Stack {
    /// All blocks on x f32[b,t,hidden].
    pub fn trace(&self, p: &Parameters, x: &Tensor, cx: &Context) -> Tensor {
        self.trace_each(p, x, cx, |_, x| x)
    }

    /// The states behind so many blocks each; blocks beyond the deepest are left out.
    pub fn states(&self, p: &Parameters, x: &Tensor, cx: &Context, depths: &[usize]) -> Vec<Tensor> {
        let deepest = depths.iter().max().copied().unwrap_or(0).min(self.blocks.len());
        let stack = Self { prefix: self.prefix.clone(), blocks: self.blocks[..deepest].to_vec() };
        let mut all = vec![x.clone()];
        stack.trace_each(p, x, cx, |_, x| {
            all.push(x.clone());
            x
        });
        depths.iter().map(|&d| all[d.min(deepest)].clone()).collect()
    }

    /// The number of blocks behind `hidden_states[index]` of transformers, where -1 is the last.
    ///
    /// # Errors
    /// When there is no such state.
    pub fn depth(&self, index: i64) -> Result<usize> {
        let states = self.blocks.len() as i64 + 1;
        let depth = if index < 0 { states.saturating_add(index) } else { index };
        usize::try_from(depth).ok().filter(|_| depth < states).ok_or_else(|| {
            Error::Inputs(format!("config.json: a tower of {} layers has no layer {index}", states - 1))
        })
    }

    /// All blocks, handing each one's result to `after`, whose answer goes into the next.
    pub fn trace_each(
        &self,
        p: &Parameters,
        x: &Tensor,
        cx: &Context,
        mut after: impl FnMut(usize, Tensor) -> Tensor,
    ) -> Tensor {
        let block = |x: Tensor, (i, block): (usize, &BlockSpec)| {
            after(i, block.trace(p, &format!("{}.{i}", self.prefix), i, &x, cx))
        };
        self.blocks.iter().enumerate().fold(x.clone(), block)
    }
}
