// ragged_outer: y[g, r, c] = sum over the pairs (i, j) of group g of v[i, j, r] x[i, c].
// Bindings: x [m, width], v [m, choices, rows], order (as order.wgsl makes it), y [groups, rows, width].
// Parameters: width, rows, groups, choices. f32, fma in the order of the pairs.
fn value_y(i: u32) -> f32 {
    let column = i % p.width;
    let row = (i / p.width) % p.rows;
    let g = i / p.width / p.rows;
    var total = 0.0;
    for (var at = order[g]; at < order[g + 1u]; at++) {
        let pair = order[p.groups + 1u + at];
        total = fma(load_v(pair * p.rows + row), load_x((pair / p.choices) * p.width + column), total);
    }
    return total;
}
