// upsample: an image in another size, rows blended first, then columns, in f32.
// Bindings: x [planes, rows, columns], y [planes, rows_to, columns_to]. Parameters, per axis: extents, and scale, shift
// and parts, by which pixel i of the result lies at (scale i + shift) / parts of the source, clamped to it. Positions
// are exact: whole numbers and a remainder.
fn blend(low: f32, high: f32, share: f32) -> f32 {
    return $BLEND;
}
fn value_y(i: u32) -> f32 {
    let row = i32(i / p.columns_to % p.rows_to);
    let column = i32(i % p.columns_to);
    let plane = i / p.columns_to / p.rows_to * p.rows * p.columns;
    let down = clamp(p.rows_scale * row + p.rows_shift, 0, (i32(p.rows) - 1) * p.rows_parts);
    let right = clamp(p.columns_scale * column + p.columns_shift, 0, (i32(p.columns) - 1) * p.columns_parts);
    let top = u32(down / p.rows_parts);
    let left = u32(right / p.columns_parts);
    let share_down = f32(down % p.rows_parts) / f32(p.rows_parts);
    let share_right = f32(right % p.columns_parts) / f32(p.columns_parts);
    let upper = plane + top * p.columns;
    let lower = plane + min(top + 1u, p.rows - 1u) * p.columns;
    let next = min(left + 1u, p.columns - 1u);
    let first = blend(load_x(upper + left), load_x(lower + left), share_down);
    let second = blend(load_x(upper + next), load_x(lower + next), share_down);
    return blend(first, second, share_right);
}
