// matmul by cooperative matrices: y[b, i, j] = sum over k of a[b, i, k] * b[b, j, k]; m and n are multiples of $OWN, k of
// $SIZE.
// Bindings: a, b, y (f32 [batch, m, n]). Parameters as in tile.wgsl, strides in elements.
// A subgroup, which is a workgroup, owns $OWN rows by $OWN columns in matrices of $SIZE by $SIZE.
// Contract: f32 sums in an order that is the adapter's own.
@compute @workgroup_size($LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    // Written out, because validation does not see through calls that control flow is uniform.
    let linear = (group.z * groups.y + group.y) * groups.x + group.x;
    let row = (linear % p.groups_m) * $OWNu;
    let column = ((linear / p.groups_m) % p.groups_n) * $OWNu;
    let batch = linear / p.groups_m / p.groups_n;
    if batch >= p.batch {
        return;
    }
$DECLARE
    for (var k = 0u; k < p.k; k += $SIZEu) {
$LOAD
$MULTIPLY
    }
$STORE
}
