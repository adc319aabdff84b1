//! Models that embed images alone: a class row, register rows and patches go through a stack of blocks (DINOv3).

use percept_graph::{DType, Graph, HostTensor, Tensor, Trace};
use percept_modalities::image::Image;
use percept_modalities::{Array, Values};

use crate::block::{Context, Norm, Stack};
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::processor::Still;
use crate::rope::Rope;
use crate::weights::Weights;

/// A model that embeds images alone.
pub struct ImageEncoder {
    /// Its parameters.
    pub weights: Weights,
    /// How images are prepared.
    pub still: Still,
    /// Pixels of a patch's edge.
    pub patch: usize,
    /// Width of the rows.
    pub hidden: usize,
    /// Learned rows between the class row and the patches, which belong to no place of the image.
    pub registers: usize,
    /// Turns the rows of patches by their place, from -1 to 1 in each direction.
    pub rope: Rope,
    /// The blocks that all rows go through.
    pub stack: Stack,
    /// The norm behind the last block.
    pub norm: Norm,
}

impl ImageEncoder {
    /// Images as the model reads them: f32[n,3,h,w].
    ///
    /// # Errors
    /// When they do not come out at one size.
    pub fn prepare(&self, images: &[Image]) -> Result<Array> {
        Ok(self.still.batch(images)?)
    }

    /// Rows and columns of patches of images f32[n,3,h,w]; pixels beyond the last whole patch are not seen.
    pub fn grid(&self, pixels: &Array) -> [usize; 2] {
        let edge = |i: usize| pixels.dims.get(i).map_or(0, |edge| edge / self.patch);
        [edge(2), edge(3)]
    }

    /// The inputs of [`ImageEncoder::graph`] for images f32[n,3,h,w].
    ///
    /// # Errors
    /// When they are no such images, or memory cannot be had.
    pub fn arguments(&self, pixels: &Array) -> Result<Vec<(String, HostTensor)>> {
        let Values::F32(values) = &pixels.values else {
            return Err(Error::Inputs("pixel_values must be floats".into()));
        };
        let [rows, columns] = self.grid(pixels);
        if pixels.dims.len() != 4 || pixels.dims[1] != 3 || rows * columns == 0 {
            return Err(Error::Inputs(format!(
                "pixel_values are {:?}; this model reads images of 3 channels and at least {1}x{1} pixels",
                pixels.dims, self.patch
            )));
        }
        let middle = |i: usize, n: usize| 2.0 * ((i as f32 + 0.5) / n as f32) - 1.0;
        let ys: Vec<f32> = (0..rows * columns).map(|i| middle(i / columns, rows)).collect();
        let xs: Vec<f32> = (0..rows * columns).map(|i| middle(i % columns, columns)).collect();
        // The rows before the patches have no place and are not turned.
        let (still, pairs) = (1 + self.registers, self.rope.pairs());
        let [cos, sin] = self.rope.angles_at(&[&ys, &xs], rows * columns);
        let table = |before: f32, angles: Vec<f32>| {
            let all = [vec![before; still * pairs], angles].concat();
            HostTensor::from_f32([1, still + rows * columns, pairs], &all)
        };
        Ok(vec![
            ("pixel_values".into(), HostTensor::from_f32(pixels.dims.clone(), values)?),
            ("cos".into(), table(1.0, cos)?),
            ("sin".into(), table(0.0, sin)?),
        ])
    }

    /// The graph for `n` images of a grid of patches: from the inputs of [`ImageEncoder::arguments`] to `pooled`
    /// f32[n,hidden], the normalized class row, and `hidden` f32[n,rows,hidden], all rows: class, registers, patches.
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn graph(&self, pixels: &[usize]) -> Result<Graph> {
        let &[n, channels, height, width] = pixels else {
            return Err(Error::Inputs(format!("pixel_values are {pixels:?}; they must have rank 4")));
        };
        let t = Trace::new(format!("image.{n}.{height}.{width}"));
        let p = Parameters::new(&t, &self.weights);
        let whole = |edge: usize| edge / self.patch * self.patch;
        let pixels = t.data("pixel_values", DType::F32, [n, channels, height, width]);
        let pixels = pixels.narrow(2, 0, whole(height)).narrow(3, 0, whole(width));
        let patches = pixels.patchify([self.patch, self.patch]);
        let patches = p.linear(&patches, "embeddings.patch_embeddings", self.hidden, true, None);
        let learned = |name: &str, rows: usize| {
            p.get(&format!("embeddings.{name}"), [1, rows, self.hidden]).broadcast_to([n, rows, self.hidden])
        };
        let mut parts = vec![learned("cls_token", 1)];
        if self.registers > 0 {
            parts.push(learned("register_tokens", self.registers));
        }
        parts.push(patches.clone());
        let x = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1).unwrap_or(patches);
        let (rows, pairs) = (x.dim(1), self.rope.pairs());
        let [cos, sin] = ["cos", "sin"]
            .map(|name| t.data(name, DType::F32, [1, rows, pairs]).broadcast_to([n, rows, pairs]));
        let cx = Context { angles: vec![[cos, sin]], ..Context::default() };
        let x = self.norm.trace(&p, "norm", &self.stack.trace(&p, &x, &cx));
        t.output("pooled", &x.narrow(1, 0, 1).reshape([n, self.hidden]));
        t.output("hidden", &x);
        Ok(t.finish()?)
    }
}
