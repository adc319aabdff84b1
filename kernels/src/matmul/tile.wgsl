// matmul, register tiles: y[b, i, j] = finish(sum over k of a[b, i, k] * b[b, j, k]) with any strides.
// Bindings: a, b, bias (when there is one), y [batch, m, n]. Parameters: m, n, k, batch, first and
// pitch (the column of y that is the first, and columns of y), groups_m, groups_n, and per operand the strides of batch, row and k in the loader's unit (elements, or vectors of four).
// An invocation owns $TM rows by $TN vectors of four columns; a workgroup is $WX tiles across and $WY down.
// Contract: products are added with fma in the order of k, one accumulator per element, in f32 (i32 wraps); so every
// tile shape and loader gives the same bits. y is rounded once.
@compute @workgroup_size($LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Neighbouring groups share columns of b, which stay in cache.
    let linear = linear_group(group, groups);
    let group_m = linear % p.groups_m;
    let group_n = (linear / p.groups_m) % p.groups_n;
    let batch = linear / p.groups_m / p.groups_n;
    let row = (group_m * $WYu + lane / $WXu) * $TMu;
    let column = (group_n * $WXu + lane % $WXu) * $TN4u;
    if batch >= p.batch || $OUTSIDE {
        return;
    }
$SETUP
    for (var k = 0u; k < p.k / $STEPu; k++) {
$LOAD
$MULTIPLY
    }
$STORE
}
