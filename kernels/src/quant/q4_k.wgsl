// Q4_K, 144 bytes for 256 weights: f16 d, f16 dmin, 8 scales and 8 minima of 6 bits in 12 bytes, 128 bytes of nibbles:
// each 32 bytes hold two groups of 32, low nibbles first; d scale q - dmin minimum.
fn load4_$W(quad: u32) -> vec4<f32> {
    let block = (quad >> 6u) * 36u;
    let group = (quad >> 3u) & 7u;
    let d = unpack2x16float($W[block]);
    let shift = (group & 3u) * 8u;
    let low = $W[block + 1u] >> shift;
    let middle = $W[block + 2u] >> shift;
    let high = $W[block + 3u] >> shift;
    let scale = select((high & 15u) | ((low >> 2u) & 0x30u), low & 63u, group < 4u);
    let minimum = select(((high >> 4u) & 15u) | ((middle >> 2u) & 0x30u), middle & 63u, group < 4u);
    let w = $W[block + 4u + (group >> 1u) * 8u + (quad & 7u)] >> ((group & 1u) * 4u);
    let q = (vec4<u32>(w, w >> 8u, w >> 16u, w >> 24u)) & vec4<u32>(15u);
    return (d.x * f32(scale)) * vec4<f32>(q) - d.y * f32(minimum);
}
