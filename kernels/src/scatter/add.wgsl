// scatter_add: y[o, r, c] += updates[o, j, c] for the row's updates j in index order, in 32 bits, rounded once.
// Bindings: updates, order (u32, updates sorted by row), starts (u32 [extent + 1]), y [outer, extent, inner], which
// holds x. Parameters: extent, inner, count (of updates).
fn value_y(i: u32) -> $T {
    let c = i % p.inner;
    let slice = i / p.inner;
    let r = slice % p.extent;
    let base = (slice / p.extent) * p.count;
    var total = load_y(i);
    for (var s = starts[r]; s < starts[r + 1u]; s++) {
        total += load_updates((base + order[s]) * p.inner + c);
    }
    return total;
}
