// ragged_dot, transposed: y[i, j, c] = sum over r of x[i, r] w[numbers[i, j], r, c], and 0 for a group that there is none of.
// Bindings: x [m, terms], w [groups, terms, width], numbers (i32 [m, choices]), y [m, choices, width].
// Parameters: terms, width, groups, choices. f32, fma in the order of r.
fn value_y(i: u32) -> f32 {
    let column = i % p.width;
    let pair = i / p.width;
    let number = load_numbers(pair);
    if number < 0 || u32(number) >= p.groups {
        return 0.0;
    }
    let row = (pair / p.choices) * p.terms;
    let matrix = u32(number) * p.terms * p.width + column;
    var total = 0.0;
    for (var r = 0u; r < p.terms; r++) {
        total = fma(load_x(row + r), load_w(matrix + r * p.width), total);
    }
    return total;
}
