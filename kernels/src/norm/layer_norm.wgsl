// layer_norm: y = (x - mean) / sqrt(var + eps) * w + b.
// Bindings: x [rows, width], w, b [width], y. Parameters: rows, width, quads, eps, count (width as f32).
// Contract: f32 throughout, the variance from differences to the mean, sums in the order of row/mod.rs.
fn row_main(row: u32, lane: u32) {
    var total = vec4<f32>(0.0);
    for (var j = lane; j < p.quads; j += LANES) {
        total += quad_x(row, j, 0.0);
    }
    let mean = row_sum(total, lane) / p.count;
    var squares = vec4<f32>(0.0);
    for (var j = lane; j < p.quads; j += LANES) {
        let difference = quad_x(row, j, mean) - mean;
        squares += difference * difference;
    }
    let scale = 1.0 / sqrt(row_sum(squares, lane) / p.count + p.eps);
    for (var j = lane; j < p.quads; j += LANES) {
        put_y(row, j, (quad_x(row, j, 0.0) - mean) * scale * quad_w(0u, j, 0.0) + quad_b(0u, j, 0.0));
    }
}
