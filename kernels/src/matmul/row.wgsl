// matmul of one row: y[b, 0, j] = finish(sum over k of a[b, 0, k] * b[b, j, k]), k a multiple of four.
// Bindings and parameters as in tile.wgsl. A workgroup of $LANES lanes owns four columns.
// Contract: lane l adds vectors l, l + $LANES, .. of k with fma, component by component, in f32; components are added
// (x + y) + (z + w), then lanes: over each subgroup and then subgroup by subgroup, or pairwise from a distance of half
// down to 1. The order depends on k alone, but is not that of tile.wgsl. y is rounded once.
var<workgroup> parts: array<vec4<f32>, $PARTS>;
fn across(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
@compute @workgroup_size($LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let linear = linear_group(group, groups);
    let column = (linear % p.groups_n) * 4u;
    let batch = linear / p.groups_n;
    if batch >= p.batch {
        return;
    }
    let row = 0u;
    let a_at = batch * p.a_batch;
    let b_at0 = batch * p.b_batch + column * p.b_row;
    let b_at1 = batch * p.b_batch + min(column + 1u, p.n - 1u) * p.b_row;
    let b_at2 = batch * p.b_batch + min(column + 2u, p.n - 1u) * p.b_row;
    let b_at3 = batch * p.b_batch + min(column + 3u, p.n - 1u) * p.b_row;
    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();
    for (var q = lane; q < p.k / 4u; q += $LANESu) {
        let a = load4_a(a_at + q);
        s0 = fma(a, load4_b(b_at0 + q), s0);
        s1 = fma(a, load4_b(b_at1 + q), s1);
        s2 = fma(a, load4_b(b_at2 + q), s2);
        s3 = fma(a, load4_b(b_at3 + q), s3);
    }
    let own = vec4<f32>(across(s0), across(s1), across(s2), across(s3));
$REDUCE
    if lane == 0u {
$STORE
    }
}
