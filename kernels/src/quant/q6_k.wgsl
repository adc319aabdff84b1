// Q6_K, 210 bytes for 256 weights: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales, f16 d.
// In each half of 128, quarter r takes the nibbles of bytes 32 (r & 1) .. (low for r < 2, else high) and bit pair r;
// d scale (q - 32).
fn load4_$W(quad: u32) -> vec4<f32> {
    let block = (quad >> 6u) * 210u;
    let half = (quad >> 5u) & 1u;
    let quarter = (quad >> 3u) & 3u;
    let within = (quad & 7u) * 4u;
    let nibbles = bytes_$W(block + half * 64u + (quarter & 1u) * 32u + within) >> ((quarter >> 1u) * 4u);
    let pairs = bytes_$W(block + 128u + half * 32u + within) >> (quarter * 2u);
    let lanes = vec4<u32>(0u, 8u, 16u, 24u);
    let q = ((vec4<u32>(nibbles) >> lanes) & vec4<u32>(15u)) | (((vec4<u32>(pairs) >> lanes) & vec4<u32>(3u)) << vec4<u32>(4u));
    let at = 192u + half * 8u + quarter * 2u + (within >> 4u);
    let word = bytes_$W(block + (at & ~1u)) >> ((at & 1u) * 8u);
    let scale = bitcast<i32>(word << 24u) >> 24u;
    return (half_$W(block + 208u) * f32(scale)) * (vec4<f32>(q) - 32.0);
}
