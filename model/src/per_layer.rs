//! Per-layer embeddings: beside the row of the table that begins the residual stream, every layer gets a small
//! vector of its own for each token, and adds what a gate lets through of it (Gemma 3n and 4).

use percept_graph::{Activation, DType, Tensor};

use crate::block::{Norm, join};
use crate::parameters::Parameters;

/// The vectors of all layers, and how a layer adds its own.
#[derive(Debug, Clone, PartialEq)]
pub struct PerLayer {
    /// Prefix of the table `embed_tokens_per_layer`, of `per_layer_model_projection` and of its norm, with its dot.
    pub prefix: String,
    /// Rows of the table.
    pub vocab: usize,
    /// Features of one layer's vector.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// The row of the table that rows of media have.
    pub pad: i32,
    /// Of the gate.
    pub activation: Activation,
    /// Of each vector, and of what a layer adds.
    pub norm: Norm,
}

impl PerLayer {
    /// The vectors f32[b,t,layers width] of tokens i32[b,t] whose embeddings, or features where `is_feature`
    /// bool[b,t,1] says so, are x f32[b,t,hidden].
    pub fn vectors(&self, p: &Parameters, ids: &Tensor, x: &Tensor, is_feature: Option<&Tensor>) -> Tensor {
        let _scope = p.trace().scope("per_layer");
        let all = self.layers * self.width;
        let at = |name: &str| format!("{}{name}", self.prefix);
        let table = |ids: &Tensor| p.embedding(ids, &at("embed_tokens_per_layer.weight"), [self.vocab, all]);
        let own = match is_feature {
            None => table(ids),
            Some(is_feature) => {
                let [b, t] = [ids.dim(0), ids.dim(1)];
                let is_pad = is_feature.reshape([b, t]);
                let rows = table(&is_pad.select(&ids.like(f64::from(self.pad)), ids));
                // Training does not change the row of padding: integers carry no derivative.
                let fixed = rows.bitcast(DType::U32).bitcast(DType::F32);
                is_feature.select(&fixed, &rows)
            }
        };
        let hidden = x.dim(2) as f64;
        let read = p.linear(x, &at("per_layer_model_projection"), all, false, None) * hidden.powf(-0.5);
        let [b, t] = [x.dim(0), x.dim(1)];
        let read = read.reshape([b, t, self.layers, self.width]);
        let read = self.norm.trace(p, &at("per_layer_projection_norm"), &read).reshape([b, t, all]);
        (read + own * (self.width as f64).sqrt()) * 0.5f64.sqrt()
    }

    /// x f32[b,t,hidden] behind layer number `layer`, whose parameters are below `path`, with what it adds.
    pub fn add(&self, p: &Parameters, path: &str, layer: usize, x: &Tensor, vectors: &Tensor) -> Tensor {
        let _scope = p.trace().scope(path);
        let own = vectors.narrow(2, layer * self.width, (layer + 1) * self.width);
        let gate = p.linear(x, &join(path, "per_layer_input_gate"), self.width, false, None);
        let inner = gate.gated(self.activation, &own);
        let added = p.linear(&inner, &join(path, "per_layer_projection"), x.dim(2), false, None);
        x + self.norm.trace(p, &join(path, "post_per_layer_input_norm"), &added)
    }
}
