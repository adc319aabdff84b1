// cumsum_chunks: y[line, chunk] = sum of the chunk's 64 elements of x [outer, extent, inner], in turn, in 32 bits.
// Bindings: x, y. Parameters: extent, inner, chunks.
fn value_y(i: u32) -> $T {
    let line = i / p.chunks;
    let first = (i % p.chunks) * 64u;
    let base = (line / p.inner) * p.extent * p.inner + line % p.inner;
    var total = $T(0);
    for (var j = first; j < min(first + 64u, p.extent); j++) {
        total += load_x(base + j * p.inner);
    }
    return total;
}
