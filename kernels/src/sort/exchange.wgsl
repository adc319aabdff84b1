// sort_exchange: one step of a bitonic merge in global memory, for distances of a chunk or more. Exact.
// Bindings: keys, indices (u32 [rows, width]). Parameters: width, size (of the sequence merged), distance, pairs.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = linear_group(group, groups) * 64u + lane;
    if pair >= p.pairs {
        return;
    }
    let a = (pair / p.distance) * p.distance * 2u + pair % p.distance;
    let b = a + p.distance;
    let at = a % p.width;
    let descends = (at & p.size) != 0u && p.size < p.width;
    let ka = keys[a];
    let kb = keys[b];
    let ia = indices[a];
    let ib = indices[b];
    let greater = ka > kb || (ka == kb && ia > ib);
    if greater != descends {
        keys[a] = kb;
        keys[b] = ka;
        indices[a] = ib;
        indices[b] = ia;
    }
}
