// embedding of rows that do not split into vectors: y[i, :] = table[clamp(ids[i]), :].
// Bindings: table [rows, width], ids (i32), y. Parameters: rows, width.
fn value_y(i: u32) -> f32 {
    let row = u32(clamp(load_ids(i / p.width), 0, i32(p.rows) - 1));
    return load_table(row * p.width + i % p.width);
}
