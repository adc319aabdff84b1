// attention backward for $OWNERS: with p = exp(score - lse), ds = p (dout v^T - delta) scale (1 - tanh^2 under a cap):
// dq = ds k, dk = ds^T q, dv = p^T dout.
// Bindings: q, k, v, the optional operands, dout, lse, delta (f32 [b, h, t]), and the gradients written (f32).
// Parameters: see attention/mod.rs. An invocation owns a few $OWNERS and passes over the others in blocks of 8, in
// order (for keys, head by head of the group). f32.
@compute @workgroup_size($LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let owner = linear_group(group, groups) * $LANESu + lane;
$SETUP
$LOOPS
$TILE
$END
}
