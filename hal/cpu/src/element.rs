//! Stored float types and how sixteen of them become f32 lanes.

use bytemuck::Pod;
use half::{bf16, f16};

use crate::lanes::{Lanes, WIDTH};

/// A float type of tensors in memory. Arithmetic is in f32; stores round to nearest even.
pub(crate) trait Element: Pod + Send + Sync {
    fn load<L: Lanes>(l: L, x: &[Self; WIDTH]) -> L::F;
    fn store<L: Lanes>(l: L, x: L::F, to: &mut [Self; WIDTH]);
    /// Loads fewer than sixteen values; the other lanes are `fill`.
    fn load_first<L: Lanes>(l: L, x: &[Self], fill: f32) -> L::F;
    /// Stores the first lanes.
    fn store_first<L: Lanes>(l: L, x: L::F, to: &mut [Self]);
    fn to_f32(self) -> f32;
    fn from_f32(x: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn load<L: Lanes>(l: L, x: &[f32; WIDTH]) -> L::F {
        l.load(x)
    }
    #[inline(always)]
    fn store<L: Lanes>(l: L, x: L::F, to: &mut [f32; WIDTH]) {
        l.store(x, to);
    }
    #[inline(always)]
    fn load_first<L: Lanes>(l: L, x: &[f32], fill: f32) -> L::F {
        l.load_first(x, fill)
    }
    #[inline(always)]
    fn store_first<L: Lanes>(l: L, x: L::F, to: &mut [f32]) {
        l.store_first(x, to);
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
}

macro_rules! half_element {
    ($ty:ty, $load:ident, $store:ident) => {
        impl Element for $ty {
            #[inline(always)]
            fn load<L: Lanes>(l: L, x: &[Self; WIDTH]) -> L::F {
                l.$load(bytemuck::cast_ref(x))
            }
            #[inline(always)]
            fn store<L: Lanes>(l: L, x: L::F, to: &mut [Self; WIDTH]) {
                l.$store(x, bytemuck::cast_mut(to));
            }
            #[inline(always)]
            fn load_first<L: Lanes>(l: L, x: &[Self], fill: f32) -> L::F {
                let mut lanes = [Self::from_f32(fill); WIDTH];
                lanes[..x.len()].copy_from_slice(x);
                Self::load(l, &lanes)
            }
            #[inline(always)]
            fn store_first<L: Lanes>(l: L, x: L::F, to: &mut [Self]) {
                let mut lanes = [Self::from_bits(0); WIDTH];
                Self::store(l, x, &mut lanes);
                to.copy_from_slice(&lanes[..to.len()]);
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                <$ty>::to_f32(self)
            }
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                <$ty>::from_f32(x)
            }
        }
    };
}
half_element!(f16, load_f16, store_f16);
half_element!(bf16, load_bf16, store_bf16);

/// Evaluates an expression with a name bound to the Rust type of a float dtype, inside `Some`; `None` for the others.
macro_rules! with_float {
    ($dtype:expr, $t:ident => $e:expr) => {
        match $dtype {
            percept_graph::DType::F32 => {
                type $t = f32;
                Some($e)
            }
            percept_graph::DType::F16 => {
                type $t = half::f16;
                Some($e)
            }
            percept_graph::DType::BF16 => {
                type $t = half::bf16;
                Some($e)
            }
            _ => None,
        }
    };
}
pub(crate) use with_float;
