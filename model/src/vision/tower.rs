//! The towers of CLIP and SigLIP inside other models: a few images at a time, inner layers, positions by
//! patch.

use percept_graph::Tensor;

use crate::block::{Context, Stack};
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::vision::PATCHES;
use crate::vision_tower::VisionTower;

impl VisionTower {
    /// Images that one run should have at most.
    pub fn batch(&self) -> usize {
        (PATCHES / self.side().pow(2)).max(1)
    }

    /// Checks the extents of images [n,c,h,w].
    ///
    /// # Errors
    /// When they are not those that the tower was made for.
    pub fn check(&self, [_, c, h, w]: [usize; 4]) -> Result<()> {
        if (c, h, w) == (self.channels, self.image, self.image) {
            return Ok(());
        }
        Err(Error::Inputs(format!(
            "images of {c} channels and {w}x{h} pixels do not fit a tower for {} channels and {1}x{1}: the processor's files \
             and config.json disagree",
            self.channels, self.image
        )))
    }

    /// The number of blocks behind `hidden_states[index]` of transformers, where -1 is the last.
    ///
    /// # Errors
    /// When there is no such state.
    pub fn depth(&self, index: i64) -> Result<usize> {
        let states = self.stack.blocks.len() as i64 + 1;
        let depth = if index < 0 { states.saturating_add(index) } else { index };
        usize::try_from(depth).ok().filter(|_| depth < states).ok_or_else(|| {
            Error::Inputs(format!("config.json: a tower of {} layers has no layer {index}", states - 1))
        })
    }

    /// The states f32[n,t,hidden] of images behind so many blocks each; blocks beyond the deepest are left
    /// out.
    pub fn states(&self, p: &Parameters, pixels: &Tensor, depths: &[usize]) -> Vec<Tensor> {
        let deepest = depths.iter().max().copied().unwrap_or(0).min(self.stack.blocks.len());
        let stack =
            Stack { prefix: self.stack.prefix.clone(), blocks: self.stack.blocks[..deepest].to_vec() };
        let mut all = vec![self.embed(p, pixels)];
        let first = all[0].clone();
        stack.trace_each(p, &first, &Context::default(), |_, x| {
            all.push(x.clone());
            x
        });
        depths.iter().map(|&d| all[d.min(deepest)].clone()).collect()
    }

    /// The normalized result for images whose patches name their learned positions, i32[n,t].
    pub fn placed(&self, p: &Parameters, pixels: &Tensor, positions: &Tensor) -> Tensor {
        let table = format!("{}embeddings.position_embedding.weight", self.prefix);
        let x = self.patches(p, pixels) + p.embedding(positions, &table, [self.rows(), self.hidden]);
        self.normalize(p, &self.stack.trace(p, &x, &Context::default()))
    }

    /// `each` on a few images of f32[n,c,h,w] at a time, put together along the first dimension: activations
    /// take the memory of a few images.
    pub fn in_batches(&self, pixels: &Tensor, each: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let n = pixels.dim(0);
        let parts: Vec<Tensor> = (0..n)
            .step_by(self.batch())
            .map(|at| each(&pixels.narrow(0, at, (at + self.batch()).min(n))))
            .collect();
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0).unwrap_or_else(|| pixels.clone())
    }
}
