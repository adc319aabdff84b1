// pad: y[c] = x[(c - low) / step] where every (c - low) is a multiple of step inside x, else fill[0].
// Bindings: x, fill (one element), y. Parameters per dimension: out, in, low, step, stride of x. Moves bits only.
fn value_y(i: u32) -> $T {
    var rest = i;
    var at = 0u;
    var inside = true;
$FIND
    if inside {
        return load_x(at);
    }
    return load_fill(0u);
}
