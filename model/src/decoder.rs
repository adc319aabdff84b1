//! The causal decoder: a table, a stack of blocks, a norm and a head, traced for training or as a step over a
//! cache.

use percept_graph::{Graph, Tensor, Trace};

use crate::block::{Context, Norm, Stack};
use crate::cache::Cache;
use crate::error::Result;
use crate::parameters::{ParameterSpecs, Parameters, product};
use crate::pass::{Input, MediaShape, PassInputs, PassShape};
use crate::per_layer::PerLayer;
use crate::rope::Rope;

/// The name of the scalar behind a block, below the block's prefix.
const LAYER_SCALAR: &str = "layer_scalar";

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
    /// The blocks that rows go through.
    pub stack: Stack,
    /// The norm behind the last block.
    pub norm: Norm,
    /// The name of that norm's parameters, without `.weight`.
    pub norm_name: String,
    /// Name of the head's matrix [vocab,hidden]: the table's own when it is tied.
    pub head: String,
    /// Logits are divided by this first (Granite).
    pub logit_divisor: Option<f32>,
    /// Logits become cap * tanh(logit / cap).
    pub logit_cap: Option<f32>,
    /// Extra features that are added to the rows of media after the first blocks, one set a block.
    pub deepstack: usize,
    /// Vectors of their own that layers read of each token.
    pub per_layer: Option<PerLayer>,
    /// What leaves block i is multiplied by `{i}.layer_scalar` [1], which is not trained.
    pub layer_scalar: bool,
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

    /// Blocks and last norm on x f32[b,t,hidden]. `deepstack` f32[b,t,hidden] are added after the first
    /// blocks, and of `vectors` each block reads its own: see [`PerLayer::vectors`].
    pub fn hidden(
        &self,
        p: &Parameters,
        x: &Tensor,
        cx: &Context,
        deepstack: &[Tensor],
        vectors: Option<&Tensor>,
    ) -> Tensor {
        let x = self.stack.trace_each(p, x, cx, |i, x| {
            let path = format!("{}.{i}", self.stack.prefix);
            let x = match deepstack.get(i) {
                Some(extra) => x + extra,
                None => x,
            };
            let x = match (&self.per_layer, vectors) {
                (Some(own), Some(vectors)) => own.add(p, &path, i, &x, vectors),
                _ => x,
            };
            match self.layer_scalar {
                true => x * p.get(&format!("{path}.{LAYER_SCALAR}"), [1]),
                false => x,
            }
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
        let logits = match self.logit_divisor {
            Some(divisor) => logits / f64::from(divisor),
            None => logits,
        };
        match self.logit_cap {
            Some(cap) => (logits * (1.0 / cap as f64)).tanh() * cap as f64,
            None => logits,
        }
    }

    /// Whether a tensor is a constant of the decoder, which training leaves as it is.
    pub fn is_constant(&self, name: &str) -> bool {
        let inside = name.strip_prefix(&self.stack.prefix).and_then(|rest| rest.strip_suffix(LAYER_SCALAR));
        self.layer_scalar && inside.is_some_and(|rest| rest.starts_with('.') && rest.ends_with('.'))
    }

    /// The kinds of layers that keep different rows: each window once, `None` for layers that keep all of
    /// them. There is at least one.
    pub fn windows(&self) -> Vec<Option<usize>> {
        let mut windows: Vec<Option<usize>> = Vec::new();
        for block in self.stack.blocks.iter().filter(|block| block.recurrent.is_none()) {
            if !windows.contains(&block.attention.window) {
                windows.push(block.attention.window);
            }
        }
        if windows.is_empty() {
            windows.push(None);
        }
        windows
    }

    /// Whether some layers keep a state of fixed size in the place of keys and values.
    pub fn has_states(&self) -> bool {
        self.stack.blocks.iter().any(|block| block.recurrent.is_some())
    }

    /// A pass as a graph: its inputs are those of [`PassShape::inputs`], the pools of [`Cache`] where there
    /// is a cache, and parameters. The output `logits` is f32[out,vocab], of all rows unless the shape
    /// chooses some; there is none when it chooses no row.
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn step(&self, specs: &dyn ParameterSpecs, shape: &PassShape) -> Result<Graph> {
        let t = Trace::new(format!("step.{}", shape.count()));
        let p = Parameters::new(&t, specs);
        let inputs = shape.declare(self, &t);
        let windows = self.windows();
        let cache = shape.cache.as_ref().map(|cache| Cache::new(cache, &windows, &inputs));
        let cx = Context { cache: cache.as_ref(), ..self.context(shape, &inputs) };
        if let Some(slots) = inputs.find(Input::Slot) {
            p.set_slots(slots.clone());
        }
        let x = self.rows(&p, shape, &inputs, &cx, Features::given(self, shape, &inputs));
        if let Some(slots) = inputs.find(Input::Slot) {
            let all = slots.reshape([shape.count(), 1]);
            // Those of the rows that are left.
            p.set_slots(match shape.out {
                None | Some(0) => all,
                Some(_) => all.gather(inputs.get(Input::Out), 0),
            });
        }
        if shape.out != Some(0) {
            t.output("logits", &self.logits(&p, &x));
        }
        if let Some(cache) = &cache {
            cache.finish(&t);
        }
        Ok(t.finish()?)
    }

    /// What all blocks share in a pass with these inputs, its cache excepted.
    pub fn context<'a>(&self, shape: &PassShape, inputs: &PassInputs) -> Context<'a> {
        let of_rows = |input: Input| inputs.get(input).clone();
        let blocks = (shape.blocks && shape.cache.is_none()).then(|| of_rows(Input::Blocks));
        Context {
            angles: inputs.angles(self),
            segments: shape.segments.then(|| of_rows(Input::Segments)).into_iter().collect(),
            blocks: blocks.map(|blocks| [blocks.clone(), blocks]),
            places: inputs.find(Input::RowOfPage).cloned(),
            ..Context::default()
        }
    }

    /// The normalized rows f32[rows,hidden] of a pass, those that the shape chooses.
    pub fn rows(
        &self,
        p: &Parameters,
        shape: &PassShape,
        inputs: &PassInputs,
        cx: &Context,
        features: Features,
    ) -> Tensor {
        let mut x = self.embed(p, inputs.get(Input::Ids));
        if let Some(positions) = inputs.find(Input::Positions) {
            let table = self.table.replace("embed_tokens", "embed_positions");
            x = x + p.embedding(positions, &table, [self.context, self.hidden]);
        }
        if let Some(features) = &features.rows {
            x = inputs.get(Input::IsFeature).select(features, &x);
        }
        let is_feature = features.rows.is_some().then(|| inputs.get(Input::IsFeature));
        let own = self.per_layer.as_ref();
        let vectors = own.map(|own| own.vectors(p, inputs.get(Input::Ids), &x, is_feature));
        let x = self
            .hidden(p, &x, cx, &features.deepstack, vectors.as_ref())
            .reshape([shape.count(), self.hidden]);
        match shape.out {
            None | Some(0) => x,
            Some(_) => x.gather(inputs.get(Input::Out), 0),
        }
    }
}

/// Features of media at the rows of a pass, f32[..rows,hidden].
#[derive(Default)]
pub struct Features {
    /// What stands in place of embeddings.
    pub rows: Option<Tensor>,
    /// What is added after the first blocks, one set a block; zeros where there is no feature.
    pub deepstack: Vec<Tensor>,
}

impl Features {
    /// Those that are inputs of the pass.
    fn given(decoder: &Decoder, shape: &PassShape, inputs: &PassInputs) -> Self {
        if shape.media != MediaShape::Given {
            return Self::default();
        }
        let set = |k: usize| inputs.get(Input::Deepstack(k)).clone();
        let rows = Some(inputs.get(Input::Features).clone());
        Self { rows, deepstack: (0..decoder.deepstack).map(set).collect() }
    }

    /// Features [n,hidden] that the same graph computes, set by set, each at the rows that are one.
    pub fn computed(decoder: &Decoder, shape: &PassShape, inputs: &PassInputs, sets: &[Tensor]) -> Self {
        let [features, extra @ ..] = sets else { return Self::default() };
        let [b, t] = shape.rows;
        let (which, is_feature) = (inputs.get(Input::FeatureRows), inputs.get(Input::IsFeature));
        let at_rows = |f: &Tensor| f.gather(which, 0).reshape([b, t, decoder.hidden]);
        let at_features = |f: &Tensor| {
            let f = at_rows(f);
            is_feature.select(&f, &f.like(0.0))
        };
        Self { rows: Some(at_rows(features)), deepstack: extra.iter().map(at_features).collect() }
    }
}
