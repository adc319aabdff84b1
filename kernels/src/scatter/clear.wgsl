// scatter_clear: y[i] = 0.
// Bindings: y (u32).
fn value_y(i: u32) -> u32 {
    return 0u;
}
