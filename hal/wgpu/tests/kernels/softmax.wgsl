// Softmax over the last dimension: a workgroup makes a row.
// groups: rows
struct Shapes { x: vec4<u32>, y: vec4<u32> }
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> shapes: Shapes;

const WG: u32 = 64;
var<workgroup> partial: array<f32, WG>;

fn combine(lane: u32, largest: bool) -> f32 {
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let a = partial[lane];
            let b = partial[lane + half];
            partial[lane] = select(a + b, max(a, b), largest);
        }
    }
    workgroupBarrier();
    let result = partial[0];
    workgroupBarrier();
    return result;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n = shapes.x.w;
    let row = group.x * n;
    var largest = bitcast<f32>(0xff7fffffu);
    for (var i = lane; i < n; i += WG) {
        largest = max(largest, x[row + i]);
    }
    partial[lane] = largest;
    largest = combine(lane, true);
    var sum = 0.0;
    for (var i = lane; i < n; i += WG) {
        sum += exp(x[row + i] - largest);
    }
    partial[lane] = sum;
    sum = combine(lane, false);
    for (var i = lane; i < n; i += WG) {
        y[row + i] = exp(x[row + i] - largest) / sum;
    }
}
