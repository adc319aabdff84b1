// short_conv's state: the slot dst[b] of the pool gets the last taps - 1 of the rows that count, behind those of src[b].
// Bindings: x [b, t, c], src, dst, count (i32 [b]), pool [slots, taps - 1, c]. Parameters: n (b c), t, c, taps, slots.
// Moves bits only. An invocation owns a channel of one element of the batch, and reads a row before it writes it.
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
    let c = i % p.c;
    let b = i / p.c;
    let target_slot = load_dst(b);
    if target_slot < 0 || u32(target_slot) >= p.slots {
        return;
    }
    let counted = min(u32(max(load_count(b), 0)), p.t);
    let source = load_src(b);
    let before = p.taps - 1u;
    for (var row = 0u; row < before; row++) {
        let at = row + counted;
        var value = 0.0;
        if at >= before {
            value = load_x((b * p.t + at - before) * p.c + c);
        } else if source >= 0 {
            value = load_pool((min(u32(source), p.slots - 1u) * before + at) * p.c + c);
        }
        store_pool((u32(target_slot) * before + row) * p.c + c, value);
    }
}
