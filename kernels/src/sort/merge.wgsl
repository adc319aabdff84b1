// sort_merge: the steps of a bitonic merge at distances below a chunk, in workgroup memory. Exact.
// Bindings: keys, indices (u32 [rows, width]). Parameters: width, size (of the sequence merged), chunks (in all).
var<workgroup> chunk_keys: array<u32, 1024>;
var<workgroup> chunk_indices: array<u32, 1024>;

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = linear_group(group, groups);
    if chunk >= p.chunks {
        return;
    }
    let start = chunk * 1024u;
    let descends = ((start % p.width) & p.size) != 0u && p.size < p.width;
    for (var i = lane; i < 1024u; i += 128u) {
        chunk_keys[i] = keys[start + i];
        chunk_indices[i] = indices[start + i];
    }
    workgroupBarrier();
    for (var distance = 512u; distance > 0u; distance = distance >> 1u) {
        for (var pair = lane; pair < 512u; pair += 128u) {
            let a = (pair / distance) * distance * 2u + pair % distance;
            let b = a + distance;
            let ka = chunk_keys[a];
            let kb = chunk_keys[b];
            let ia = chunk_indices[a];
            let ib = chunk_indices[b];
            let greater = ka > kb || (ka == kb && ia > ib);
            if greater != descends {
                chunk_keys[a] = kb;
                chunk_keys[b] = ka;
                chunk_indices[a] = ib;
                chunk_indices[b] = ia;
            }
        }
        workgroupBarrier();
    }
    for (var i = lane; i < 1024u; i += 128u) {
        keys[start + i] = chunk_keys[i];
        indices[start + i] = chunk_indices[i];
    }
}
