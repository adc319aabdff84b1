//! Products by digits: the same bits on every instruction set, and how near they are to f64.

use percept_graph::DType;

use super::tests::{Random, encode, run, storage, values};
use super::{DotIsa, MatMul};

const WEIGHTS: [DType; 3] = [DType::Q4_0, DType::Q4_1, DType::Q4K];

/// Every set that multiplies by digits, and one that does not.
fn sets() -> (Vec<DotIsa>, DotIsa) {
    let (by_digits, floats): (Vec<_>, Vec<_>) =
        DotIsa::available().into_iter().partition(|isa| isa.bytes().is_some());
    (by_digits, *floats.last().unwrap())
}

#[test]
fn products_by_digits_have_the_same_bits_on_every_set() {
    let mut random = Random(1);
    for rhs in WEIGHTS {
        for (m, n, blocks) in [(1, 7, 1), (1, 130, 5), (3, 33, 3), (7, 50, 2), (40, 65, 1)] {
            // More groups than are read at a time, for a format of small blocks.
            let k = blocks * if rhs == DType::Q4K { 256 } else { 352 };
            for (lhs, out) in [(DType::F32, DType::F32), (DType::BF16, DType::F32), (DType::F16, DType::BF16)]
            {
                let (x, w) = (storage(&mut random, lhs, m * k), storage(&mut random, rhs, n * k));
                let product = MatMul::linear(m, n, k, lhs, rhs, out);
                let mut first = None;
                for isa in sets().0 {
                    let found = run(&product, isa, 2, &x, &w);
                    assert!(*first.get_or_insert_with(|| found.clone()) == found, "{product:?} on {isa:?}");
                }
            }
        }
    }
}

/// Numbers as layers of language models have them: most are small, and a few of each row outweigh all others.
fn with_outliers(random: &mut Random, m: usize, k: usize) -> Vec<f32> {
    let mut x: Vec<f32> = (0..m * k).map(|_| random.unit() * random.unit()).collect();
    for row in x.chunks_exact_mut(k) {
        for i in 0..k / 100 {
            row[i * 100 + 17] *= 10f32.powi(i as i32 % 5);
        }
    }
    x
}

#[test]
fn digits_err_like_floats_and_never_beyond_their_bound() {
    let mut random = Random(2);
    let (by_digits, floats) = sets();
    for rhs in WEIGHTS {
        for outliers in [false, true] {
            let (m, n, k) = (8, 48, 1536);
            let x = if outliers {
                with_outliers(&mut random, m, k)
            } else {
                (0..m * k).map(|_| random.unit()).collect()
            };
            let w = storage(&mut random, rhs, n * k);
            let (bytes, weights) = (encode(DType::F32, &x), values(rhs, &w));
            let product = MatMul::linear(m, n, k, DType::F32, rhs, DType::F32);
            let of = |isa| values(DType::F32, &run(&product, isa, 1, &bytes, &w));
            let (digits, floats) = (of(by_digits[0]), of(floats));
            // Sums of squares of the two errors.
            let mut errors = [0.0, 0.0];
            for (at, (by_digits, by_floats)) in digits.iter().zip(floats).enumerate() {
                let (x, w) = (&x[at / n * k..][..k], &weights[at % n * k..][..k]);
                let (mut exact, mut bound, mut reach) = (0.0, 0.0, 0.0);
                for (x, w) in x.chunks_exact(32).zip(w.chunks_exact(32)) {
                    let product: f64 = x.iter().zip(w).map(|(&x, w)| f64::from(x) * w).sum();
                    let greatest = x.iter().fold(0f32, |a, x| a.max(x.abs()));
                    let weights: f64 = w.iter().map(|w| w.abs()).sum();
                    exact += product;
                    // The digits, then the sum of the group and what it is added to, rounded a few times.
                    bound += 2f64.powi(-23) * f64::from(greatest) * weights;
                    reach += x.iter().zip(w).map(|(&x, w)| (f64::from(x) * w).abs()).sum::<f64>();
                    bound += 4.0 * 2f64.powi(-24) * reach;
                }
                let off = (by_digits - exact).abs();
                assert!(off <= bound, "{rhs}: {by_digits} is {off:e} from {exact}, more than {bound:e}");
                errors[0] += off * off;
                errors[1] += (by_floats - exact).powi(2);
            }
            let [digits, floats] = errors.map(|e| (e / (m * n) as f64).sqrt());
            // Both err in the last place of the sum; an outlier takes more places from the rest of its group.
            let off = format!("{digits:e} by digits, {floats:e} in f32");
            let most = if outliers { 3.0 } else { 1.25 };
            assert!(digits <= most * floats, "{rhs}, outliers {outliers}: {off}");
        }
    }
}

#[test]
fn what_is_not_finite_spoils_its_row_alone_and_nothing_tiny_or_huge_does() {
    let mut random = Random(3);
    let (n, k) = (19, 512);
    for rhs in WEIGHTS {
        let w = storage(&mut random, rhs, n * k);
        let clean: Vec<f32> = (0..8 * k).map(|_| random.unit()).collect();
        let mut x = clean.clone();
        (x[k + 40], x[2 * k + 511], x[3 * k]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        x[4 * k..5 * k].fill(0.0);
        x[5 * k..6 * k].iter_mut().for_each(|x| *x *= 1e-40);
        x[6 * k..7 * k].iter_mut().for_each(|x| *x *= 1e36);
        // One unit below a power of two, where digits would run over.
        x[7 * k..].iter_mut().for_each(|x| *x = (2.0 - f32::EPSILON).copysign(*x));
        let product = MatMul::linear(8, n, k, DType::F32, rhs, DType::F32);
        for isa in sets().0 {
            let of = |x: &[f32]| values(DType::F32, &run(&product, isa, 1, &encode(DType::F32, x), &w));
            let (found, clean) = (of(&x), of(&clean));
            assert_eq!(found[..n], clean[..n], "{rhs} on {isa:?}");
            assert!(found[n..4 * n].iter().all(|y| y.is_nan()), "{rhs} on {isa:?}");
            let w = values(rhs, &w);
            for (at, y) in found.iter().enumerate().skip(4 * n) {
                let (x, w) = (&x[at / n * k..][..k], &w[at % n * k..][..k]);
                let (mut exact, mut size) = (0.0, 0.0);
                for (x, w) in x.iter().zip(w) {
                    exact += f64::from(*x) * w;
                    size += (f64::from(*x) * w).abs();
                }
                assert!((y - exact).abs() <= 1e-5 * size + 1e-35, "{rhs} on {isa:?}: {y}, not {exact}");
            }
        }
    }
}
