//! One-dimensional convolution as a matrix product of the weight and the columns under its window.

use percept_graph::OpDesc;

use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::matmul::{DotIsa, MatMul};
use crate::pool::{SharedSlice, Team};
use crate::scratch::with_scratch;

/// Bytes of the line on which the workspace of the product begins.
const LINE: usize = 64;

/// Where a window goes.
#[derive(Clone, Copy)]
struct Window {
    taps: usize,
    stride: usize,
    dilation: usize,
}

/// x `[b, c, t]` and w `[o, c, k]` to `[b, o, t']`: for each batch element, w as `[o, c k]` times columns `[c k, t']`.
/// None where the columns would be larger than memory can be.
pub(crate) fn conv1d(
    desc: &OpDesc<'_>,
    [stride, padding, dilation]: [usize; 3],
    bias: bool,
    threads: usize,
) -> Option<Kernel> {
    let (x, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let [batch, channels, length] = x.dims[..] else { return None };
    let (outputs, taps, steps) = (w.dims[0], w.dims[2], y.dims[2]);
    let window = Window { taps, stride, dilation };
    let depth = channels.checked_mul(taps)?;
    let room = depth.checked_mul(steps)?.checked_mul(4)?.checked_next_multiple_of(LINE)?;
    let matmul = MatMul::plain(outputs, steps, depth, w.dtype, percept_graph::DType::F32, y.dtype);
    let bias = bias.then(|| desc.inputs[2].dtype);
    let (dtype, isa) = (x.dtype, DotIsa::best());
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let mut buffer = Vec::new();
        let bias = bias.map(|dtype| crate::rows::vector(operands, 2, dtype, &mut buffer));
        let finish = |row: usize, _: usize, sums: &mut [f32]| {
            if let Some(bias) = bias {
                sums.iter_mut().for_each(|sum| *sum += bias[row]);
            }
        };
        let (work, out) = (operands.workspace::<u8>(), operands.output::<u8>(0));
        let out_bytes = out.len() / batch.max(1);
        for b in 0..batch {
            if b > 0 {
                // Slower threads still read the columns of the batch element before.
                team.barrier();
            }
            for channel in team.share(channels, 1) {
                let at = channel * taps * steps * 4;
                // SAFETY: each channel's columns are written by the thread that owns it.
                let columns = unsafe { work.part(at..at + taps * steps * 4) };
                let start = (b * channels + channel) * length;
                with_scratch(length + 2 * padding, |row| {
                    row.fill(0.0);
                    let values = bytemuck::cast_slice_mut(&mut row[padding..padding + length]);
                    memory::widen(dtype, operands.input(0), start, 1, values);
                    window.columns(row, bytemuck::cast_slice_mut(columns));
                });
            }
            team.barrier();
            // SAFETY: the columns are finished and only read from now on; the rest of the workspace is the product's,
            // as is this batch element's part of the result.
            let (columns, rest, out) = unsafe {
                (
                    work.view(0..depth * steps * 4),
                    SharedSlice::from_raw(work.as_ptr().add(room), work.len() - room),
                    SharedSlice::from_raw(out.as_ptr().add(b * out_bytes), out_bytes),
                )
            };
            matmul.run(team, isa, operands.input(1), columns, out, rest, bias.is_some().then_some(&finish));
        }
    };
    let workspace = room.checked_add(matmul.workspace(threads).max(matmul.workspace(1)))?;
    let work = batch.saturating_mul(outputs).saturating_mul(steps).saturating_mul(depth) / 30;
    Some(Kernel::with_workspace(workspace, work, body))
}

impl Window {
    /// What each tap sees of a padded row, one tap after the other.
    fn columns(self, row: &[f32], columns: &mut [f32]) {
        let steps = columns.len() / self.taps;
        for (tap, column) in columns.chunks_exact_mut(steps.max(1)).enumerate() {
            let seen = &row[tap * self.dilation..];
            if self.stride == 1 {
                column.copy_from_slice(&seen[..steps]);
            } else {
                column.iter_mut().zip(seen.iter().step_by(self.stride)).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, DType, Op};

    use crate::launch_test::{check_op, operand};

    #[test]
    fn convolutions_agree_with_their_definition() {
        for (dtype, near) in [(DType::F32, 2e-6), (DType::F16, 2e-3), (DType::BF16, 1.6e-2)] {
            for (b, c, t, o, k) in [(1, 80, 50, 33, 3), (2, 5, 9, 3, 2), (3, 1, 40, 1, 7), (1, 4, 3, 2, 1)] {
                for (stride, padding, dilation) in [(1, 1, 1), (2, 1, 1), (3, 4, 2), (1, 6, 1)] {
                    if dilation * (k - 1) >= t + 2 * padding {
                        continue;
                    }
                    for bias in [false, true] {
                        let mut x = vec![operand(dtype, &[b, c, t], 1), operand(dtype, &[o, c, k], 2)];
                        if bias {
                            x.push(operand(dtype, &[o], 3));
                        }
                        let op = Composite::Conv1d { stride, padding, dilation, bias };
                        check_op(&Op::Composite(op), &x, near);
                    }
                }
            }
        }
    }
}
