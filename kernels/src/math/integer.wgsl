//@ div_i32
// x / 0 is x, and i32::MIN / -1 is i32::MIN.
fn div_i32(a: i32, b: i32) -> i32 {
    if b == 0 { return a; }
    if b == -1 { return bitcast<i32>(~bitcast<u32>(a) + 1u); }
    return a / b;
}
//@ div_u32
// x / 0 is x.
fn div_u32(a: u32, b: u32) -> u32 {
    return a / select(b, 1u, b == 0u);
}
//@ rem_i32
// x % 0 is 0; the sign follows the dividend.
fn rem_i32(a: i32, b: i32) -> i32 {
    if b == 0 || b == -1 { return 0; }
    return a - (a / b) * b;
}
//@ rem_u32
// x % 0 is 0.
fn rem_u32(a: u32, b: u32) -> u32 {
    return a % select(b, 1u, b == 0u);
}
//@ shl_u32
fn shl_u32(a: u32, b: u32) -> u32 {
    return select(a << (b & 31u), 0u, b > 31u);
}
//@ shr_u32
fn shr_u32(a: u32, b: u32) -> u32 {
    return select(a >> (b & 31u), 0u, b > 31u);
}
//@ shl_i32
fn shl_i32(a: i32, b: i32) -> i32 {
    return bitcast<i32>(shl_u32(bitcast<u32>(a), bitcast<u32>(b)));
}
//@ shr_i32
fn shr_i32(a: i32, b: i32) -> i32 {
    return bitcast<i32>(shr_u32(bitcast<u32>(a), bitcast<u32>(b)));
}
//@ neg_i32
fn neg_i32(a: i32) -> i32 {
    return bitcast<i32>(~bitcast<u32>(a) + 1u);
}
//@ abs_i32
fn abs_i32(a: i32) -> i32 {
    return select(a, neg_i32(a), a < 0);
}
//@ f32_to_i32
// Truncates and saturates; NaN is 0.
fn f32_to_i32(x: f32) -> i32 {
    if is_nan(x) { return 0; }
    if x >= 2147483648.0 { return 2147483647; }
    if x <= -2147483648.0 { return bitcast<i32>(0x80000000u); }
    return i32(x);
}
//@ f32_to_u32
// Truncates and saturates; NaN is 0.
fn f32_to_u32(x: f32) -> u32 {
    if is_nan(x) || x <= 0.0 { return 0u; }
    if x >= 4294967296.0 { return 4294967295u; }
    return u32(x);
}
//@ mul_high
// The upper word of a 64-bit product.
fn mul_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let cross = a1 * b0 + (low >> 16u);
    let middle = a0 * b1 + (cross & 0xffffu);
    return a1 * b1 + (cross >> 16u) + (middle >> 16u);
}
