// Q4_0, 18 bytes for 32 weights: f16 d, 16 bytes whose low nibbles are weights 0..16 and high nibbles 16..32; d (q - 8).
fn load4_$W(quad: u32) -> vec4<f32> {
    let block = (quad >> 3u) * 18u;
    let within = quad & 7u;
    let w = bytes_$W(block + 2u + (within & 3u) * 4u) >> ((within >> 2u) * 4u);
    let q = (vec4<u32>(w, w >> 8u, w >> 16u, w >> 24u)) & vec4<u32>(15u);
    return half_$W(block) * (vec4<f32>(q) - 8.0);
}
