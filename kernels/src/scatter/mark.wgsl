// scatter_mark: winners[indices[j]] = max(j + 1); indices out of range are dropped. Exact, in any order.
// Bindings: indices (i32), winners (u32 [extent]). Parameters: extent, count.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let j = linear_group(group, groups) * 64u + lane;
    if j >= p.count {
        return;
    }
    let at = load_indices(j);
    if at >= 0 && u32(at) < p.extent {
        atomicMax(&winners[at], j + 1u);
    }
}
