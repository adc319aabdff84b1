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

#[cfg(test)]
mod tests {
    use percept_graph::reference::evaluate;
    use percept_graph::{DType, HostTensor, Trace};

    use super::*;
    use crate::parameters::AllF32;

    /// Small whole numbers, whose sums are exact.
    fn numbers(dims: &[usize], seed: usize) -> HostTensor {
        let value = |i: usize| ((i * 7 + seed * 5) % 11) as f32 - 5.0;
        let values: Vec<f32> = (0..dims.iter().product()).map(value).collect();
        HostTensor::from_f32(dims.to_vec(), &values).unwrap()
    }

    /// What `of` makes of x and the parameters of these shapes, declared in this order.
    fn made(
        x: &[usize],
        parameters: &[&[usize]],
        of: impl Fn(&Parameters, &Tensor) -> Tensor,
    ) -> [Vec<f64>; 4] {
        let t = Trace::new("convolution");
        let given = t.data("x", DType::F32, x.to_vec());
        let y = of(&Parameters::new(&t, &AllF32), &given);
        t.output("y", &y);
        let mut inputs = vec![numbers(x, 1)];
        inputs.extend(parameters.iter().enumerate().map(|(i, dims)| numbers(dims, i + 2)));
        let y = evaluate(&t.finish().unwrap(), &inputs).unwrap()[0].values();
        let [x, w, b] = &inputs[..] else { panic!("a weight and a bias") };
        [x.values(), w.values(), b.values(), y]
    }

    #[test]
    fn a_place_of_the_result_is_the_sum_over_the_kernel() {
        for (h, w, kernel, stride, padding) in
            [(5, 4, 3, 2, 1), (1, 7, 3, 2, 1), (6, 6, 5, 1, 2), (4, 3, 1, 1, 0)]
        {
            let (b, c, o) = (2, 3, 2);
            let conv = Conv2d { kernel, stride, padding };
            let [down, along] = [h, w].map(|n| conv.extent(n));
            assert_eq!(down, (h + 2 * padding - kernel) / stride + 1);
            let sum = |x: &[f64],
                       weights: &dyn Fn(usize, usize, usize) -> f64,
                       channels: &[usize],
                       n: usize,
                       at: [usize; 2]| {
                let mut sum = 0.0;
                for &channel in channels {
                    for (i, j) in (0..kernel).flat_map(|i| (0..kernel).map(move |j| (i, j))) {
                        let place = [at[0] * stride + i, at[1] * stride + j].map(|p| p.wrapping_sub(padding));
                        if place[0] < h && place[1] < w {
                            sum +=
                                weights(channel, i, j) * x[((n * c + channel) * h + place[0]) * w + place[1]];
                        }
                    }
                }
                sum
            };
            let places = |channels: usize| {
                (0..b * channels * down * along).map(move |i| {
                    (
                        i / (channels * down * along),
                        i / (down * along) % channels,
                        [i / along % down, i % along],
                    )
                })
            };
            let all: Vec<usize> = (0..c).collect();
            let [x, k, bias, y] =
                made(&[b, c, h, w], &[&[o, c, kernel, kernel], &[o]], |p, x| conv.trace(p, "c", x, o, true));
            for ((n, to, at), y) in places(o).zip(y) {
                let weight = |from: usize, i: usize, j: usize| k[((to * c + from) * kernel + i) * kernel + j];
                assert_eq!(y, bias[to] + sum(&x, &weight, &all, n, at), "{h}x{w}, kernel {kernel}");
            }
            let [x, k, bias, y] =
                made(&[b, c, h, w], &[&[c, 1, kernel, kernel], &[c]], |p, x| conv.depthwise(p, "c", x, true));
            for ((n, to, at), y) in places(c).zip(y) {
                let weight = |from: usize, i: usize, j: usize| k[(from * kernel + i) * kernel + j];
                assert_eq!(
                    y,
                    bias[to] + sum(&x, &weight, &[to], n, at),
                    "{h}x{w}, kernel {kernel} by channel"
                );
            }
        }
    }

    #[test]
    fn each_channel_has_a_kernel_over_time() {
        let (b, t, c, kernel, padding) = (2, 6, 3, 4, [2, 1]);
        let [x, k, bias, y] =
            made(&[b, t, c], &[&[c, 1, kernel], &[c]], |p, x| depthwise(p, "c", x, kernel, padding, true));
        assert_eq!(y.len(), b * t * c);
        for (i, y) in y.into_iter().enumerate() {
            let (n, at, channel) = (i / (t * c), i / c % t, i % c);
            let seen = (0..kernel).filter_map(|j| {
                let from = (at + j).checked_sub(padding[0]).filter(|from| *from < t)?;
                Some(k[channel * kernel + j] * x[(n * t + from) * c + channel])
            });
            assert_eq!(y, bias[channel] + seen.sum::<f64>());
        }
    }
}
