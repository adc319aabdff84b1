// rms_norm: y = x / sqrt(mean(x^2) + eps) * (w + unit).
// Bindings: x [rows, width], w [width], y. Parameters: rows, width, quads, unit (0 or 1), eps, count (width as f32).
// Contract: f32 throughout, sums in the order of row/mod.rs.
fn row_main(row: u32, lane: u32) {
    var squares = vec4<f32>(0.0);
    for (var j = lane; j < p.quads; j += LANES) {
        let x = quad_x(row, j, 0.0);
        squares += x * x;
    }
    let scale = 1.0 / sqrt(row_sum(squares, lane) / p.count + p.eps);
    for (var j = lane; j < p.quads; j += LANES) {
        put_y(row, j, quad_x(row, j, 0.0) * scale * (quad_w(0u, j, 0.0) + p.unit));
    }
}
