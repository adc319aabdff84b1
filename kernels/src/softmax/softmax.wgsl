// softmax: y = exp(x - max x) / sum exp(x - max x) over rows.
// Bindings: x [rows, width], y likewise. Parameters: rows, width, quads.
// Contract: f32 throughout, sums in the order of row/mod.rs. A row with NaN or +inf, or of -inf alone, is NaN.
fn row_main(row: u32, lane: u32) {
    var most = vec4<f32>(-infinity());
    for (var j = lane; j < p.quads; j += LANES) {
        most = max4_nan(most, quad_x(row, j, most.x));
    }
    let top = row_max(most, lane);
    // Infinities and NaN make every difference NaN; the polynomial below would not.
    let poison = select(not_a_number(), 0.0, is_finite(top));
    var total = vec4<f32>(0.0);
    for (var j = lane; j < p.quads; j += LANES) {
        total += exp4_fast(quad_x(row, j, -infinity()) - top);
    }
    let scale = 1.0 / row_sum(total, lane) + poison;
    for (var j = lane; j < p.quads; j += LANES) {
        put_y(row, j, exp4_fast(quad_x(row, j, 0.0) - top) * scale);
    }
}
