// pool: the mean or maximum (NaN stays) of a window, in row-major order, in f32.
// Bindings: x, y. Parameters: size and count (elements of a window), corner (view of x by result), within (by window).
fn combine(a: f32, b: f32) -> f32 {
    return $COMBINE;
}
fn value_y(i: u32) -> f32 {
    let base = corner(i);
    var total = $START;
    for (var j = 0u; j < p.size; j++) {
        total = combine(total, load_x(base + within(j)));
    }
    return $FINISH;
}
