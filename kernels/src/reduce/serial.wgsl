// reduce of at most 32 elements: one invocation per result, in index order, in 32 bits.
// Bindings: x, y. Parameters: k (elements reduced), n (results), kept and reduced (views of x).
fn combine(a: $T, b: $T) -> $T {
    return $COMBINE;
}
fn value_y(i: u32) -> $T {
    let base = kept(i);
    var total = $T($IDENTITY);
    for (var j = 0u; j < p.k; j++) {
        total = combine(total, load_x(base + reduced(j)));
    }
    return total;
}
