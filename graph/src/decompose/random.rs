//! Counter-based random bits.

use crate::dtype::DType;
use crate::trace::Tensor;

/// Rotation distances of Threefry-2x32, by round modulo 8 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
/// 3", SC 2011, table 2).
const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
/// The key schedule's parity constant for 32-bit words (same paper, section 4.2).
const PARITY: u32 = 0x1BD1_1BDA;

fn rotate_left(x: &Tensor, by: u32) -> Tensor {
    x.shl(&x.like(by as f64)).or(&x.shr(&x.like((32 - by) as f64)))
}

/// Both words of Threefry-2x32 with 20 rounds of the counter (a, b), elementwise, under a key of two scalars.
fn threefry(key: [Tensor; 2], counter: [Tensor; 2]) -> [Tensor; 2] {
    let [k0, k1] = key;
    let k2 = k0.xor(&k1).xor(&k0.like(PARITY as f64));
    let keys = [k0, k1, k2];
    let [mut a, mut b] = counter;
    a = &a + &keys[0];
    b = &b + &keys[1];
    for round in 0..20 {
        a = &a + &b;
        b = rotate_left(&b, ROTATIONS[round % 8]).xor(&a);
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            a = &a + &keys[injection % 3];
            b = &b + &keys[(injection + 1) % 3] + injection as f64;
        }
    }
    [a, b]
}

/// The first words of the blocks with counters (index, stream) under the key `seed`.
pub fn bits(seed: &Tensor, stream: u32, dims: &[usize]) -> Tensor {
    let trace = seed.trace();
    let n: usize = dims.iter().product();
    let key = [0, 1].map(|i| seed.narrow(0, i, i + 1).reshape([]));
    let counter = [trace.iota(DType::U32, [n], 0), trace.full(DType::U32, [n], stream as f64)];
    let [first, _] = threefry(key, counter);
    first.reshape(dims.to_vec())
}
