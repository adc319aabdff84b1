// arg_reduce: one workgroup of 64 lanes per result; the index of the extreme, NaN above all, the first of equals.
// Bindings: x, y (i32). Parameters: k (elements searched, at least 1), n (results), kept and reduced (views of x).
var<workgroup> values: array<$T, 64>;
var<workgroup> indices: array<u32, 64>;

fn beats(a: $T, b: $T) -> bool {
    return $BEATS;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, groups);
    if i >= p.n {
        return;
    }
    let base = kept(i);
    var best_index = min(lane, p.k - 1u);
    var best = load_x(base + reduced(best_index));
    for (var j = lane + 64u; j < p.k; j += 64u) {
        let x = load_x(base + reduced(j));
        if beats(x, best) {
            best = x;
            best_index = j;
        }
    }
    values[lane] = best;
    indices[lane] = best_index;
    workgroupBarrier();
    for (var distance = 32u; distance > 0u; distance = distance >> 1u) {
        if lane < distance {
            let other = values[lane + distance];
            let other_index = indices[lane + distance];
            let mine = values[lane];
            if beats(other, mine) || (!beats(mine, other) && other_index < indices[lane]) {
                values[lane] = other;
                indices[lane] = other_index;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        store_y(i, i32(indices[0]));
    }
}
