// scatter_set: y[o, r, c] = updates[o, winners[r] - 1, c] where row r has a winner; y [outer, extent, inner] holds x.
// Bindings: updates, winners (u32), y. Parameters: extent, inner, count (of updates). Moves bits only.
fn value_y(i: u32) -> $T {
    let c = i % p.inner;
    let slice = i / p.inner;
    let winner = winners[slice % p.extent];
    if winner == 0u {
        return load_y(i);
    }
    return load_updates(((slice / p.extent) * p.count + winner - 1u) * p.inner + c);
}
