// norm_weight_grad: y[block, column] = sum of dy h (or of dy, for the bias) over the block's 64 rows, in order, f32.
// Bindings: x and stats [rows, 2] (mean, scale) for the weight, dy [rows, width], y. Parameters: rows, width.
fn value_y(i: u32) -> f32 {
    let column = i % p.width;
    let first = (i / p.width) * 64u;
    var total = 0.0;
    for (var row = first; row < min(first + 64u, p.rows); row++) {
        let at = row * p.width + column;
        total += $VALUE;
    }
    return total;
}
