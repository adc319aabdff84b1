//! What joins a tower to a decoder.

use percept_graph::{Activation, PoolKind, Tensor};

use crate::block::{Norm, NormKind};
use crate::parameters::{Parameters, product};

/// Two linear layers with an activation between (LLaVA).
#[derive(Debug, Clone, PartialEq)]
pub struct Projector {
    /// Prefix of `linear_1` and `linear_2`, with its dot.
    pub prefix: String,
    /// Width of the features.
    pub out: usize,
    /// The function between its two layers.
    pub activation: Activation,
    /// The layers have biases.
    pub bias: bool,
}

impl Projector {
    /// Features f32[..,out].
    pub fn trace(&self, p: &Parameters, x: &Tensor) -> Tensor {
        let name = |i: usize| format!("{}linear_{i}", self.prefix);
        let x = p.linear(x, &name(1), self.out, self.bias, Some(self.activation));
        p.linear(&x, &name(2), self.out, self.bias, None)
    }
}

/// Squares of `factor` x `factor` neighbours of a grid f32[n,rows columns,d] as one row each, row by row:
/// f32[n,rows columns/factor^2,d factor^2] (Idefics3).
pub fn pixel_shuffle(x: &Tensor, [rows, columns]: [usize; 2], factor: usize) -> Tensor {
    let (n, d) = (x.dim(0), x.dim(2));
    let (down, along) = (rows / factor, columns / factor);
    x.reshape([n, down, factor, along, factor, d]).transpose([0, 1, 3, 2, 4, 5]).reshape([
        n,
        down * along,
        d * factor * factor,
    ])
}

/// Squares of `factor` x `factor` neighbours of a grid f32[n,rows columns,d] as one row each, the features of a kind side
/// by side: f32[n,rows columns/factor^2,d factor^2] (Mistral 3, whose order is that of `unfold`).
pub fn merged_by_channel(x: &Tensor, [rows, columns]: [usize; 2], factor: usize) -> Tensor {
    let (n, d) = (x.dim(0), x.dim(2));
    let (down, along) = (rows / factor, columns / factor);
    x.reshape([n, down, factor, along, factor, d]).transpose([0, 1, 3, 5, 2, 4]).reshape([
        n,
        down * along,
        d * factor * factor,
    ])
}

/// The mean of squares of a grid f32[n,side^2,d], normalized and projected (Gemma 3). The parameters are
/// `{prefix}mm_soft_emb_norm.weight`, stored less one, and `{prefix}mm_input_projection_weight` [d,out].
pub fn pooled(p: &Parameters, prefix: &str, x: &Tensor, [side, to, out]: [usize; 3], eps: f32) -> Tensor {
    let (n, d) = (x.dim(0), x.dim(2));
    let window = side / to;
    let grid = x.transpose([0, 2, 1]).reshape([n, d, side, side]);
    let means = grid.pool(PoolKind::Avg, [window, window], [window, window]);
    let rows = means.reshape([n, d, to * to]).transpose([0, 2, 1]);
    let norm = Norm { kind: NormKind::Rms { unit_offset: true }, eps };
    let rows = norm.trace(p, &format!("{prefix}mm_soft_emb_norm"), &rows);
    let w = p.matrix(&format!("{prefix}mm_input_projection_weight"), [d, out]);
    product(&rows, &w.transpose([1, 0]), None, None)
}
