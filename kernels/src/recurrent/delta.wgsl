// gated_delta: row by row, for each column of a head's state S [dk, dv]: S becomes e^g S, then S + k u with
// u = beta (v - S^T k), and the output is S^T q.
// Bindings: q, k [b, t, key_heads, dk], v [b, t, heads, dv], g, beta [b, t, heads], segments (i32 [b, t]) or src, dst, count
// (i32 [b]) where there are some, y [b, t, heads, dv], pool [slots, heads, dk, dv] with these.
// Parameters: n (columns of all), t, heads, group (heads of v that share one of k), dk, dv, slots.
// Contract: f32 throughout, sums over dk in turn, rows in turn: a row depends on those before it alone. An invocation owns a
// column of one element of the batch.
var<private> column: array<f32, $CAPACITY>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups) * 64u + lane;
    if i >= p.n {
        return;
    }
    let j = i % p.dv;
    let head = (i / p.dv) % p.heads;
    let b = i / p.dv / p.heads;
    for (var c = 0u; c < p.dk; c++) {
        column[c] = 0.0;
    }
    let counted = $COUNTED;
    $START
    for (var row = 0u; row < p.t; row++) {
        let scalar = (b * p.t + row) * p.heads + head;
        let at = scalar * p.dv + j;
        if row >= counted {
            store_y(at, 0.0);
            continue;
        }
        $RESET
        let key = ((b * p.t + row) * (p.heads / p.group) + head / p.group) * p.dk;
        let decay = exp_f32(load_g(scalar));
        var known = 0.0;
        for (var c = 0u; c < p.dk; c++) {
            known += column[c] * load_k(key + c);
        }
        let added = load_beta(scalar) * (load_v(at) - decay * known);
        var result = 0.0;
        for (var c = 0u; c < p.dk; c++) {
            column[c] = decay * column[c] + load_k(key + c) * added;
            result += column[c] * load_q(key + c);
        }
        store_y(at, result);
    }
    $FINISH
}
