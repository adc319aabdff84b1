//! One step of AdamW (Loshchilov and Hutter 2019).

use percept_graph::OpDesc;

use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};

/// The hyperparameters of one step, in the form the update takes.
#[derive(Clone, Copy)]
struct StepConstants {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// 1 / (1 - beta^step).
    correction1: f32,
    correction2: f32,
    lr: f32,
    /// 1 - lr * weight decay.
    keep: f32,
}

simd! {
    fn update(l, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], s: StepConstants) {
        let (b1, b2, eps) = (l.splat(s.beta1), l.splat(s.beta2), l.splat(s.eps));
        let (a1, a2) = (l.splat(1.0 - s.beta1), l.splat(1.0 - s.beta2));
        let (c1, c2) = (l.splat(s.correction1), l.splat(s.correction2));
        let (lr, keep) = (l.splat(-s.lr), l.splat(s.keep));
        let mut i = 0;
        while i < p.len() {
            let own = i..p.len().min(i + WIDTH);
            let grad = l.load_first(&g[own.clone()], 0.0);
            let first = l.fma(l.load_first(&m[own.clone()], 0.0), b1, l.mul(grad, a1));
            let second = l.fma(l.load_first(&v[own.clone()], 0.0), b2, l.mul(l.mul(grad, grad), a2));
            let root = l.add(l.sqrt(l.mul(second, c2)), eps);
            let change = l.div(l.mul(first, c1), root);
            let moved = l.fma(change, lr, l.mul(l.load_first(&p[own.clone()], 0.0), keep));
            l.store_first(moved, &mut p[own.clone()]);
            l.store_first(first, &mut m[own.clone()]);
            l.store_first(second, &mut v[own]);
            i += WIDTH;
        }
    }
}

/// (p, g, m, v, lr, step) -> p, m, v; in place where operands' memory is the results'.
pub(crate) fn adamw(desc: &OpDesc<'_>, [beta1, beta2, eps, weight_decay]: [f32; 4]) -> Option<Kernel> {
    let n = desc.inputs[0].numel();
    Some(Kernel::new(n / 2, move |team, operands| {
        let (lr, step) = (operands.input::<f32>(4)[0], operands.input::<f32>(5)[0]);
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(f64::from(step)))) as f32;
        let step = StepConstants {
            beta1,
            beta2,
            eps,
            correction1: correction(beta1),
            correction2: correction(beta2),
            lr,
            keep: 1.0 - lr * weight_decay,
        };
        let own = team.share(n, 8192);
        let part = |output: usize, input: usize| {
            // SAFETY: shares of threads are disjoint.
            let to = unsafe { operands.output::<f32>(output).part(own.clone()) };
            bring(operands, output, input, own.start, to);
            to
        };
        let (p, m, v) = (part(0, 0), part(1, 2), part(2, 3));
        update(p, &operands.input::<f32>(1)[own.clone()], m, v, step);
    }))
}

/// Copies operand `input` from element `start` on, unless it lies there already.
fn bring(operands: &Operands<'_>, output: usize, input: usize, start: usize, to: &mut [f32]) {
    if !operands.in_place(output, input) {
        to.copy_from_slice(&operands.input::<f32>(input)[start..start + to.len()]);
    }
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, DType, Op};

    use crate::launch_test::{check_op, operand};

    #[test]
    fn a_step_agrees_with_the_reference() {
        for n in [1, 16, 20_003] {
            let mut x: Vec<_> = (0..4).map(|i| operand(DType::F32, &[n], i)).collect();
            x[3].1.iter_mut().for_each(|v| *v = v.abs());
            let (mut lr, mut step) = (operand(DType::F32, &[], 1), operand(DType::F32, &[], 1));
            (lr.1[0], step.1[0]) = (0.01, 3.0);
            x.extend([lr, step]);
            let op = Composite::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
            check_op(&Op::Composite(op), &x, 1e-6);
        }
    }
}
