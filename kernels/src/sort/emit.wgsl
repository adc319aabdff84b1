// sort_emit: the first `limit` of each sorted row, in the result's layout [outer, limit, inner]. Moves bits only.
// Bindings: x when values are emitted, indices (u32 [rows, width]), y. Parameters: width, inner, limit, step of x.
fn value_y(i: u32) -> $T {
    let inner = i % p.inner;
    let place = (i / p.inner) % p.limit;
    let r = (i / p.inner / p.limit) * p.inner + inner;
    let at = indices[r * p.width + place];
    return $VALUE;
}
