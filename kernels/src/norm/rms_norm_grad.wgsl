// rms_norm_grad: with r = 1 / sqrt(mean(x^2) + eps) and g = dy (w + unit): dx = r (g - x r^2 mean(g x)).
// Bindings: x [rows, width], w [width], dy, dx, stats [rows, 2] = (0, r).
// Parameters: rows, width, quads, unit (0 or 1), eps, count (width as f32). f32, sums in the order of row/mod.rs.
fn row_main(row: u32, lane: u32) {
    var squares = vec4<f32>(0.0);
    var products = vec4<f32>(0.0);
    for (var j = lane; j < p.quads; j += LANES) {
        let x = quad_x(row, j, 0.0);
        squares += x * x;
        products += quad_dy(row, j, 0.0) * (quad_w(0u, j, 0.0) + p.unit) * x;
    }
    let r = 1.0 / sqrt(row_sum(squares, lane) / p.count + p.eps);
    let along = row_sum(products, lane) / p.count * r * r;
    for (var j = lane; j < p.quads; j += LANES) {
        let g = quad_dy(row, j, 0.0) * (quad_w(0u, j, 0.0) + p.unit);
        put_dx(row, j, r * (g - quad_x(row, j, 0.0) * along));
    }
    if lane == 0u {
        stats[2u * row] = 0.0;
        stats[2u * row + 1u] = r;
    }
}
