//@ exp_f32
// exp in about 1 ULP: x = n ln 2 + r with ln 2 in two parts, a polynomial in r (fitted on |r| <= ln(2)/2), and 2^n in
// two factors so that neither overflows.
fn exp_f32(x: f32) -> f32 {
    let n = round(clamp(x, -105.0, 90.0) * 1.44269504);
    // The minimum changes nothing; it keeps compilers from joining the two parts of ln 2 again.
    var r = min(fma(n, -0.693115234375, clamp(x, -105.0, 90.0)), 1.0);
    r = fma(n, -3.194618329871446e-05, r);
    var q = fma(0.0001989103065, r, 0.001393368586);
    q = fma(q, r, 0.00833331089);
    q = fma(q, r, 0.0416664646);
    q = fma(q, r, 0.1666666668);
    q = fma(q, r, 0.5);
    let y = fma(q * r, r, r) + 1.0;
    let half_n = i32(n) >> 1u;
    let a = bitcast<f32>(u32(half_n + 127) << 23u);
    let b = bitcast<f32>(u32(i32(n) - half_n + 127) << 23u);
    return select(y * a * b, x, is_nan(x));
}
//@ exp_fast
// exp for x <= 0, no NaN: softmax and attention subtract the maximum first. exp(-inf) is 0.
fn exp_fast(x: f32) -> f32 {
    let t = max(x, -87.0);
    let n = round(t * 1.44269504);
    var r = min(fma(n, -0.693115234375, t), 1.0);
    r = fma(n, -3.194618329871446e-05, r);
    var q = fma(0.001392621347, r, 0.008363202972);
    q = fma(q, r, 0.04166655444);
    q = fma(q, r, 0.1666657685);
    q = fma(q, r, 0.5);
    let y = fma(q * r, r, r) + 1.0;
    return select(0.0, y * bitcast<f32>(u32(i32(n) + 127) << 23u), x > -87.0);
}
//@ expm1_f32
fn expm1_f32(x: f32) -> f32 {
    if abs(x) < 0.5 {
        var q = fma(0.0001994487444, x, 0.001398218605);
        q = fma(q, x, 0.008333236134);
        q = fma(q, x, 0.04166579123);
        q = fma(q, x, 0.166666668);
        q = fma(q, x, 0.5);
        return fma(q * x, x, x);
    }
    return exp_f32(x) - 1.0;
}
//@ log_f32
// log(m 2^e) = e ln 2 + 2 atanh(s), s = (m - 1) / (m + 1), with m in [sqrt(1/2), sqrt(2)).
fn log_f32(x: f32) -> f32 {
    var bits = bitcast<u32>(x);
    if is_nan(x) || (bits >> 31u) == 1u && (bits & 0x7fffffffu) != 0u {
        return not_a_number();
    }
    if (bits & 0x7fffffffu) == 0u {
        return -infinity();
    }
    if bits == 0x7f800000u {
        return x;
    }
    var exponent = 0;
    if bits < 0x00800000u {
        // A denormal, normalized in integers because drivers may flush it.
        let shift = countLeadingZeros(bits) - 8u;
        bits = bits << shift;
        exponent = 1 - i32(shift);
        bits = (bits & 0x7fffffu) | 0x00800000u;
        exponent -= 1;
    }
    let offset = bits - 0x3f3504f3u;
    exponent += bitcast<i32>(offset) >> 23u;
    let m = bitcast<f32>((offset & 0x7fffffu) + 0x3f3504f3u);
    let f = m - 1.0;
    let s = f / (m + 1.0);
    let z = s * s;
    var g = fma(0.2333681101, z, 0.2855058704);
    g = fma(g, z, 0.4000012391);
    g = fma(g, z, 0.6666666655);
    // 2s = f - s f, which keeps f's exactness.
    let tail = s * (f - g * z);
    let e = f32(exponent);
    return fma(e, 0.693115234375, f - (tail - e * 3.194618329871446e-05));
}
//@ log1p_f32
fn log1p_f32(x: f32) -> f32 {
    if abs(x) < 0.4 {
        let s = x / (2.0 + x);
        let z = s * s;
        var g = fma(0.210695065, z, 0.2204503717);
        g = fma(g, z, 0.2857579127);
        g = fma(g, z, 0.3999996269);
        g = fma(g, z, 0.6666666672);
        return x - s * (x - g * z);
    }
    return log_f32(1.0 + x);
}
//@ tanh_f32
fn tanh_f32(x: f32) -> f32 {
    let a = abs(x);
    if a < 0.625 {
        let z = x * x;
        var h = fma(0.002269501684, z, -0.008323187058);
        h = fma(h, z, 0.02176250291);
        h = fma(h, z, -0.05395846163);
        h = fma(h, z, 0.1333330015);
        h = fma(h, z, -0.3333333315);
        return fma(h * z, x, x);
    }
    let t = 1.0 - 2.0 / (exp_f32(2.0 * min(a, 10.0)) + 1.0);
    return select(select(t, -t, x < 0.0), x, is_nan(x));
}
//@ logistic_f32
// Relative accuracy on both sides: exp of a negative number only.
fn logistic_f32(x: f32) -> f32 {
    let t = exp_f32(-abs(x));
    return select(select(1.0, t, x < 0.0) / (1.0 + t), x, is_nan(x));
}
//@ erf_f32
// x times a polynomial in x^2 below 1, above it 1 - exp(log erfc) with log erfc fitted on [0.9, 4].
fn erf_f32(x: f32) -> f32 {
    let a = abs(x);
    if a < 1.0 {
        let z = x * x;
        var e = fma(7.875875063e-5, z, -0.0008016864287);
        e = fma(e, z, 0.005189087423);
        e = fma(e, z, -0.02685421201);
        e = fma(e, z, 0.1128359472);
        e = fma(e, z, -0.3761262667);
        e = fma(e, z, 0.1283791658);
        return fma(e, x, x);
    }
    let t = min(a, 4.0);
    var l = fma(1.643063656e-6, t, -4.616385863e-5);
    l = fma(l, t, 0.0005975857702);
    l = fma(l, t, -0.004762625833);
    l = fma(l, t, 0.02642763715);
    l = fma(l, t, -0.1100871665);
    l = fma(l, t, -0.6318239181);
    l = fma(l, t, -1.130231055);
    l = fma(l, t, 0.0003185396624);
    let y = 1.0 - exp_f32(l);
    return select(select(y, -y, x < 0.0), x, is_nan(x));
}
//@ pow_f32
// exp(y log x) with log2 x in two parts: the exponent's share is added without rounding.
fn pow_f32(x: f32, y: f32) -> f32 {
    let bits = bitcast<u32>(x) & 0x7fffffffu;
    if y == 0.0 || (x == 1.0 && !is_nan(x)) {
        return 1.0;
    }
    if is_nan(x) || is_nan(y) {
        return not_a_number();
    }
    let magnitude_y = abs(y);
    let whole = magnitude_y >= 8388608.0 || floor(magnitude_y) == magnitude_y;
    let odd = whole && magnitude_y < 16777216.0 && (u32(min(magnitude_y, 16777215.0)) & 1u) == 1u;
    let negative = (bitcast<u32>(x) >> 31u) == 1u;
    let flips = negative && odd;
    if !is_finite(y) {
        if bits == 0x3f800000u { return 1.0; }
        return select(0.0, infinity(), (bits > 0x3f800000u) == (y > 0.0));
    }
    if bits == 0u || bits == 0x7f800000u {
        let grows = (bits != 0u) == (y > 0.0);
        let limit = select(0.0, infinity(), grows);
        return select(limit, -limit, flips);
    }
    if negative && !whole {
        return not_a_number();
    }
    var normal = bits;
    var exponent = 0;
    if normal < 0x00800000u {
        let shift = countLeadingZeros(normal) - 8u;
        normal = ((normal << shift) & 0x7fffffu) | 0x00800000u;
        exponent = -i32(shift);
    }
    let offset = normal - 0x3f3504f3u;
    exponent += bitcast<i32>(offset) >> 23u;
    let m = bitcast<f32>((offset & 0x7fffffu) + 0x3f3504f3u);
    // log2 m = 2 log2(e) atanh(s): s is split where its upper half has 12 bits, so that products with it are exact.
    let f = m - 1.0;
    let d = m + 1.0;
    let s = f / d;
    let s_high = bitcast<f32>(bitcast<u32>(s) & 0xfffff000u);
    let d_high = bitcast<f32>(bitcast<u32>(d) & 0xfffff000u);
    let d_low = f - d_high + 2.0;
    let s_low = (f - s_high * d_high - s_high * d_low) / d;
    let z = s * s;
    var g = fma(0.2333681101, z, 0.2855058704);
    g = fma(g, z, 0.4000012391);
    g = fma(g, z, 0.6666666655);
    // 2 log2(e) = 2.88525390625 + 0.00013617551
    let tail = fma(s_low, 2.885390082, s_high * 0.000136175489) + g * z * s * 1.442695041;
    let lead = s_high * 2.88525390625;
    let lead_high = bitcast<f32>(bitcast<u32>(lead) & 0xfffff000u);
    let lead_low = (lead - lead_high) + tail;
    let y_high = bitcast<f32>(bitcast<u32>(y) & 0xfffff000u);
    let y_low = y - y_high;
    let e = f32(exponent);
    let whole_part = y_high * e;
    let product = y_high * lead_high;
    let rest = y * lead_low + y_low * (e + lead_high);
    let n = round(clamp(whole_part + product + rest, -300.0, 300.0));
    let r = clamp((whole_part - n) + product + rest, -100.0, 100.0);
    let half_n = i32(n) >> 1u;
    let a = bitcast<f32>(u32(clamp(half_n + 127, 0, 255)) << 23u);
    let b = bitcast<f32>(u32(clamp(i32(n) - half_n + 127, 0, 255)) << 23u);
    let value = exp_f32(r * 0.693147181) * a * b;
    return select(value, -value, flips);
}
//@ reduce_angle
// x = (n + f) pi / 2 with |f| <= 1/2: returns f pi / 2 and n mod 4. Up to 6000 by subtraction with pi / 2 in four
// parts; above by x times the bits of 2 / pi that matter, in integers.
struct Angle { r: f32, quadrant: u32 }
fn reduce_angle(x: f32) -> Angle {
    if abs(x) < 6000.0 {
        let n = round(x * 0.636619772);
        // The minima change nothing; they keep compilers from joining the parts again.
        var r = min(fma(n, -1.5703125, x), 3.0);
        r = min(fma(n, -0.0004837512969970703, r), 2.0);
        r = min(fma(n, -7.549533620476723e-08, r), 1.0);
        r = fma(n, -2.5633440682570896e-12, r);
        return Angle(r, bitcast<u32>(i32(n)) & 3u);
    }
    var digits = array<u32, 8>(
        0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu
    );
    let bits = bitcast<u32>(x);
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    let at = ((bits >> 23u) & 0xffu) - 120u;
    let i = at >> 5u;
    let shift = at & 31u;
    var w0 = digits[i];
    var w1 = digits[i + 1u];
    var w2 = digits[i + 2u];
    if shift > 0u {
        w0 = (w0 << shift) | (w1 >> (32u - shift));
        w1 = (w1 << shift) | (w2 >> (32u - shift));
        w2 = (w2 << shift) | (digits[i + 3u] >> (32u - shift));
    }
    let carry = mul_high(w2, mantissa);
    let r1 = w1 * mantissa + carry;
    let r0 = w0 * mantissa + mul_high(w1, mantissa) + select(0u, 1u, r1 < carry);
    let fraction = (r0 << 2u) | (r1 >> 30u);
    let below = r1 << 2u;
    let quadrant = (r0 >> 30u) + (fraction >> 31u);
    let f = f32(bitcast<i32>(fraction)) * 2.3283064365386963e-10 + f32(below) * 5.421010862427522e-20;
    let r = f * 1.57079633;
    if (bits >> 31u) == 1u {
        return Angle(-r, (4u - (quadrant & 3u)) & 3u);
    }
    return Angle(r, quadrant & 3u);
}
//@ sine_of
// sin(quadrant pi / 2 + r).
fn sine_of(r: f32, quadrant: u32) -> f32 {
    let z = r * r;
    var s = fma(-0.0001958738707, z, 0.008332745936);
    s = fma(s, z, -0.1666666465);
    let sine = fma(s * z, r, r);
    var c = fma(2.454743721e-5, z, -0.00138883007);
    c = fma(c, z, 0.04166666465);
    let cosine = fma(c * z, z, fma(z, -0.5, 1.0));
    let value = select(sine, cosine, (quadrant & 1u) == 1u);
    return select(value, -value, (quadrant & 2u) == 2u);
}
//@ sin_f32
fn sin_f32(x: f32) -> f32 {
    if !is_finite(x) {
        return not_a_number();
    }
    let angle = reduce_angle(x);
    return sine_of(angle.r, angle.quadrant);
}
//@ cos_f32
fn cos_f32(x: f32) -> f32 {
    if !is_finite(x) {
        return not_a_number();
    }
    let angle = reduce_angle(x);
    return sine_of(angle.r, angle.quadrant + 1u);
}
//@ gelu_erf
fn gelu_erf(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf_f32(x * 0.707106781));
}
//@ gelu_tanh
fn gelu_tanh(x: f32) -> f32 {
    return 0.5 * x * (1.0 + tanh_f32(0.797884561 * (x + 0.044715 * x * x * x)));
}
//@ exp4_fast
fn exp4_fast(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(exp_fast(x.x), exp_fast(x.y), exp_fast(x.z), exp_fast(x.w));
}
