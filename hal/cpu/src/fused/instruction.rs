//! Vector instructions over a chunk of 32-bit lanes.

use percept_graph::{Activation, Binary, Compare, Unary};

use crate::lanes::{Lanes, WIDTH, simd};
use crate::vector_math as vm;

/// How the 32 bits of a lane are read. Halves are widened to `Float`; bytes and truth values to `Unsigned`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Float,
    Signed,
    Unsigned,
}

/// One elementwise operation on lanes of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Instruction {
    Unary(Unary, Class),
    /// Negation of a truth value.
    LogicalNot,
    Binary(Binary, Class),
    Compare(Compare, Class),
    Select,
    Clamp(Class),
    Activate(Activation),
    /// Converts between classes: floats truncate and saturate to integers, integers wrap into one another.
    Convert(Class, Class),
    /// Floats to 0..=255, truncating and saturating; integers to their low eight bits.
    ToByte(Class),
    /// `!= 0`.
    ToBool(Class),
    RoundToHalf,
    RoundToBfloat,
}

impl Instruction {
    /// Whether the result's lanes are the operand's.
    pub(crate) fn keeps_bits(self) -> bool {
        let float = |class| class == Class::Float;
        matches!(self, Instruction::Convert(from, to) if float(from) == float(to))
    }
}

/// Sixteen lanes.
pub(crate) type Block = [u32; WIDTH];

#[inline(always)]
fn float(x: &Block) -> &[f32; WIDTH] {
    bytemuck::cast_ref(x)
}

#[inline(always)]
fn float_mut(x: &mut Block) -> &mut [f32; WIDTH] {
    bytemuck::cast_mut(x)
}

/// The activation function of the graph's definition.
#[inline(always)]
pub(crate) fn activate<L: Lanes>(l: L, kind: Activation, x: L::F) -> L::F {
    match kind {
        Activation::GeluErf => {
            let half = l.mul(x, l.splat(0.5));
            let e = vm::erf(l, l.mul(x, l.splat(std::f32::consts::FRAC_1_SQRT_2)));
            l.fma(half, e, half)
        }
        Activation::GeluTanh => {
            // x/2 (1 + tanh u) = x logistic(2u), without the cancellation for negative x.
            let cubic = l.fma(l.mul(x, x), l.splat(0.044_715), l.splat(1.0));
            let u = l.mul(l.mul(x, cubic), l.splat(1.595_769));
            gate(l, x, u)
        }
        Activation::Silu => gate(l, x, x),
        Activation::QuickGelu => gate(l, x, l.mul(x, l.splat(1.702))),
        Activation::Relu => vm::max(l, x, l.splat(0.0)),
    }
}

/// `x logistic(u)`.
#[inline(always)]
fn gate<L: Lanes>(l: L, x: L::F, u: L::F) -> L::F {
    l.div(x, l.add(vm::exp(l, l.neg(u)), l.splat(1.0)))
}

macro_rules! float_map {
    ($l:ident, $out:ident, $a:ident, $x:ident => $e:expr) => {
        for (out, a) in $out.iter_mut().zip($a) {
            let $x = $l.load(float(a));
            $l.store($e, float_mut(out));
        }
    };
    ($l:ident, $out:ident, $a:ident, $b:ident, $x:ident, $y:ident => $e:expr) => {
        for ((out, a), b) in $out.iter_mut().zip($a).zip($b) {
            let ($x, $y) = ($l.load(float(a)), $l.load(float(b)));
            $l.store($e, float_mut(out));
        }
    };
}

/// Loops over integer lanes, which the compiler vectorizes by itself.
macro_rules! int_map {
    ($out:ident, $a:ident, $ty:ty, $x:ident => $e:expr) => {
        for (out, a) in $out.iter_mut().zip($a) {
            for i in 0..WIDTH {
                let $x = a[i] as $ty;
                out[i] = ($e) as u32;
            }
        }
    };
    ($out:ident, $a:ident, $b:ident, $ty:ty, $x:ident, $y:ident => $e:expr) => {
        for ((out, a), b) in $out.iter_mut().zip($a).zip($b) {
            for i in 0..WIDTH {
                let ($x, $y) = (a[i] as $ty, b[i] as $ty);
                out[i] = ($e) as u32;
            }
        }
    };
}

macro_rules! compare {
    ($out:ident, $a:ident, $b:ident, $read:expr, $kind:expr) => {
        match $kind {
            Compare::Eq => int_map!($out, $a, $b, u32, x, y => $read(x) == $read(y)),
            Compare::Ne => int_map!($out, $a, $b, u32, x, y => $read(x) != $read(y)),
            Compare::Lt => int_map!($out, $a, $b, u32, x, y => $read(x) < $read(y)),
            Compare::Le => int_map!($out, $a, $b, u32, x, y => $read(x) <= $read(y)),
            Compare::Gt => int_map!($out, $a, $b, u32, x, y => $read(x) > $read(y)),
            Compare::Ge => int_map!($out, $a, $b, u32, x, y => $read(x) >= $read(y)),
        }
    };
}

macro_rules! int_binary {
    ($out:ident, $a:ident, $b:ident, $ty:ty, $kind:expr) => {
        match $kind {
            Binary::Add => int_map!($out, $a, $b, $ty, x, y => x.wrapping_add(y)),
            Binary::Sub => int_map!($out, $a, $b, $ty, x, y => x.wrapping_sub(y)),
            Binary::Mul => int_map!($out, $a, $b, $ty, x, y => x.wrapping_mul(y)),
            Binary::Div => int_map!($out, $a, $b, $ty, x, y => if y == 0 { x } else { x.wrapping_div(y) }),
            Binary::Rem => int_map!($out, $a, $b, $ty, x, y => if y == 0 { 0 } else { x.wrapping_rem(y) }),
            Binary::Pow => int_map!($out, $a, $b, $ty, x, y => x.wrapping_pow(y as u32)),
            Binary::Max => int_map!($out, $a, $b, $ty, x, y => x.max(y)),
            Binary::Min => int_map!($out, $a, $b, $ty, x, y => x.min(y)),
            Binary::And => int_map!($out, $a, $b, $ty, x, y => x & y),
            Binary::Or => int_map!($out, $a, $b, $ty, x, y => x | y),
            Binary::Xor => int_map!($out, $a, $b, $ty, x, y => x ^ y),
            Binary::Shl => int_map!($out, $a, $b, u32, x, y => if y < 32 { x << (y & 31) } else { 0 }),
            Binary::Shr => int_map!($out, $a, $b, u32, x, y => if y < 32 { x >> (y & 31) } else { 0 }),
        }
    };
}

/// Rounds each lane through a half type.
#[inline(always)]
fn round_through<L: Lanes, T: crate::element::Element>(l: L, out: &mut [Block], a: &[Block]) {
    for (out, a) in out.iter_mut().zip(a) {
        let mut stored = [T::from_f32(0.0); WIDTH];
        T::store(l, l.load(float(a)), &mut stored);
        l.store(T::load(l, &stored), float_mut(out));
    }
}

simd! {
    /// `out = instruction(a, b, c)` lane by lane; operands an instruction does not have are ignored.
    pub(crate) fn execute(l, instruction: Instruction, out: &mut [Block], a: &[Block], b: &[Block], c: &[Block]) {
        match instruction {
            Instruction::Unary(kind, Class::Float) => match kind {
                Unary::Neg => float_map!(l, out, a, x => l.neg(x)),
                Unary::Abs => float_map!(l, out, a, x => l.abs(x)),
                Unary::Sign => float_map!(l, out, a, x => {
                    let one = l.copysign(l.splat(1.0), x);
                    let nonzero = l.less(l.splat(0.0), l.abs(x));
                    // Zero keeps its sign and NaN stays: neither compares greater than zero.
                    l.select(nonzero, one, x)
                }),
                Unary::Exp => float_map!(l, out, a, x => vm::exp(l, x)),
                Unary::Expm1 => float_map!(l, out, a, x => vm::expm1(l, x)),
                Unary::Log => float_map!(l, out, a, x => vm::log(l, x)),
                Unary::Log1p => float_map!(l, out, a, x => vm::log1p(l, x)),
                Unary::Sqrt => float_map!(l, out, a, x => l.sqrt(x)),
                Unary::Rsqrt => float_map!(l, out, a, x => vm::rsqrt(l, x)),
                Unary::Sin => float_map!(l, out, a, x => vm::sin(l, x)),
                Unary::Cos => float_map!(l, out, a, x => vm::cos(l, x)),
                Unary::Tanh => float_map!(l, out, a, x => vm::tanh(l, x)),
                Unary::Erf => float_map!(l, out, a, x => vm::erf(l, x)),
                Unary::Logistic => float_map!(l, out, a, x => vm::logistic(l, x)),
                Unary::Floor => float_map!(l, out, a, x => l.floor(x)),
                Unary::Ceil => float_map!(l, out, a, x => l.ceil(x)),
                Unary::Round => float_map!(l, out, a, x => l.round(x)),
                Unary::IsFinite => int_map!(out, a, u32, x => f32::from_bits(x).is_finite()),
                Unary::Not => int_map!(out, a, u32, x => !x),
            },
            Instruction::Unary(kind, _) => match kind {
                Unary::Neg => int_map!(out, a, i32, x => x.wrapping_neg()),
                Unary::Abs => int_map!(out, a, i32, x => x.wrapping_abs()),
                Unary::Sign => int_map!(out, a, i32, x => x.signum()),
                _ => int_map!(out, a, u32, x => !x),
            },
            Instruction::LogicalNot => int_map!(out, a, u32, x => x ^ 1),
            Instruction::Binary(kind, Class::Float) => match kind {
                Binary::Add => float_map!(l, out, a, b, x, y => l.add(x, y)),
                Binary::Sub => float_map!(l, out, a, b, x, y => l.sub(x, y)),
                Binary::Mul => float_map!(l, out, a, b, x, y => l.mul(x, y)),
                Binary::Div => float_map!(l, out, a, b, x, y => l.div(x, y)),
                Binary::Rem => float_map!(l, out, a, b, x, y => vm::rem(l, x, y)),
                Binary::Pow => float_map!(l, out, a, b, x, y => vm::pow(l, x, y)),
                Binary::Max => float_map!(l, out, a, b, x, y => vm::max(l, x, y)),
                Binary::Min => float_map!(l, out, a, b, x, y => vm::min(l, x, y)),
                Binary::And | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr => {
                    int_binary!(out, a, b, u32, kind)
                }
            },
            Instruction::Binary(kind, Class::Signed) => int_binary!(out, a, b, i32, kind),
            Instruction::Binary(kind, Class::Unsigned) => int_binary!(out, a, b, u32, kind),
            Instruction::Compare(kind, Class::Float) => compare!(out, a, b, f32::from_bits, kind),
            Instruction::Compare(kind, Class::Signed) => compare!(out, a, b, u32::cast_signed, kind),
            Instruction::Compare(kind, Class::Unsigned) => compare!(out, a, b, u32::from, kind),
            Instruction::Select => {
                for (((out, p), x), y) in out.iter_mut().zip(a).zip(b).zip(c) {
                    for i in 0..WIDTH {
                        out[i] = if p[i] != 0 { x[i] } else { y[i] };
                    }
                }
            }
            Instruction::Clamp(Class::Float) => {
                for (((out, low), x), high) in out.iter_mut().zip(a).zip(b).zip(c) {
                    let x = vm::max(l, l.load(float(x)), l.load(float(low)));
                    l.store(vm::min(l, x, l.load(float(high))), float_mut(out));
                }
            }
            Instruction::Clamp(class) => {
                for (((out, low), x), high) in out.iter_mut().zip(a).zip(b).zip(c) {
                    for i in 0..WIDTH {
                        out[i] = if class == Class::Signed {
                            (x[i] as i32).max(low[i] as i32).min(high[i] as i32) as u32
                        } else {
                            x[i].max(low[i]).min(high[i])
                        };
                    }
                }
            }
            Instruction::Activate(kind) => match kind {
                Activation::GeluErf => float_map!(l, out, a, x => activate(l, Activation::GeluErf, x)),
                Activation::GeluTanh => float_map!(l, out, a, x => activate(l, Activation::GeluTanh, x)),
                Activation::Silu => float_map!(l, out, a, x => activate(l, Activation::Silu, x)),
                Activation::QuickGelu => float_map!(l, out, a, x => activate(l, Activation::QuickGelu, x)),
                Activation::Relu => float_map!(l, out, a, x => activate(l, Activation::Relu, x)),
            },
            Instruction::Convert(from, to) => match (from, to) {
                (Class::Float, Class::Signed) => int_map!(out, a, u32, x => f32::from_bits(x) as i32),
                (Class::Float, Class::Unsigned) => int_map!(out, a, u32, x => f32::from_bits(x) as u32),
                (Class::Signed, Class::Float) => int_map!(out, a, i32, x => (x as f32).to_bits()),
                (Class::Unsigned, Class::Float) => int_map!(out, a, u32, x => (x as f32).to_bits()),
                _ => out.copy_from_slice(&a[..out.len()]),
            },
            Instruction::ToByte(Class::Float) => int_map!(out, a, u32, x => f32::from_bits(x) as u8),
            Instruction::ToByte(_) => int_map!(out, a, u32, x => x as u8),
            Instruction::ToBool(Class::Float) => int_map!(out, a, u32, x => f32::from_bits(x) != 0.0),
            Instruction::ToBool(_) => int_map!(out, a, u32, x => x != 0),
            Instruction::RoundToHalf => round_through::<L, half::f16>(l, out, a),
            Instruction::RoundToBfloat => round_through::<L, half::bf16>(l, out, a),
        }
    }
}
