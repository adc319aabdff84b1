// random_bits: y[i] = first word of Threefry-2x32-20 with key (seed[0], seed[1]) and counter (i, stream). Exact.
// Bindings: seed (u32 [2]), y (u32). Parameters: stream.
fn rotate(x: u32, by: u32) -> u32 {
    return (x << by) | (x >> (32u - by));
}
// Four rounds.
fn mix(x: vec2<u32>, r: vec4<u32>) -> vec2<u32> {
    var a = x.x + x.y;
    var b = rotate(x.y, r.x) ^ a;
    a += b;
    b = rotate(b, r.y) ^ a;
    a += b;
    b = rotate(b, r.z) ^ a;
    a += b;
    b = rotate(b, r.w) ^ a;
    return vec2<u32>(a, b);
}
fn value_y(i: u32) -> u32 {
    let k0 = load_seed(0u);
    let k1 = load_seed(1u);
    let k2 = k0 ^ k1 ^ 0x1bd11bdau;
    let even = vec4<u32>(13u, 15u, 26u, 6u);
    let odd = vec4<u32>(17u, 29u, 16u, 24u);
    var x = vec2<u32>(i + k0, p.stream + k1);
    x = mix(x, even) + vec2<u32>(k1, k2 + 1u);
    x = mix(x, odd) + vec2<u32>(k2, k0 + 2u);
    x = mix(x, even) + vec2<u32>(k0, k1 + 3u);
    x = mix(x, odd) + vec2<u32>(k1, k2 + 4u);
    x = mix(x, even) + vec2<u32>(k2, k0 + 5u);
    return x.x;
}
