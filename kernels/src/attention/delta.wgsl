// attention_delta: y[row] = sum over features of out * dout, vector by vector, in f32.
// Bindings: out, dout [rows, 4 e], y (f32). Parameters: e.
fn value_y(i: u32) -> f32 {
    var total = vec4<f32>(0.0);
    for (var x = 0u; x < p.e; x++) {
        total += load4_out(i * p.e + x) * load4_dout(i * p.e + x);
    }
    return (total.x + total.y) + (total.z + total.w);
}
