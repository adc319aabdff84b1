// cumsum: y = the chunk's start plus the chunk's elements up to here, in turn, in 32 bits, rounded once.
// Bindings: x [outer, extent, inner], starts, y. Parameters: extent, inner, chunks.
fn value_y(i: u32) -> $T {
    let inner = i % p.inner;
    let at = (i / p.inner) % p.extent;
    let outer = i / p.inner / p.extent;
    let chunk = at / 64u;
    let base = outer * p.extent * p.inner + inner;
    var total = $T(0);
    for (var j = chunk * 64u; j <= at; j++) {
        total += load_x(base + j * p.inner);
    }
    return load_starts((outer * p.inner + inner) * p.chunks + chunk) + total;
}
