//! The dot kernels' loads on NEON.

use std::arch::aarch64::*;

use super::unit::DotLanes;
use crate::lanes::{Neon, WIDTH};

impl DotLanes for Neon {
    #[inline(always)]
    fn load_u8(self, x: &[u8; WIDTH]) -> [int32x4_t; 4] {
        // SAFETY: the token proves the feature; sixteen bytes are read.
        unsafe {
            let bytes = vld1q_u8(x.as_ptr());
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes)));
            [vget_low_u16(low), vget_high_u16(low), vget_low_u16(high), vget_high_u16(high)]
                .map(|four| vreinterpretq_s32_u32(vmovl_u16(four)))
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; WIDTH]) -> [int32x4_t; 4] {
        // SAFETY: the token proves the feature; sixteen bytes are read.
        unsafe {
            let bytes = vld1q_s8(x.as_ptr().cast());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
            [vget_low_s16(low), vget_high_s16(low), vget_low_s16(high), vget_high_s16(high)]
                .map(|four| vmovl_s16(four))
        }
    }
}
