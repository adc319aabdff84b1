// reduce: one workgroup of 64 lanes per word of results; lane l takes elements l, l + 64, .. of a block, then lanes
// are combined pairwise from a distance of 32 down to 1. In 32 bits.
// Bindings: x, y. Parameters: k (elements reduced), block (most per result), blocks (results per output), n (results),
// kept and reduced (views of x). Result i is block i % blocks of output i / blocks.
var<workgroup> lanes: array<$T, 64>;

fn combine(a: $T, b: $T) -> $T {
    return $COMBINE;
}

fn reduce_block(i: u32, lane: u32) -> $T {
    let base = kept(i / p.blocks);
    let start = (i % p.blocks) * p.block;
    let end = min(start + p.block, p.k);
    var total = $T($IDENTITY);
    for (var j = start + lane; j < end; j += 64u) {
        total = combine(total, load_x(base + reduced(j)));
    }
    workgroupBarrier();
    lanes[lane] = total;
    workgroupBarrier();
    for (var distance = 32u; distance > 0u; distance = distance >> 1u) {
        if lane < distance {
            lanes[lane] = combine(lanes[lane], lanes[lane + distance]);
        }
        workgroupBarrier();
    }
    return lanes[0];
}

var<private> results: array<$T, 2>;
fn value_y(i: u32) -> $T {
    return results[i % $PER_WORD];
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let word = linear_group(group, groups);
    if word * $PER_WORD >= p.n {
        return;
    }
    for (var e = 0u; e < $PER_WORD; e++) {
        results[e] = reduce_block(min(word * $PER_WORD + e, p.n - 1u), lane);
    }
    if lane == 0u {
        write_y(word, p.n);
    }
}
