// ragged_dot: y[i, j, c] = sum over k of x[i, k] w[numbers[i, j], c, k], and 0 for a group that there is none of.
// Bindings: x [m, k], w (matrices first .. first + held, [n, k] each), numbers (i32 [m, choices]), y [m, choices, n].
// Parameters: n, terms (k, or vectors of it), groups, choices, pairs (m choices), across (workgroups of a pair), first, held.
// A workgroup of 64 lanes owns four columns of a pair; a launch writes the pairs whose matrices it sees.
// Contract: lane l adds terms l, l + 64, .. with fma, vectors component by component, in f32; components are added
// (x + y) + (z + w), then lanes pairwise from a distance of 32 down to 1. The order depends on k alone. y is rounded once.
var<workgroup> parts: array<vec4<f32>, 64>;
fn across(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let linear = linear_group(group, groups);
    let pair = linear / p.across;
    if pair >= p.pairs {
        return;
    }
    let column = (linear % p.across) * 4u;
    let number = load_numbers(pair);
    let is_there = number >= 0 && u32(number) < p.groups;
    // Matrices before the first wrap around and are as far away as can be.
    let local = u32(number) - p.first;
    let is_seen = is_there && local < p.held;
    let a_at = (pair / p.choices) * p.terms;
    let matrix = select(0u, local, is_seen) * p.n;
    let b_at0 = (matrix + column) * p.terms;
    let b_at1 = (matrix + min(column + 1u, p.n - 1u)) * p.terms;
    let b_at2 = (matrix + min(column + 2u, p.n - 1u)) * p.terms;
    let b_at3 = (matrix + min(column + 3u, p.n - 1u)) * p.terms;
    let terms = select(0u, p.terms, is_seen);
$SUM
    parts[lane] = own;
    workgroupBarrier();
    for (var distance = 32u; distance > 0u; distance = distance >> 1u) {
        if lane < distance {
            parts[lane] += parts[lane + distance];
        }
        workgroupBarrier();
    }
    if lane == 0u && (is_seen || !is_there && p.first == 0u) {
        let sum = parts[0];
        let at = pair * p.n + column;
$STORE
    }
}
