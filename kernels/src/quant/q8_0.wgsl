// Q8_0, 34 bytes for 32 weights: f16 d, 32 signed bytes q; d q.
fn load4_$W(quad: u32) -> vec4<f32> {
    let block = (quad >> 3u) * 34u;
    let w = bytes_$W(block + 2u + (quad & 7u) * 4u);
    let q = bitcast<vec4<i32>>(vec4<u32>(w << 24u, w << 16u, w << 8u, w)) >> vec4<u32>(24u);
    return half_$W(block) * vec4<f32>(q);
}
