// gather: y[o, j, c] = x[o, clamp(indices[j]), c] with x [outer, extent, inner]. Moves bits only.
// Bindings: x, indices (i32), y. Parameters: extent, inner, count (of indices).
fn value_y(i: u32) -> $T {
    let c = i % p.inner;
    let slice = i / p.inner;
    let j = slice % p.count;
    let o = slice / p.count;
    let at = u32(clamp(load_indices(j), 0, i32(p.extent) - 1));
    return load_x((o * p.extent + at) * p.inner + c);
}
