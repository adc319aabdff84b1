const LANES: u32 = 64u;
var<workgroup> row_lanes: array<f32, 64>;
fn row_sum(v: vec4<f32>, lane: u32) -> f32 {
    workgroupBarrier();
    row_lanes[lane] = (v.x + v.y) + (v.z + v.w);
    workgroupBarrier();
    for (var distance = 32u; distance > 0u; distance = distance >> 1u) {
        if lane < distance {
            row_lanes[lane] += row_lanes[lane + distance];
        }
        workgroupBarrier();
    }
    return row_lanes[0];
}
fn row_max(v: vec4<f32>, lane: u32) -> f32 {
    workgroupBarrier();
    row_lanes[lane] = max_nan(max_nan(v.x, v.y), max_nan(v.z, v.w));
    workgroupBarrier();
    for (var distance = 32u; distance > 0u; distance = distance >> 1u) {
        if lane < distance {
            row_lanes[lane] = max_nan(row_lanes[lane], row_lanes[lane + distance]);
        }
        workgroupBarrier();
    }
    return row_lanes[0];
}
