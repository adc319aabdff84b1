// cumsum_starts: y[line, chunk] = sum of x[line, earlier chunks], in turn.
// Bindings: x, y. Parameters: chunks, lines.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = linear_group(group, groups) * 64u + lane;
    if line >= p.lines {
        return;
    }
    var total = $T(0);
    for (var chunk = 0u; chunk < p.chunks; chunk++) {
        store_y(line * p.chunks + chunk, total);
        total += load_x(line * p.chunks + chunk);
    }
}
