// dynamic_update_slice for 32-bit storage: y[c + start] = update[c]; the rest of y keeps x, which is the same memory.
// Bindings: update, start0 .. startk (one i32 each), y. Parameters: most and stride per dimension, y_index, n.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 64u + lane;
    if i >= p.n {
        return;
    }
    var at = y_index(i);
$START
    store_y(at, load_update(i));
}
