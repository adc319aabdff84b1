//@ linear_group
// The linear id of a workgroup folded over three dimensions.
fn linear_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + groups.x * (group.y + groups.y * group.z);
}
//@ is_nan
// On the bits, because compilers may assume that no operand is NaN.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}
//@ is_finite
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
//@ infinity
// WGSL has no literal for infinity and rejects constant expressions that give one.
fn infinity() -> f32 {
    var bits = 0x7f800000u;
    return bitcast<f32>(bits);
}
//@ not_a_number
fn not_a_number() -> f32 {
    var bits = 0x7fc00000u;
    return bitcast<f32>(bits);
}
//@ bf16_bits
// Round to nearest even; NaN keeps its sign and stays quiet.
fn bf16_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
    return select(rounded, (bits >> 16u) | 0x40u, is_nan(x));
}
//@ f16_bits
// Round to nearest even, written out because drivers may truncate in pack2x16float.
fn f16_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude >= 0x47800000u {
        return sign | select(0x7c00u, 0x7e00u, magnitude > 0x7f800000u);
    }
    if magnitude < 0x38800000u {
        // Below 2^-14 the result is an integer multiple of 2^-24.
        let scaled = bitcast<f32>(magnitude) * 16777216.0;
        return sign | u32(round(scaled));
    }
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
}
//@ max_nan
// Maximum that keeps NaN.
fn max_nan(a: f32, b: f32) -> f32 {
    return select(select(b, a, a > b), a + b, is_nan(a) || is_nan(b));
}
//@ min_nan
// Minimum that keeps NaN.
fn min_nan(a: f32, b: f32) -> f32 {
    return select(select(b, a, a < b), a + b, is_nan(a) || is_nan(b));
}
//@ equal_f32
fn equal_f32(a: f32, b: f32) -> bool {
    return a == b && !is_nan(a) && !is_nan(b);
}
//@ less_f32
fn less_f32(a: f32, b: f32) -> bool {
    return a < b && !is_nan(a) && !is_nan(b);
}
//@ less_equal_f32
fn less_equal_f32(a: f32, b: f32) -> bool {
    return a <= b && !is_nan(a) && !is_nan(b);
}
//@ sign_f32
// -1, 0 (of the operand's sign) or 1; NaN stays NaN.
fn sign_f32(x: f32) -> f32 {
    let one = bitcast<f32>((bitcast<u32>(x) & 0x80000000u) | 0x3f800000u);
    return select(one, x, is_nan(x) || x == 0.0);
}
//@ rem_f32
// The sign follows the dividend. Exact: the quotient's bits are taken off one exponent at a time, as in long division.
fn rem_f32(a: f32, b: f32) -> f32 {
    let divisor = bitcast<u32>(b) & 0x7fffffffu;
    let dividend = bitcast<u32>(a) & 0x7fffffffu;
    if is_nan(a) || is_nan(b) || !is_finite(a) || divisor == 0u {
        return not_a_number();
    }
    if dividend < divisor {
        return a;
    }
    var exponent_a = i32(dividend >> 23u);
    var exponent_b = i32(divisor >> 23u);
    var m = dividend & 0x7fffffu;
    var d = divisor & 0x7fffffu;
    if exponent_a == 0 { exponent_a = 1; } else { m |= 0x800000u; }
    if exponent_b == 0 { exponent_b = 1; } else { d |= 0x800000u; }
    for (var e = exponent_a; e > exponent_b; e--) {
        if m >= d { m -= d; }
        m = m << 1u;
    }
    if m >= d { m -= d; }
    if m == 0u {
        return bitcast<f32>(bitcast<u32>(a) & 0x80000000u);
    }
    let shift = min(countLeadingZeros(m) - 8u, u32(exponent_b - 1));
    m = m << shift;
    let exponent = u32(exponent_b) - shift;
    let bits = select(m, (m & 0x7fffffu) | (exponent << 23u), m >= 0x800000u);
    return bitcast<f32>(bits | (bitcast<u32>(a) & 0x80000000u));
}
//@ float_key
// Unsigned order of keys is the order of floats; NaN is greatest and the zeros are equal.
fn float_key(x: f32) -> u32 {
    let bits = select(bitcast<u32>(x), 0u, x == 0.0 && !is_nan(x));
    let key = select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
    return select(key, 0xffffffffu, is_nan(x));
}
//@ max4_nan
fn max4_nan(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(max_nan(a.x, b.x), max_nan(a.y, b.y), max_nan(a.z, b.z), max_nan(a.w, b.w));
}
