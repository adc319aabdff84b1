// Q8_X, 48 bytes for 32 weights: two f32 d, two f32 m, signed bytes; group g of sixteen is d[g] q + m[g].
fn load4_$W(quad: u32) -> vec4<f32> {
    let block = (quad >> 3u) * 12u;
    let group = (quad >> 2u) & 1u;
    let d = bitcast<f32>($W[block + group]);
    let m = bitcast<f32>($W[block + 2u + group]);
    let w = bitcast<i32>($W[block + 4u + (quad & 7u)]);
    let q = vec4<i32>(w << 24u, w << 16u, w << 8u, w) >> vec4<u32>(24u);
    return d * vec4<f32>(q) + m;
}
