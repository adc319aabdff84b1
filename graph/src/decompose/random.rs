//! Counter-based random bits.

use crate::dtype::DType;
use crate::trace::Tensor;

/// Rotation distances of Threefry-2x32, by round modulo 8 (Salmon et al., "Parallel random numbers: as easy
/// as 1, 2, 3", SC 2011, table 2).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_tensor::HostTensor;
    use crate::reference::evaluate;
    use crate::tensor_type::TensorType;
    use crate::trace::Trace;

    /// Known answers of Random123's `kat_vectors` for threefry2x32 with 20 rounds: counter, key, result.
    const KNOWN: [[[u32; 2]; 3]; 3] = [
        [[0, 0], [0, 0], [0x6b20_0159, 0x99ba_4efe]],
        [[0xffff_ffff, 0xffff_ffff], [0xffff_ffff, 0xffff_ffff], [0x1cb9_96fc, 0xbb00_2be7]],
        [[0x243f_6a88, 0x85a3_08d3], [0x1319_8a2e, 0x0370_7344], [0xc492_3a9c, 0x483d_f7a0]],
    ];

    fn words(values: &[u32]) -> HostTensor {
        let values: Vec<f64> = values.iter().map(|&v| v as f64).collect();
        HostTensor::from_f64(TensorType::new(DType::U32, [values.len()]), &values).unwrap()
    }

    #[test]
    fn blocks_are_those_of_random123() {
        let t = Trace::new("block");
        let scalar = |x: &Tensor, i: usize| x.narrow(0, i, i + 1).reshape([]);
        let (key, counter) = (t.data("key", DType::U32, [2]), t.data("counter", DType::U32, [2]));
        let words_of = |x: &Tensor| [scalar(x, 0), scalar(x, 1)];
        let [a, b] = threefry(words_of(&key), words_of(&counter));
        t.output("a", &a);
        t.output("b", &b);
        let graph = t.finish().unwrap();
        for [counter, key, want] in KNOWN {
            let out = evaluate(&graph, &[words(&key), words(&counter)]).unwrap();
            assert_eq!(
                [out[0].values()[0], out[1].values()[0]],
                want.map(|w| w as f64),
                "{counter:x?} {key:x?}"
            );
        }
    }

    #[test]
    fn element_i_is_the_first_word_of_counter_i_and_stream() {
        let t = Trace::new("bits");
        let seed = t.data("seed", DType::U32, [2]);
        t.output("bits", &seed.random_bits(0, [2, 3]));
        t.output("uniform", &seed.random_uniform(0, [2, 3]));
        t.output("stream", &seed.random_bits(0x85a3_08d3, [4]));
        let graph = t.finish().unwrap();
        let out = evaluate(&graph, &[words(&[0, 0])]).unwrap();
        let (bits, uniform) = (out[0].values(), out[1].values());
        assert_eq!(bits[0], 0x6b20_0159u32 as f64);
        for (b, u) in bits.iter().zip(&uniform) {
            assert_eq!(*u, (*b as u32 >> 8) as f64 / 16_777_216.0);
        }
        // The plain cipher, for counters that have no published answer.
        for (i, b) in bits.iter().enumerate() {
            assert_eq!(*b, plain([0, 0], [i as u32, 0])[0] as f64, "{i}");
        }
        let (key, stream) = ([0x1319_8a2e, 0x0370_7344], 0x85a3_08d3);
        let out = evaluate(&graph, &[words(&key)]).unwrap();
        for (i, b) in out[2].values().iter().enumerate() {
            assert_eq!(*b, plain(key, [i as u32, stream])[0] as f64, "{i}");
        }
    }

    /// Threefry on machine words, held to the same known answers.
    fn plain(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
        let keys = [key[0], key[1], key[0] ^ key[1] ^ PARITY];
        let [mut a, mut b] = [counter[0].wrapping_add(key[0]), counter[1].wrapping_add(key[1])];
        for round in 0..20u32 {
            a = a.wrapping_add(b);
            b = b.rotate_left(ROTATIONS[round as usize % 8]) ^ a;
            if round % 4 == 3 {
                let n = round / 4 + 1;
                a = a.wrapping_add(keys[n as usize % 3]);
                b = b.wrapping_add(keys[(n as usize + 1) % 3]).wrapping_add(n);
            }
        }
        [a, b]
    }

    #[test]
    fn the_plain_cipher_gives_the_known_answers() {
        for [counter, key, want] in KNOWN {
            assert_eq!(plain(key, counter), want);
        }
    }
}
