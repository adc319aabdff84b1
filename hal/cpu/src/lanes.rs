//! Sixteen lanes on any instruction set: formulas are written once over [`Lanes`], compiled for each set, and
//! chosen at run time.
//!
//! The lane count is sixteen everywhere (two registers on AVX2, four on NEON), so that a reduction has the same
//! order of additions on every machine.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, sum8_of_four};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// Lanes in a vector.
pub(crate) const WIDTH: usize = 16;

/// The instruction sets the kernels are compiled for; the token inside proves that the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Plain Rust.
    Portable(Portable),
    /// NEON, which every AArch64 has.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Isa {
    /// Every set this machine has, plainest first.
    pub(crate) fn available() -> Vec<Isa> {
        let mut sets = vec![Isa::Portable(Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(Avx2::detect().map(Isa::Avx2));
            sets.extend(Avx512::detect().map(Isa::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        sets.extend(Neon::detect().map(Isa::Neon));
        sets
    }
}

#[cfg(test)]
thread_local! {
    /// The set a test holds this thread to.
    pub(crate) static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// Runs `body` once on every instruction set of this machine.
#[cfg(test)]
pub(crate) fn on_every_isa(mut body: impl FnMut(Isa)) {
    for isa in Isa::available() {
        FORCED.set(Some(isa));
        body(isa);
    }
    FORCED.set(None);
}

/// The best instruction set of this machine.
pub(crate) fn isa() -> Isa {
    #[cfg(test)]
    if let Some(isa) = FORCED.get() {
        return isa;
    }
    static BEST: OnceLock<Isa> = OnceLock::new();
    *BEST.get_or_init(|| Isa::available().pop().unwrap_or(Isa::Portable(Portable)))
}

/// Sixteen f32 lanes, the i32 lanes of the same bits, and masks.
///
/// The receiver is the proof that the instruction set exists, which makes the methods safe.
pub(crate) trait Lanes: Copy + Send + Sync + 'static {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// Sixteen truth values.
    type M: Copy;

    /// Rows and result vectors of a register tile: as many as the registers hold.
    const TILE: (usize, usize);

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; WIDTH]) -> Self::F;
    fn store(self, x: Self::F, to: &mut [f32; WIDTH]);
    /// Stores past the caches; falls back to a plain store where `to` is not aligned for it.
    fn stream(self, x: Self::F, to: &mut [f32; WIDTH]);
    fn load_f16(self, x: &[u16; WIDTH]) -> Self::F;
    /// Rounds to nearest even.
    fn store_f16(self, x: Self::F, to: &mut [u16; WIDTH]);

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c` rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `a < b ? a : b`: `b` where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a > b ? a : b`: `b` where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    fn floor(self, a: Self::F) -> Self::F;
    fn ceil(self, a: Self::F) -> Self::F;
    /// `a * 2^n` for an integer-valued `n` between -250 and 250, denormal results included.
    fn scale(self, a: Self::F, n: Self::F) -> Self::F;

    fn less(self, a: Self::F, b: Self::F) -> Self::M;
    fn equal(self, a: Self::F, b: Self::F) -> Self::M;
    /// `mask ? a : b`.
    fn select(self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F;
    fn any(self, mask: Self::M) -> bool;

    fn splat_int(self, x: i32) -> Self::I;
    fn load_int(self, x: &[i32; WIDTH]) -> Self::I;
    fn bits(self, a: Self::F) -> Self::I;
    fn float_of_bits(self, a: Self::I) -> Self::F;
    /// Rounds to nearest; meaningful within the range of i32 only.
    fn to_int(self, a: Self::F) -> Self::I;
    fn to_float(self, a: Self::I) -> Self::F;
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    fn shift_left<const N: u32>(self, a: Self::I) -> Self::I;
    /// Logical shift.
    fn shift_right<const N: u32>(self, a: Self::I) -> Self::I;
    /// Arithmetic shift.
    fn shift_right_signed<const N: u32>(self, a: Self::I) -> Self::I;
    fn equal_int(self, a: Self::I, b: Self::I) -> Self::M;
    /// The low sixteen bits of each lane.
    fn store_low_halves(self, a: Self::I, to: &mut [u16; WIDTH]);
    /// Sixteen unsigned halves, widened.
    fn load_halves(self, x: &[u16; WIDTH]) -> Self::I;

    /// Adds lane `i` and `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    fn sum(self, a: Self::F) -> f32;
    /// The greatest lane, NaN ignored as by [`Lanes::max`].
    fn greatest(self, a: Self::F) -> f32;

    /// `to[j][i] = from[i][j]` for sixteen rows of sixteen, `from_row` and `to_row` elements apart.
    ///
    /// # Safety
    /// The rows must be readable and writable.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        for i in 0..WIDTH {
            for j in 0..WIDTH {
                // SAFETY: the caller promises the rows.
                unsafe { to.add(j * to_row + i).write(from.add(i * from_row + j).read()) }
            }
        }
    }
    /// Loads fewer than sixteen values, the rest of the lanes are `fill`.
    #[inline(always)]
    fn load_first(self, x: &[f32], fill: f32) -> Self::F {
        let mut lanes = [fill; WIDTH];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }
    /// Stores the first lanes.
    #[inline(always)]
    fn store_first(self, x: Self::F, to: &mut [f32]) {
        let mut lanes = [0.0; WIDTH];
        self.store(x, &mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        self.float_of_bits(self.xor(self.bits(a), self.splat_int(i32::MIN)))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        self.float_of_bits(self.and(self.bits(a), self.splat_int(i32::MAX)))
    }
    /// The magnitude of `a` with the sign of `b`.
    #[inline(always)]
    fn copysign(self, a: Self::F, b: Self::F) -> Self::F {
        let sign = self.and(self.bits(b), self.splat_int(i32::MIN));
        self.float_of_bits(self.or(self.bits(self.abs(a)), sign))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; WIDTH]) -> Self::F {
        self.float_of_bits(self.shift_left::<16>(self.load_halves(x)))
    }
    /// Rounds to nearest even; NaN stays NaN.
    #[inline(always)]
    fn store_bf16(self, x: Self::F, to: &mut [u16; WIDTH]) {
        let bits = self.bits(x);
        let high = self.shift_right::<16>(bits);
        let odd = self.and(high, self.splat_int(1));
        let rounded = self.shift_right::<16>(self.add_int(bits, self.add_int(odd, self.splat_int(0x7fff))));
        let quiet = self.or(high, self.splat_int(0x40));
        let chosen = self.select(self.equal(x, x), self.float_of_bits(rounded), self.float_of_bits(quiet));
        self.store_low_halves(self.bits(chosen), to);
    }
}

/// Orders stores made by [`Lanes::stream`] before everything after: to be called before a barrier.
pub(crate) fn finish_streams() {
    // SAFETY: SSE is part of x86-64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Defines a function whose body is compiled once per instruction set, with the set's [`Lanes`] as first name,
/// and which runs the best one the machine has.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident: $bound:path),+>)?
        ($lanes:ident $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<L: $crate::lanes::Lanes $($(, $g: $bound)+)?>($lanes: L $(, $arg: $ty)*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments)]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            fn avx512 $(<$($g: $bound),+>)? (lanes: $crate::lanes::Avx512 $(, $arg: $ty)*) $(-> $ret)? {
                body(lanes $(, $arg)*)
            }
            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments)]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<$($g: $bound),+>)? (lanes: $crate::lanes::Avx2 $(, $arg: $ty)*) $(-> $ret)? {
                body(lanes $(, $arg)*)
            }
            match $crate::lanes::isa() {
                $crate::lanes::Isa::Portable(lanes) => body(lanes $(, $arg)*),
                #[cfg(target_arch = "aarch64")]
                $crate::lanes::Isa::Neon(lanes) => body(lanes $(, $arg)*),
                // SAFETY: the token was made after the machine's features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::Isa::Avx2(lanes) => unsafe { avx2(lanes $(, $arg)*) },
                // SAFETY: the token was made after the machine's features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::lanes::Isa::Avx512(lanes) => unsafe { avx512(lanes $(, $arg)*) },
            }
        }
    };
}
pub(crate) use simd;

#[cfg(test)]
#[path = "lanes_test.rs"]
mod tests;
