// layer_norm_grad: with h = (x - mean) r, r = 1 / sqrt(var + eps) and g = dy w: dx = r (g - mean(g) - h mean(g h)).
// Bindings: x [rows, width], w [width], dy, dx, stats [rows, 2] = (mean, r).
// Parameters: rows, width, quads, eps, count (width as f32). f32, sums in the order of row/mod.rs.
fn row_main(row: u32, lane: u32) {
    var total = vec4<f32>(0.0);
    for (var j = lane; j < p.quads; j += LANES) {
        total += quad_x(row, j, 0.0);
    }
    let mean = row_sum(total, lane) / p.count;
    var squares = vec4<f32>(0.0);
    var sums = vec4<f32>(0.0);
    var products = vec4<f32>(0.0);
    for (var j = lane; j < p.quads; j += LANES) {
        let difference = quad_x(row, j, mean) - mean;
        let g = quad_dy(row, j, 0.0) * quad_w(0u, j, 0.0);
        squares += difference * difference;
        sums += g;
        products += g * difference;
    }
    let r = 1.0 / sqrt(row_sum(squares, lane) / p.count + p.eps);
    let mean_g = row_sum(sums, lane) / p.count;
    let along = row_sum(products, lane) / p.count * r * r;
    for (var j = lane; j < p.quads; j += LANES) {
        let g = quad_dy(row, j, 0.0) * quad_w(0u, j, 0.0);
        put_dx(row, j, r * (g - mean_g - (quad_x(row, j, 0.0) - mean) * along));
    }
    if lane == 0u {
        stats[2u * row] = mean;
        stats[2u * row + 1u] = r;
    }
}
