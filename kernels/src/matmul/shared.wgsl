// matmul, tiles in workgroup memory: y[b, i, j] = finish(sum over k of a[b, i, k] * b[b, j, k]), k a multiple of four.
// Bindings and parameters as in tile.wgsl.
// A workgroup holds $HELD_M rows of a and $HELD_N columns of b, $DEPTH vectors of k at a time; an invocation owns $TM rows
// by $TN4 columns of them.
// Contract: as in tile.wgsl, products are added with fma in the order of k, one accumulator per element: the same bits.
var<workgroup> a_tile: array<vec4<E>, $A_SIZE>;
var<workgroup> b_tile: array<vec4<E>, $B_SIZE>;
@compute @workgroup_size($LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let linear = linear_group(group, groups);
    let first_a = (linear % p.groups_m) * $HELD_Mu;
    let first_b = ((linear / p.groups_m) % p.groups_n) * $HELD_Nu;
    let batch = linear / p.groups_m / p.groups_n;
    if batch >= p.batch {
        return;
    }
    let row = first_a + (lane / $WXu) * $TMu;
    let column = first_b + (lane % $WXu) * $TN4u;
$SETUP
    for (var base = 0u; base < p.k / 4u; base += $DEPTHu) {
$FILL_A
$FILL_B
        workgroupBarrier();
        for (var q = 0u; q < min($DEPTHu, p.k / 4u - base); q++) {
$FETCH
$MULTIPLY
        }
        workgroupBarrier();
    }
$STORE
}
