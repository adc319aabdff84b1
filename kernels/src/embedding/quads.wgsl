// embedding, four features per invocation: y[i, :] = table[clamp(ids[i]), :], dequantized exactly, rounded once.
// Bindings: table (rows first .. first + held of it, by 4 quads), ids (i32), y. Parameters: rows, quads, count (vectors
// of y), first, held. A launch writes the results whose rows it sees.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 64u + lane;
    if i < p.count {
        let row = u32(clamp(load_ids(i / p.quads), 0, i32(p.rows) - 1));
        // Rows before the first wrap around and are as far away as can be.
        if row - p.first < p.held {
            store4_y(i, load4_table((row - p.first) * p.quads + i % p.quads));
        }
    }
}
