// kv_append: cache[slot, h, row, :] = rows[b, h, i, :] at position pos[b] + i; positions outside are dropped. A dense
// cache is one page per batch entry; in a pool, position / page picks the entry of the page table.
// Bindings: rows [b, heads, t, d], pos (i32), table (i32 [b, pages], when paged), cache [slots, heads, page, d].
// Parameters: n, d, t, heads, page, pages, slots. Moves bits only; an invocation owns a word of the cache.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (linear_group(group, groups) * 64u + lane) * $PER_WORD;
    if i >= p.n {
        return;
    }
    let c = i % p.d;
    let row = i / p.d;
    let h = (row / p.t) % p.heads;
    let b = row / p.t / p.heads;
    let position = load_pos(b) + i32(row % p.t);
    if position < 0 || u32(position) >= p.page * p.pages {
        return;
    }
    let at = u32(position);
    let slot = $SLOT;
    if slot < p.slots {
        store_cache((((slot * p.heads + h) * p.page + at % p.page) * p.d + c) / $PER_WORD, $VALUES);
    }
}
