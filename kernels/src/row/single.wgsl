const LANES: u32 = 1u;
fn row_sum(v: vec4<f32>, lane: u32) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
fn row_max(v: vec4<f32>, lane: u32) -> f32 {
    return max_nan(max_nan(v.x, v.y), max_nan(v.z, v.w));
}
