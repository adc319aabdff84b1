use half::{bf16, f16};

use super::*;

simd! {
    fn sums(l, x: &[f32; WIDTH]) -> (f32, f32) { (l.sum(l.load(x)), l.greatest(l.load(x))) }
}
simd! {
    fn round_trip(l, x: &[f32; WIDTH]) -> ([u16; WIDTH], [f32; WIDTH], [u16; WIDTH], [f32; WIDTH]) {
        let (mut h, mut b) = ([0; WIDTH], [0; WIDTH]);
        l.store_f16(l.load(x), &mut h);
        l.store_bf16(l.load(x), &mut b);
        let (mut hf, mut bf) = ([0.0; WIDTH], [0.0; WIDTH]);
        l.store(l.load_f16(&h), &mut hf);
        l.store(l.load_bf16(&b), &mut bf);
        (h, hf, b, bf)
    }
}

#[test]
fn a_sum_has_the_same_order_on_every_instruction_set() {
    let x: [f32; WIDTH] = std::array::from_fn(|i| (i as f32 * 0.731).sin() * 1e3f32.powi(i as i32 % 5 - 2));
    let mut tree = x;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            tree[i] += tree[i + half];
        }
    }
    on_every_isa(|isa| {
        let (sum, greatest) = sums(&x);
        assert_eq!(sum.to_bits(), tree[0].to_bits(), "{isa:?}");
        assert_eq!(greatest, x.iter().copied().fold(f32::MIN, f32::max), "{isa:?}");
    });
}

#[test]
fn halves_round_to_nearest_even_and_keep_nan() {
    let specials =
        [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0, 65520.0, 65519.9, 1e-8, 5.96e-8, 3.3e38];
    let ties = [1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0];
    let sweep = (0..4099u32).map(|i| f32::from_bits(0x3f80_0000u32.wrapping_add(i.wrapping_mul(1_048_573))));
    let values: Vec<f32> = specials.into_iter().chain(ties).chain(sweep).collect();
    on_every_isa(|isa| {
        for group in values.as_chunks::<WIDTH>().0 {
            let (h, hf, b, bf) = round_trip(group);
            for i in 0..WIDTH {
                let x = group[i];
                if x.is_nan() {
                    assert!(hf[i].is_nan() && bf[i].is_nan(), "{isa:?}");
                } else {
                    assert_eq!(h[i], f16::from_f32(x).to_bits(), "{isa:?} f16 of {x}");
                    assert_eq!(b[i], bf16::from_f32(x).to_bits(), "{isa:?} bf16 of {x}");
                    assert_eq!(hf[i], f16::from_bits(h[i]).to_f32());
                    assert_eq!(bf[i], bf16::from_bits(b[i]).to_f32());
                }
            }
        }
    });
}

simd! {
    fn transposed(l, x: &[[f32; WIDTH]; WIDTH]) -> [[f32; WIDTH]; WIDTH] {
        let mut out = [[0.0; WIDTH]; WIDTH];
        // SAFETY: both are sixteen rows of sixteen.
        unsafe { l.transpose(x.as_ptr().cast(), WIDTH, out.as_mut_ptr().cast(), WIDTH) };
        out
    }
}

#[test]
fn a_transpose_exchanges_rows_and_lanes() {
    let x: [[f32; WIDTH]; WIDTH] = std::array::from_fn(|i| std::array::from_fn(|j| (i * WIDTH + j) as f32));
    on_every_isa(|isa| {
        let t = transposed(&x);
        for i in 0..WIDTH {
            for j in 0..WIDTH {
                assert_eq!(t[i][j], x[j][i], "{isa:?} {i} {j}");
            }
        }
    });
}
