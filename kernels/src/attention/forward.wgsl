// attention forward: out = softmax(mask(scale q k^T)) v and lse = log sum exp of the masked scores, flash style.
// Bindings: q [b, h, t, d], k, v [b, hk, s, ..] or pools of pages, the optional operands, sums (f32 [b, h, t, e],
// unnormalized while running), lse (f32 [b, h, t]). Parameters: see attention/mod.rs.
// An invocation owns $ROWS queries of one head (p.tiles invocations a head, so that vectors of lanes need not straddle
// heads) and passes over the keys in blocks of $KEYS, block by block with an online softmax. Contract: a row's order
// depends on its keys' indices alone, never on other rows, chunks or pages; f32; keys at and past kv_len are not read.
// A row without keys gives zeros and -inf; a NaN or +inf score gives NaN.
@compute @workgroup_size($LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let owner = linear_group(group, groups) * $LANESu + lane;
    let head = owner / p.tiles;
    if head >= p.b * p.h {
        return;
    }
    let batch = head / p.h;
    let kv_head = (head % p.h) / p.group;
    let first = (owner % p.tiles) * $ROWSu;
    let offset = $OFFSET;
    let live = $LIVE;
$QUERY_SETUP
    for (var x = 0u; x < p.e; x++) {
$CLEAR
    }
    let nothing = -infinity();
    var start = 0u;
    var end = live;
$RANGE
    for (var block = start & ~($KEYSu - 1u); block < end; block += $KEYSu) {
$KEY_SETUP
$SCORE_CLEAR
        for (var x = 0u; x < p.d; x++) {
$SCORE
        }
$SOFTMAX
        for (var x = 0u; x < p.e; x++) {
$ACCUMULATE
        }
    }
$FINISH
}
