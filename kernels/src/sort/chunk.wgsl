// sort_chunk: read rows of values, pad them to `width` with the greatest key, and sort every chunk of 1024 pairs;
// odd chunks descend, so that neighbours form bitonic sequences. Exact.
// Bindings: x, keys, indices (u32 [rows, width]). Parameters: length, width, step, chunks (in all), row (view of x).
var<workgroup> chunk_keys: array<u32, 1024>;
var<workgroup> chunk_indices: array<u32, 1024>;

fn key_of(x: $T) -> u32 {
    return $KEY;
}

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
    let base = row(start / p.width);
    let offset = start % p.width;
    for (var i = lane; i < 1024u; i += 128u) {
        let at = offset + i;
        chunk_keys[i] = 0xffffffffu;
        if at < p.length {
            chunk_keys[i] = key_of(load_x(base + at * p.step));
        }
        chunk_indices[i] = at;
    }
    workgroupBarrier();
    for (var size = 2u; size <= 1024u; size = size << 1u) {
        for (var distance = size >> 1u; distance > 0u; distance = distance >> 1u) {
            for (var pair = lane; pair < 512u; pair += 128u) {
                let a = (pair / distance) * distance * 2u + pair % distance;
                let b = a + distance;
                let descends = ((offset + a) & size) != 0u;
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
    }
    for (var i = lane; i < 1024u; i += 128u) {
        keys[start + i] = chunk_keys[i];
        indices[start + i] = chunk_indices[i];
    }
}
