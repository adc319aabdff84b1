// cross_entropy: lse = log sum exp x; loss = lse - (1 - smoothing) x[label] - smoothing mean(x), 0 where ignored.
// Bindings: x [rows, width], labels (i32), loss, lse. A label outside the classes has the target 0.
// Parameters: rows, width, quads, ignore, smoothing, count (width as f32). f32, sums in the order of row/mod.rs.
fn row_main(row: u32, lane: u32) {
    var most = vec4<f32>(-infinity());
    for (var j = lane; j < p.quads; j += LANES) {
        most = max4_nan(most, quad_x(row, j, most.x));
    }
    let top = row_max(most, lane);
    let poison = select(not_a_number(), 0.0, is_finite(top));
    var total = vec4<f32>(0.0);
    var plain = vec4<f32>(0.0);
    for (var j = lane; j < p.quads; j += LANES) {
        total += exp4_fast(quad_x(row, j, -infinity()) - top);
        plain += quad_x(row, j, 0.0);
    }
    let logsum = log_f32(row_sum(total, lane)) + top + poison;
    let mean = row_sum(plain, lane) / p.count;
    if lane == 0u {
        let label = load_labels(row);
        var target_logit = 0.0;
        if label >= 0 && u32(label) < p.width {
            target_logit = load_x(row * p.width + u32(label));
        }
        var loss = logsum - target_logit * (1.0 - p.smoothing);
        if p.smoothing != 0.0 {
            loss -= mean * p.smoothing;
        }
        store_loss(row, select(loss, 0.0, label == p.ignore));
        store_lse(row, logsum);
    }
}
