// Q4_1, 20 bytes for 32 weights: f16 d, f16 m, nibbles as in Q4_0; d q + m.
fn load4_$W(quad: u32) -> vec4<f32> {
    let block = (quad >> 3u) * 5u;
    let within = quad & 7u;
    let scales = unpack2x16float($W[block]);
    let w = $W[block + 1u + (within & 3u)] >> ((within >> 2u) * 4u);
    let q = (vec4<u32>(w, w >> 8u, w >> 16u, w >> 24u)) & vec4<u32>(15u);
    return scales.x * vec4<f32>(q) + scales.y;
}
