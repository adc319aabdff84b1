//! The causal decoder: a table, a stack of blocks, a norm and a head, traced for training or as a step over a cache.

use percept_graph::{DType, Graph, Tensor, Trace};

use crate::block::{Context, Norm, Stack};
use crate::cache::Cache;
use crate::error::Result;
use crate::parameters::{Parameters, Stored, product};
use crate::rope::Rope;

/// A decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    /// Rows of the table.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Longest sequence the model was made for.
    pub context: usize,
    /// Name of the table [vocab,hidden].
    pub table: String,
    /// Multiplies rows of the table; media features are not scaled.
    pub embedding_scale: Option<f32>,
    /// The rotations that blocks name.
    pub ropes: Vec<Rope>,
    /// The blocks.
    pub stack: Stack,
    /// The last norm.
    pub norm: Norm,
    /// Its name.
    pub norm_name: String,
    /// Name of the head's matrix [vocab,hidden]: the table's own when it is tied.
    pub head: String,
    /// Logits become cap * tanh(logit / cap).
    pub logit_cap: Option<f32>,
    /// Extra features that are added to the rows of media after the first blocks, one set a block.
    pub deepstack: usize,
}

/// The extents and optional inputs of a step's graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Tokens in a run.
    pub rows: usize,
    /// Tokens that the cache holds.
    pub capacity: usize,
    /// Rows whose logits are wanted: none of them, some (by index, input `out`), or all when it is `rows`.
    pub logits: usize,
    /// Dtype of the cache: f32 or f16.
    pub cache: DType,
    /// Rows may be media features instead of tokens.
    pub media: bool,
    /// Image blocks see both ways.
    pub blocks: bool,
}

impl Decoder {
    /// Embeddings f32[b,t,hidden] of ids i32[b,t].
    pub fn embed(&self, p: &Parameters, ids: &Tensor) -> Tensor {
        let x = p.embedding(ids, &self.table, [self.vocab, self.hidden]);
        match self.embedding_scale {
            Some(scale) => x * scale as f64,
            None => x,
        }
    }

    /// Blocks and last norm on x f32[b,t,hidden]. `deepstack` f32[b,t,hidden] are added after the first blocks.
    pub fn hidden(&self, p: &Parameters, x: &Tensor, cx: &Context, deepstack: &[Tensor]) -> Tensor {
        let x = self.stack.trace_each(p, x, cx, |i, x| match deepstack.get(i) {
            Some(extra) => x + extra,
            None => x,
        });
        let _scope = p.trace().scope(self.norm_name.clone());
        self.norm.trace(p, &self.norm_name, &x)
    }

    /// Logits f32[..,vocab] of normalized rows.
    pub fn logits(&self, p: &Parameters, x: &Tensor) -> Tensor {
        // A table that is the head too has no adapter as a head: what it gets, it gets as a table.
        let logits = match self.head.strip_suffix(".weight").filter(|_| self.head != self.table) {
            Some(head) => p.linear(x, head, self.vocab, false, None),
            None => product(x, &p.matrix(&self.head, [self.vocab, self.hidden]), None, None),
        };
        match self.logit_cap {
            Some(cap) => (logits * (1.0 / cap as f64)).tanh() * cap as f64,
            None => logits,
        }
    }

    /// One step: `rows` tokens from position `pos` on over a cache of `capacity`.
    ///
    /// Inputs besides parameters and caches: `ids` i32[1,rows], `pos` and `kv_len` i32[1], for each rotation
    /// `rope.{i}.cos` and `.sin` f32[1,rows,pairs]. With media: `is_feature` bool[1,rows,1], `features`
    /// f32[1,rows,hidden] and `deepstack.{k}` of the same shape. With blocks: `blocks.q` i32[1,rows] and `blocks.k`
    /// i32[1,capacity]. When some rows' logits are wanted: `out` i32[logits]. The output `logits` is f32[logits,vocab].
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn step(&self, stored: &dyn Stored, shape: &StepShape) -> Result<Graph> {
        let t = Trace::new(format!("step.{}.{}", shape.rows, shape.capacity));
        let p = Parameters::new(&t, stored);
        let rows = shape.rows;
        let ids = t.data("ids", DType::I32, [1, rows]);
        let cache = Cache::new(&t, 1, shape.capacity, shape.cache);
        let rotation = |(i, rope): (usize, &Rope)| {
            ["cos", "sin"].map(|f| t.data(format!("rope.{i}.{f}"), DType::F32, [1, rows, rope.pairs()]))
        };
        let cx = Context {
            angles: self.ropes.iter().enumerate().map(rotation).collect(),
            blocks: shape.blocks.then(|| {
                let keys = t.data("blocks.k", DType::I32, [1, shape.capacity]);
                [t.data("blocks.q", DType::I32, [1, rows]), keys]
            }),
            cache: Some(&cache),
            ..Context::default()
        };
        let mut x = self.embed(&p, &ids);
        let mut deepstack = Vec::new();
        if shape.media {
            let features = |name: &str| t.data(name, DType::F32, [1, rows, self.hidden]);
            x = t.data("is_feature", DType::Bool, [1, rows, 1]).select(&features("features"), &x);
            deepstack = (0..self.deepstack).map(|k| features(&format!("deepstack.{k}"))).collect();
        }
        let x = self.hidden(&p, &x, &cx, &deepstack).reshape([rows, self.hidden]);
        if shape.logits > 0 {
            let x = match shape.logits {
                n if n == rows => x,
                n => x.gather(&t.data("out", DType::I32, [n]), 0),
            };
            t.output("logits", &self.logits(&p, &x));
        }
        cache.finish();
        Ok(t.finish()?)
    }
}
