// ragged_outer, the pairs in the order of their groups: words 0 .. groups say where each group's pairs begin and the last
// one's end, the pairs' numbers follow; those of a group keep their order, those of none are left out.
// Bindings: numbers (i32 [pairs]), order (u32 [groups + 1 + pairs]). Parameters: pairs, groups. One workgroup.
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var g = lane; g < p.groups; g += 64u) {
        var count = 0u;
        for (var i = 0u; i < p.pairs; i++) {
            count += select(0u, 1u, load_numbers(i) == i32(g));
        }
        order[g + 1u] = count;
    }
    storageBarrier();
    if lane == 0u {
        var total = 0u;
        order[0] = 0u;
        for (var g = 1u; g <= p.groups; g++) {
            total += order[g];
            order[g] = total;
        }
    }
    storageBarrier();
    for (var g = lane; g < p.groups; g += 64u) {
        var at = p.groups + 1u + order[g];
        for (var i = 0u; i < p.pairs; i++) {
            if load_numbers(i) == i32(g) {
                order[at] = i;
                at++;
            }
        }
    }
}
