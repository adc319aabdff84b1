//! Random bits: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

use percept_graph::OpDesc;

use crate::kernel::Kernel;
use crate::lanes::{WIDTH, simd};

/// Rotation distances by round modulo 8 (table 2 of the paper).
const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
/// The key schedule's parity constant (section 4.2).
const PARITY: u32 = 0x1bd1_1bda;

simd! {
    /// The first words of the blocks with counters `(first.., stream)`; the compiler vectorizes the rounds.
    fn fill(_l, key: [u32; 2], stream: u32, first: u32, to: &mut [u32]) {
        let keys = [key[0], key[1], key[0] ^ key[1] ^ PARITY];
        for (block, to) in to.chunks_mut(WIDTH).enumerate() {
            let first = first.wrapping_add((block * WIDTH) as u32);
            let mut a: [u32; WIDTH] = std::array::from_fn(|i| first.wrapping_add(i as u32).wrapping_add(keys[0]));
            let mut b = [stream.wrapping_add(keys[1]); WIDTH];
            for round in 0..20 {
                for i in 0..WIDTH {
                    a[i] = a[i].wrapping_add(b[i]);
                    b[i] = b[i].rotate_left(ROTATIONS[round % 8]) ^ a[i];
                }
                if round % 4 == 3 {
                    let injection = round / 4 + 1;
                    let (x, y) = (keys[injection % 3], keys[(injection + 1) % 3].wrapping_add(injection as u32));
                    for i in 0..WIDTH {
                        a[i] = a[i].wrapping_add(x);
                        b[i] = b[i].wrapping_add(y);
                    }
                }
            }
            to.copy_from_slice(&a[..to.len()]);
        }
    }
}

/// Element i is the first word of the block with key `seed` and counter (i, stream).
pub(crate) fn random_bits(desc: &OpDesc<'_>, stream: u32) -> Option<Kernel> {
    let n = desc.outputs[0].numel();
    Some(Kernel::new(n, move |team, operands| {
        let seed = operands.input::<u32>(0);
        let own = team.share(n, 4096);
        // SAFETY: shares of threads are disjoint.
        let to = unsafe { operands.output::<u32>(0).part(own.clone()) };
        fill([seed[0], seed[1]], stream, own.start as u32, to);
    }))
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, DType, Op, TensorType};

    use super::*;
    use crate::lanes::on_every_isa;
    use crate::launch_test::check_op;

    /// Known answers published with the Random123 library (kat_vectors, threefry2x32 of 20 rounds).
    #[test]
    fn published_vectors_come_out() {
        on_every_isa(|_| {
            let first = |key, counter: [u32; 2]| {
                let mut out = [0];
                fill(key, counter[1], counter[0], &mut out);
                out[0]
            };
            assert_eq!(first([0, 0], [0, 0]), 0x6b20_0159);
            assert_eq!(first([u32::MAX; 2], [u32::MAX; 2]), 0x1cb9_96fc);
            assert_eq!(first([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3]), 0xc492_3a9c);
        });
    }

    #[test]
    fn bits_are_those_of_the_reference() {
        let seed = TensorType::new(DType::U32, [2]);
        let op = Op::Composite(Composite::RandomBits { stream: 7, dims: vec![11, 1003] });
        check_op(&op, &[(seed, vec![12345.0, 4_000_000_000.0])], 0.0);
    }
}
