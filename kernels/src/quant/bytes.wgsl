// Four bytes of $W from any even byte on, little-endian.
fn bytes_$W(at: u32) -> u32 {
    let i = at >> 2u;
    if (at & 2u) == 0u {
        return $W[i];
    }
    return ($W[i] >> 16u) | ($W[i + 1u] << 16u);
}
// The f16 at an even byte.
fn half_$W(at: u32) -> f32 {
    return unpack2x16float($W[at >> 2u] >> ((at & 2u) * 8u)).x;
}
fn load_$W(i: u32) -> f32 {
    return load4_$W(i >> 2u)[i & 3u];
}
