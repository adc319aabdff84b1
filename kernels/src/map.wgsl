
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let word = linear_group(group, groups) * 64u + lane;
    if word >= (p.n + $PER_WORD - 1u) / $PER_WORD {
        return;
    }
    write_y(word, p.n);
}
