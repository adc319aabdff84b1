//! Rates of the matrix kernels beside what the machine can do, measured in the same run.
//!
//! `cargo bench -p percept-cpu --bench matmul [-- FILTER]`; `PERCEPT_THREADS` sets the team (default 2).

use std::hint::black_box;
use std::time::{Duration, Instant};

use percept_cpu::matmul::{DotIsa, MatMul};
use percept_cpu::pool::{Pool, SharedSlice};
use percept_graph::DType;

/// The least time of `body` over at least `runs` runs and a third of a second.
fn best(runs: usize, mut body: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut least = Duration::MAX;
    let mut done = 0;
    while done < runs || start.elapsed() < Duration::from_millis(300) {
        let begin = Instant::now();
        body();
        least = least.min(begin.elapsed());
        done += 1;
    }
    least
}

/// Seconds that the team takes to read `bytes` once, eight bytes at a time.
fn read_seconds(pool: &Pool, bytes: &[u64]) -> f64 {
    best(5, || {
        pool.run(|team| {
            let mine = &bytes[team.share(bytes.len(), 8)];
            let mut sums = [0u64; 32];
            for chunk in mine.as_chunks::<32>().0 {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum ^= x;
                }
            }
            black_box(sums);
        })
        .unwrap();
    })
    .as_secs_f64()
}

/// Multiply-adds of sixteen lanes in a chain-free loop: the arithmetic peak in FLOP/s.
fn peak(pool: &Pool) -> f64 {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn chains(n: usize) -> f32 {
        use std::arch::x86_64::*;
        let mut acc = [_mm512_set1_ps(0.5); 12];
        let x = _mm512_set1_ps(black_box(0.999));
        for _ in 0..n {
            for a in &mut acc {
                *a = _mm512_fmadd_ps(*a, x, x);
            }
        }
        acc.iter().map(|&a| _mm512_reduce_add_ps(a)).sum()
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        let n = 400_000;
        let time = best(5, || {
            pool.run(|_| {
                // SAFETY: the feature was detected.
                black_box(unsafe { chains(n) });
            })
            .unwrap();
        });
        return (n * 12 * 32 * pool.size()) as f64 / time.as_secs_f64();
    }
    let _ = pool;
    f64::NAN
}

fn random(bytes: usize) -> Vec<u64> {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Exponents stay small in every float dtype and scale.
        seed & 0x3bff_3bff_3bff_3bff
    };
    (0..bytes.div_ceil(8)).map(|_| next()).collect()
}

fn run(pool: &Pool, p: &MatMul, runs: usize) -> Duration {
    let size = |n: usize, d: DType| n / d.block_len() * d.block_bytes();
    let (a, b) = (random(size(p.m * p.k, p.lhs)), random(size(p.n * p.k, p.rhs)));
    let mut out = vec![0u64; size(p.m * p.n, p.out).div_ceil(8)];
    let mut work = vec![0u64; p.workspace(pool.size()).div_ceil(8)];
    let (out, work) = (bytemuck::cast_slice_mut(&mut out), bytemuck::cast_slice_mut(&mut work));
    let (out, work) = (SharedSlice::new(out), SharedSlice::new(work));
    let (a, b) = (bytemuck::cast_slice(&a), bytemuck::cast_slice(&b));
    best(runs, || pool.run(|team| p.run(team, DotIsa::best(), a, b, out, work, None)).unwrap())
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let threads = std::env::var("PERCEPT_THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(2);
    let pool = Pool::new(threads).unwrap();
    let peak = peak(&pool);
    let memory = random(512 << 20);
    let bandwidth = (512 << 20) as f64 / read_seconds(&pool, &memory);
    drop(memory);
    println!(
        "{threads} threads: {:.0} GFLOP/s f32 multiply-add, {:.1} GB/s read",
        peak / 1e9,
        bandwidth / 1e9
    );

    let makers: [(&str, fn(usize, usize, usize, DType, DType, DType) -> MatMul); 2] =
        [("plain", MatMul::plain), ("linear", MatMul::linear)];
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (name, make) in makers {
            for n in [512, 1024, 2048] {
                let label = format!("matmul {name} {dtype} {n}");
                if label.contains(&filter) {
                    let time = run(&pool, &make(n, n, n, dtype, dtype, dtype), 5).as_secs_f64();
                    let rate = 2.0 * (n as f64).powi(3) / time;
                    println!(
                        "{label:28} {:7.2} ms {:7.1} GFLOP/s {:5.2} of peak",
                        time * 1e3,
                        rate / 1e9,
                        rate / peak
                    );
                }
            }
        }
    }
    // The three products of a linear layer in a step of training: y = x w^T, dx = dy w, dw = dy^T x.
    for (rows, to, from) in [(2048, 1024, 384), (3456, 320, 160)] {
        let f32 = DType::F32;
        let mut dw = MatMul::plain(to, from, rows, f32, f32, f32);
        dw.lhs_strides = [rows * to, 1, to];
        for (name, product) in [
            ("y", MatMul::linear(rows, to, from, f32, f32, f32)),
            ("dx", MatMul::plain(rows, from, to, f32, f32, f32)),
            ("dw", dw),
        ] {
            let label = format!("layer {name} {rows} {from}->{to}");
            if label.contains(&filter) {
                let time = run(&pool, &product, 5).as_secs_f64();
                let rate = 2.0 * (rows * to * from) as f64 / time;
                println!("{label:28} {:7.2} ms {:7.1} GFLOP/s", time * 1e3, rate / 1e9);
            }
        }
    }
    for m in [1, 4, 128] {
        for rhs in [
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::Q8_0,
            DType::Q4_0,
            DType::Q4_1,
            DType::Q4K,
            DType::Q6K,
        ] {
            for (name, make) in makers {
                let label = format!("m={m} {name} {rhs} 8192x8192");
                if label.contains(&filter) && (name == "linear" || !rhs.is_quantized()) {
                    let (n, k) = (8192, 8192);
                    let lhs = if rhs.is_float() { rhs } else { DType::F32 };
                    let time = run(&pool, &make(m, n, k, lhs, rhs, lhs), 3).as_secs_f64();
                    let rate = (n * k / rhs.block_len() * rhs.block_bytes()) as f64 / time;
                    let flops = 2.0 * (m * n * k) as f64 / time;
                    println!(
                        "{label:28} {:7.2} ms {:6.1} GB/s {:5.2} of read, {:6.1} GFLOP/s",
                        time * 1e3,
                        rate / 1e9,
                        rate / bandwidth,
                        flops / 1e9
                    );
                }
            }
        }
    }
}
