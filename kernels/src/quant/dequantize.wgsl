// dequantize: four weights per invocation, exact in f32, rounded to y's dtype.
// Bindings: x (blocks), y. Parameters: quads.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quad = linear_group(group, groups) * 64u + lane;
    if quad < p.quads {
        store4_y(quad, load4_x(quad));
    }
}
