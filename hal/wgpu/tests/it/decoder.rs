//! What decoding needs from a device: a deep decoder whose caches are donated and updated in place, whose
//! weights two buckets and the decode step share, and whose steps cost the host little.

use std::time::Instant;

use percept_graph::reference::evaluate;
use percept_graph::{Activation, AttentionSpec, DType, Graph, HostTensor, Role, TensorType};
use percept_hal::{Arg, Buffer, CompileOptions, Device, Executable, KernelDevice};

use crate::adapter::{self, device, graph, tensor};

const LAYERS: usize = 30;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD: usize = 16;
const INNER: usize = 128;
const VOCABULARY: usize = 96;
const CONTEXT: usize = 128;

/// `rows` tokens of one sequence from `pos` on: embedding, `layers` blocks over donated caches, and the last row's
/// logits.
fn decoder(layers: usize, rows: usize) -> Graph {
    graph(|t| {
        let weight = |name: String, dims: &[usize], dtype| t.parameter(name, dtype, dims);
        let ids = t.data("ids", DType::I32, [1, rows]);
        let pos = t.input("pos", Role::Scalar, TensorType::new(DType::I32, [1]));
        let angles = ["cos", "sin"].map(|name| t.data(name, DType::F32, [1, rows, HEAD / 2]));
        let live = &pos + rows as f64;
        let table = weight("embed".into(), &[VOCABULARY, WIDTH], DType::F32);
        let mut x = table.embedding(&ids, DType::F32);
        for layer in 0..layers {
            let _scope = t.scope(format!("layers.{layer}"));
            let norm = |x: &percept_graph::Tensor, name: &str| {
                x.rms_norm(&weight(format!("{layer}.{name}"), &[WIDTH], DType::F32), 1e-5)
            };
            let linear = |x: &percept_graph::Tensor, name: &str, out: usize, within: usize| {
                x.linear(&weight(format!("{layer}.{name}"), &[out, within], DType::Q4_1), None, None)
            };
            let h = norm(&x, "norm");
            let heads = |name: &str, n: usize| {
                linear(&h, name, n * HEAD, WIDTH).reshape([1, rows, n, HEAD]).transpose([0, 2, 1, 3])
            };
            let turn = |x: percept_graph::Tensor| x.rope(&angles[0], &angles[1], false);
            let (q, k, v) = (turn(heads("q", HEADS)), turn(heads("k", KV_HEADS)), heads("v", KV_HEADS));
            let cache = |name: &str, new: &percept_graph::Tensor| {
                let ty = TensorType::new(DType::F32, [1, KV_HEADS, CONTEXT, HEAD]);
                let cache = t.input(format!("{layer}.{name}_cache"), Role::State, ty);
                let grown = cache.kv_append(new, &pos, None);
                t.output_in_place(format!("{layer}.{name}_cache"), &grown, &cache);
                grown
            };
            let (k, v) = (cache("k", &k), cache("v", &v));
            let spec = AttentionSpec { offset: true, kv_len: true, ..AttentionSpec::causal(0.25) };
            let out = q.attention(&k, &v, &[&pos, &live], spec).transpose([0, 2, 1, 3]);
            x = &x + linear(&out.reshape([1, rows, HEADS * HEAD]), "o", WIDTH, HEADS * HEAD);
            let h = norm(&x, "mlp_norm");
            let (gate, up) = (linear(&h, "gate", INNER, WIDTH), linear(&h, "up", INNER, WIDTH));
            x = &x + linear(&(gate.activate(Activation::Silu) * up), "down", WIDTH, INNER);
        }
        let last = x.narrow(1, rows - 1, rows);
        let normed = last.rms_norm(&weight("norm".into(), &[WIDTH], DType::F32), 1e-5);
        t.output("logits", &normed.linear(&table, None, None));
    })
}

/// Host values of a graph's inputs: ids and angles that suit them, everything else small.
fn values(g: &Graph, pos: i32) -> Vec<HostTensor> {
    let value = |(i, input): (usize, &percept_graph::Input)| {
        let ty = g.ty(input.value);
        match (input.name.as_str(), input.role) {
            ("pos", _) => HostTensor::from_i32([1], &[pos]).unwrap(),
            (_, Role::State) => HostTensor::new(ty.clone(), vec![0; ty.bytes()]).unwrap(),
            (name, Role::Parameter) => {
                let seed = name.bytes().fold(7, |h: u64, b| h.wrapping_mul(31) + b as u64);
                tensor(ty.dtype, &ty.dims, seed)
            }
            _ => tensor(ty.dtype, &ty.dims, i as u64 + 5),
        }
    };
    g.inputs().iter().enumerate().map(value).collect()
}

/// Arguments in the graph's order: parameters borrowed from `weights`, caches donated, the rest uploaded.
fn arguments(
    device: &dyn Device,
    g: &Graph,
    weights: &[(String, Buffer)],
    caches: &mut Vec<Buffer>,
    pos: i32,
) -> Vec<Arg> {
    let mut caches = caches.drain(..);
    let inputs = g.inputs().iter().zip(values(g, pos));
    inputs
        .map(|(input, value)| match input.role {
            Role::Parameter => {
                let (_, weight) = weights.iter().find(|(name, _)| *name == *input.name).unwrap();
                Arg::Borrow(weight.clone())
            }
            Role::State => Arg::Donate(caches.next().unwrap()),
            _ => Arg::Borrow(device.upload(value.ty(), value.bytes()).unwrap()),
        })
        .collect()
}

#[test]
fn a_prefix_and_a_step_are_those_of_the_reference() {
    let Some(device) = device() else { return };
    let g = decoder(2, 3);
    adapter::check_with(&device, &g, &values(&g, 5), 1e-3);
    let step = decoder(2, 1);
    let inputs = values(&step, 4);
    let expected = evaluate(&step, &inputs).unwrap();
    let strict = CompileOptions { strict: true, ..CompileOptions::default() };
    let got = adapter::run(&device, &step, &inputs, &strict);
    assert!(expected.iter().zip(&got).all(|(e, a)| {
        e.values().iter().zip(a.values()).all(|(x, y)| (x - y).abs() <= 1e-3 * x.abs().max(1.0))
    }));
}

#[test]
fn thirty_layers_share_weights_between_buckets_and_decode_in_place() {
    let Some(device) = device() else { return };
    let strict = CompileOptions { strict: true, ..CompileOptions::default() };
    let graphs = [decoder(LAYERS, 32), decoder(LAYERS, 48), decoder(LAYERS, 1)];
    let first = &graphs[0];
    let weights: Vec<(String, Buffer)> = first
        .inputs()
        .iter()
        .zip(values(first, 0))
        .filter(|(i, _)| i.role == Role::Parameter)
        .map(|(i, v)| (i.name.to_string(), device.upload(v.ty(), v.bytes()).unwrap()))
        .collect();
    let compile = |g: &Graph| -> Box<dyn Executable> { device.compile(g, &strict).unwrap() };
    let prefill = compile(&graphs[0]);
    let pipelines = device.kernel_device().pipelines();
    let start = Instant::now();
    let second = compile(&graphs[1]);
    println!("a second bucket of {} launches: {:?}", second.report().launches, start.elapsed());
    assert_eq!(device.kernel_device().pipelines(), pipelines, "a second bucket makes no pipeline");
    let decode = compile(&graphs[2]);
    println!("a step of {} launches", decode.report().launches);

    let cache = TensorType::new(DType::F32, [1, KV_HEADS, CONTEXT, HEAD]);
    let fresh = || -> Vec<Buffer> { (0..2 * LAYERS).map(|_| device.zeros(&cache).unwrap()).collect() };
    let caches_of = |mut outputs: Vec<Buffer>| -> (Vec<Buffer>, Vec<u8>) {
        let logits = outputs.pop().unwrap();
        (outputs, device.read(&logits).unwrap())
    };
    for (g, executable) in graphs[..2].iter().zip([&prefill, &second]) {
        let args = arguments(&device, g, &weights, &mut fresh(), 0);
        let (_, logits) = caches_of(executable.run(args).unwrap());
        assert!(logits.chunks_exact(4).all(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]).is_finite()));
    }
    let mut caches = fresh();
    let held = |step: i32| (step > 4).then(|| device.memory());
    let (mut steady, mut host) = (None, f64::INFINITY);
    for step in 0..24 {
        let args = arguments(&device, &graphs[2], &weights, &mut caches, step);
        let start = Instant::now();
        let outputs = decode.run(args).unwrap();
        host = host.min(start.elapsed().as_secs_f64() * 1e6);
        caches = caches_of(outputs).0;
        if let (Some(now), before) = (held(step), steady.take()) {
            assert!(before.is_none_or(|b| b == now), "memory grows from {before:?} to {now:?}");
            steady = Some(now);
        }
    }
    let each = host / decode.report().launches as f64;
    println!("a step costs the host {host:.0} us, {each:.2} us a launch");
    assert!(each < 12.0, "{each:.2} us a launch");
}
