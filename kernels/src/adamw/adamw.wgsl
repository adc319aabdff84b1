// adamw: m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// w = w - lr weight_decay w - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
// Bindings: g, lr, step (one f32 each), w, m, v. Parameters: n, beta1, beta2, eps, weight_decay, rest1 and rest2
// (1 - beta), log1 and log2 (of the betas). f32.
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
    let g = load_g(i);
    let m = load_m(i) * p.beta1 + g * p.rest1;
    let v = load_v(i) * p.beta2 + g * g * p.rest2;
    let step = load_step(0u);
    let lr = load_lr(0u);
    let correction1 = -expm1_f32(step * p.log1);
    let correction2 = -expm1_f32(step * p.log2);
    let update = (m / correction1) / (sqrt(v / correction2) + p.eps);
    let w = load_w(i);
    store_m(i, m);
    store_v(i, v);
    store_w(i, w - w * lr * p.weight_decay - update * lr);
}
