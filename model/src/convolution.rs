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

    /// As [`Conv2d::trace`] with a kernel of its own for each channel, `{path}.weight` [c,1,k,k].
    pub fn depthwise(&self, p: &Parameters, path: &str, x: &Tensor, bias: bool) -> Tensor {
        let (k, c) = (self.kernel, x.dim(1));
        let w = p.get(&format!("{path}.weight"), [c, 1, k, k]).reshape([1, c, k * k, 1, 1]);
        let products = self.views(x).into_iter().enumerate().map(|(i, view)| {
            let tap = w.narrow(2, i, i + 1).reshape([1, c, 1, 1]);
            view * tap
        });
        let y = products.reduce(|sum, product| sum + product).unwrap_or_else(|| x.clone());
        self.biased(p, path, &y, bias)
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

/// A convolution over time of x f32[b,t,c] with a kernel for each channel, `{path}.weight` [c,1,k], and `padding` zeros
/// before and behind: f32[b,t',c].
pub fn depthwise(
    p: &Parameters,
    path: &str,
    x: &Tensor,
    kernel: usize,
    padding: [usize; 2],
    bias: bool,
) -> Tensor {
    let (b, t, c) = (x.dim(0), x.dim(1), x.dim(2));
    let w = p.get(&format!("{path}.weight"), [c, 1, kernel]).reshape([c, kernel]).transpose([1, 0]);
    let padded = x.pad(0.0, [0, padding[0], 0], [0, padding[1], 0], [0; 3]);
    let steps = (t + padding[0] + padding[1] + 1).saturating_sub(kernel);
    let taps = (0..kernel).map(|i| {
        let seen = padded.slice([0, i, 0], [b, i + steps, c], [1, 1, 1]);
        seen * w.narrow(0, i, i + 1).reshape([1, 1, c])
    });
    let y = taps.reduce(|sum, tap| sum + tap).unwrap_or_else(|| x.clone());
    match bias {
        true => y + p.get(&format!("{path}.bias"), [c]).reshape([1, 1, c]),
        false => y,
    }
}
