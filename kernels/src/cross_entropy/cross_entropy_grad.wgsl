// cross_entropy_grad: dx = (exp(x - lse) - target) g, target = smoothing / width, plus 1 - smoothing at the label; 0
// where ignored.
// Bindings: x [rows, width], labels (i32), lse, g, dx. Parameters: rows, width, quads, ignore, smoothing, even. f32.
fn row_main(row: u32, lane: u32) {
    let label = load_labels(row);
    let lse = load_lse(row);
    let g = load_g(row);
    // Chosen last: the logits of an ignored row may be anything, NaN included.
    let ignored = label == p.ignore;
    let poison = select(not_a_number(), 0.0, is_finite(lse));
    for (var j = lane; j < p.quads; j += LANES) {
        var d = exp4_fast(quad_x(row, j, 0.0) - lse) - p.even + poison;
        let at = label - i32(4u * j);
        d -= select(vec4<f32>(0.0), vec4<f32>(1.0 - p.smoothing), vec4<i32>(at) == vec4<i32>(0, 1, 2, 3));
        put_dx(row, j, select(d * g, vec4<f32>(0.0), ignored));
    }
}
