//! The towers of CLIP and SigLIP inside other models: a few images at a time, inner layers, positions by
//! patch.

use percept_graph::Tensor;
use percept_modalities::image::{Filter, windows};

use crate::block::Context;
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

    /// The states f32[n,t,hidden] of images behind so many blocks each; blocks beyond the deepest are left
    /// out.
    pub fn states(&self, p: &Parameters, pixels: &Tensor, depths: &[usize]) -> Vec<Tensor> {
        self.stack.states(p, &self.embed(p, pixels), &Context::default(), depths)
    }

    /// The normalized result for images whose patches name their learned positions, i32[n,t].
    pub fn placed(&self, p: &Parameters, pixels: &Tensor, positions: &Tensor) -> Tensor {
        let table = format!("{}embeddings.position_embedding.weight", self.prefix);
        let x = self.patches(p, pixels) + p.embedding(positions, &table, [self.rows(), self.hidden]);
        self.normalize(p, &self.stack.trace(p, &x, &Context::default()))
    }

    /// What the last block gives f32[n,t,hidden] for patches f32[n,t,numbers] of images of any aspect, before the
    /// last norm. Patches see those of their own number in `segments` i32[n,t] alone, and `mix` f32[n,t,rows] says
    /// of which of the learned positions theirs is made.
    pub fn mixed(&self, p: &Parameters, patches: &Tensor, segments: &Tensor, mix: &Tensor) -> Tensor {
        let at = |name: &str| format!("{}embeddings.{name}", self.prefix);
        let x = p.linear(patches, &at("patch_embedding"), self.hidden, true, None);
        let table = p.get(&at("position_embedding.weight"), [self.rows(), self.hidden]);
        let x = x + mix.dot(&table, (&[], &[]), (&[2], &[0]));
        let cx = Context { segments: vec![segments.clone()], ..Context::default() };
        self.stack.trace(p, &x, &cx)
    }

    /// The shares f32[t,rows] of the learned positions in those of a grid of patches, row by row: the table is
    /// resized like an image, with antialiasing. Rows beyond the grid, up to `t`, have those of the first.
    pub fn shares(&self, [rows, columns]: [usize; 2], t: usize) -> Vec<f32> {
        let side = self.side();
        let along = |to: usize| windows(Filter::Bilinear, side, to);
        let mut shares = vec![0.0; t * side * side];
        let places =
            along(rows).into_iter().flat_map(|y| along(columns).into_iter().map(move |x| (y.clone(), x)));
        for (share, ((top, ys), (left, xs))) in shares.chunks_exact_mut(side * side).zip(places) {
            for (i, y) in ys.iter().enumerate() {
                for (j, x) in xs.iter().enumerate() {
                    share[(top + i) * side + left + j] = (y * x) as f32;
                }
            }
        }
        let (first, rest) = shares.split_at_mut(side * side);
        rest.chunks_exact_mut(side * side)
            .skip(rows * columns - 1)
            .for_each(|share| share.copy_from_slice(first));
        shares
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
