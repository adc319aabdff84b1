// conv1d: y[b, o, s] = sum over c, then taps j, of x[b, c, s stride + j dilation - padding] w[o, c, j], plus bias[o].
// Bindings: x [b, channels, steps], w [outputs, channels, taps], bias (when there is one), y [b, outputs, out_steps].
// Parameters: channels, steps, outputs, taps, out_steps, stride, padding, dilation. f32, fma in that order.
fn value_y(i: u32) -> f32 {
    let s = i % p.out_steps;
    let o = (i / p.out_steps) % p.outputs;
    let b = i / p.out_steps / p.outputs;
    var total = 0.0;
    for (var c = 0u; c < p.channels; c++) {
        let row = (b * p.channels + c) * p.steps;
        let weights = (o * p.channels + c) * p.taps;
        for (var j = 0u; j < p.taps; j++) {
            // Before the start this wraps to a number past the end.
            let at = s * p.stride + j * p.dilation - p.padding;
            if at < p.steps {
                total = fma(load_x(row + at), load_w(weights + j), total);
            }
        }
    }
    return total$BIAS;
}
