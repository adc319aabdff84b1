//! Elementwise operations.

use super::{BackwardStep, Gradients};
use crate::op::Binary;
use crate::trace::Tensor;
use crate::unary::Unary;

pub fn unary(s: &BackwardStep, kind: Unary) -> Option<Tensor> {
    let derivative = kind.definition().derivative?;
    s.when(0, || derivative(&s.g(), &s.x[0], &s.y[0]))
}

pub fn binary(s: &BackwardStep, kind: Binary) -> Gradients {
    let (a, b, y) = (&s.x[0], &s.x[1], &s.y[0]);
    let g = s.g();
    let zero = || g.like(0.0);
    let pair = |da: &dyn Fn() -> Tensor, db: &dyn Fn() -> Tensor| vec![s.when(0, da), s.when(1, db)];
    // The whole gradient where this operand is the better one, half of it where they are equal.
    let preferred = |better: Tensor| {
        let tie = a.eq(b).select(&(&g * 0.5), &zero());
        better.select(&g, &tie)
    };
    match kind {
        Binary::Add => pair(&|| g.clone(), &|| g.clone()),
        Binary::Sub => pair(&|| g.clone(), &|| g.neg()),
        Binary::Mul => pair(&|| &g * b, &|| &g * a),
        Binary::Div => pair(&|| &g / b, &|| &g * y.neg() / b),
        // a % b = a - b trunc(a / b), and trunc is flat.
        Binary::Rem => pair(&|| g.clone(), &|| {
            let ratio = a / b;
            &g * (ratio.abs().floor() * ratio.sign()).neg()
        }),
        Binary::Pow => pair(
            &|| {
                // b a^(b-1); 0^0 is flat, and 0 times 0^-1 would be NaN.
                let flat = a.eq(&zero()).and(&b.eq(&zero()));
                &g * b * a.pow(&(flat.select(&b.like(1.0), b) - 1.0))
            },
            &|| {
                // a^b log(a) tends to 0 with a.
                let base = a.eq(&zero()).select(&a.like(1.0), a);
                &g * y * base.log()
            },
        ),
        Binary::Max => pair(&|| preferred(a.gt(b)), &|| preferred(b.gt(a))),
        Binary::Min => pair(&|| preferred(a.lt(b)), &|| preferred(b.lt(a))),
        // Not on floats.
        Binary::And | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr => vec![None, None],
    }
}

pub fn select(s: &BackwardStep) -> Gradients {
    let g = s.g();
    let zero = g.like(0.0);
    let p = &s.x[0];
    vec![None, s.when(1, || p.select(&g, &zero)), s.when(2, || p.select(&zero, &g))]
}

/// Exactly one operand of a clamp gets the gradient: the bound x is strictly beyond, the upper one first.
pub fn clamp(s: &BackwardStep) -> Gradients {
    let (low, x, high) = (&s.x[0], &s.x[1], &s.x[2]);
    let g = s.g();
    let zero = g.like(0.0);
    let above = x.maximum(low).gt(high);
    let below = x.lt(low);
    vec![
        s.when(0, || above.select(&zero, &below.select(&g, &zero))),
        s.when(1, || above.or(&below).select(&zero, &g)),
        s.when(2, || above.select(&g, &zero)),
    ]
}

/// Between floats the bits mean the same number.
pub fn bitcast(s: &BackwardStep) -> Gradients {
    vec![s.when(0, || s.g())]
}
