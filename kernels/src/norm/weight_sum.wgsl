// norm_weight_sum: y[column] = sum of partial[block, column] over blocks, in order, f32.
// Bindings: partial, y. Parameters: blocks, width.
fn value_y(i: u32) -> f32 {
    var total = 0.0;
    for (var block = 0u; block < p.blocks; block++) {
        total += partial[block * p.width + i];
    }
    return total;
}
