// dynamic_slice: y[c] = x[c + start], starts clamped so that the block fits.
// Bindings: x, start0 .. startk (one i32 each), y. Parameters: most and stride per dimension, x_index. Moves bits only.
fn value_y(i: u32) -> $T {
    var at = x_index(i);
$START
    return load_x(at);
}
