// matmul, the end of a product made in parts: y = finish(sum over parts of sums[part, b, i, j]).
// Bindings: sums (f32), bias (when there is one), y [batch, m, n]. Parameters: m, n, batch, parts.
// An invocation owns a vector of four columns. Contract: parts are added in order, in f32; y is rounded once.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let vectors = (p.n + 3u) / 4u;
    let i = linear_group(group, groups) * 64u + lane;
    let column = (i % vectors) * 4u;
    let row = (i / vectors) % p.m;
    let batch = i / vectors / p.m;
    if batch >= p.batch {
        return;
    }
    var y0_0 = vec4<f32>();
    for (var part = 0u; part < p.parts; part++) {
        let at = ((part * p.batch + batch) * p.m + row) * p.n + column;
        y0_0 += $VECTOR;
    }
$STORE
}
