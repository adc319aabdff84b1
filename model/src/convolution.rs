//! Convolutions over pictures of sound, put together of shifted views: devices have no operation for them.

use percept_graph::Tensor;

use crate::parameters::Parameters;

/// A two-dimensional convolution, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Edge of the kernel.
    pub kernel: usize,
    /// Distance of its places.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
}

impl Conv2d {
    /// The extent that it makes of one.
    pub fn extent(&self, n: usize) -> usize {
        (n + 2 * self.padding + 1).saturating_sub(self.kernel).div_ceil(self.stride)
    }

    /// x f32[b,c,h,w] as f32[b,channels,h',w'], by the parameters `{path}.weight` [channels,c,k,k] and `{path}.bias`.
    pub fn trace(&self, p: &Parameters, path: &str, x: &Tensor, channels: usize, bias: bool) -> Tensor {
        let k = self.kernel;
        let w = p.get(&format!("{path}.weight"), [channels, x.dim(1), k, k]);
        let views: Vec<Tensor> = self.views(x).iter().map(|view| view.unsqueeze(2)).collect();
        let columns = Tensor::concat(&views.iter().collect::<Vec<_>>(), 2).unwrap_or_else(|| x.clone());
        let y = columns.dot(&w.reshape([channels, x.dim(1), k * k]), (&[], &[]), (&[1, 2], &[1, 2]));
        self.biased(p, path, &y.transpose([0, 3, 1, 2]), bias)
    }

    fn biased(&self, p: &Parameters, path: &str, y: &Tensor, bias: bool) -> Tensor {
        match bias {
            true => y + p.get(&format!("{path}.bias"), [y.dim(1)]).reshape([1, y.dim(1), 1, 1]),
            false => y.clone(),
        }
    }

    /// What each place of the kernel sees, row by row.
    fn views(&self, x: &Tensor) -> Vec<Tensor> {
        let (b, c, s) = (x.dim(0), x.dim(1), self.stride);
        let [h, w] = [2, 3].map(|axis| self.extent(x.dim(axis)));
        let edge = [0, 0, self.padding, self.padding];
        let x = x.pad(0.0, edge, edge, [0; 4]);
        let view = |(i, j): (usize, usize)| {
            let end = [b, c, i + (h.max(1) - 1) * s + 1, j + (w.max(1) - 1) * s + 1];
            x.slice([0, 0, i, j], end, [1, 1, s, s])
        };
        (0..self.kernel).flat_map(|i| (0..self.kernel).map(move |j| (i, j))).map(view).collect()
    }
}
