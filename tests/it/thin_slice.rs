//! A thin slice through every interface: a llama decoder on each device, in two prefill buckets and a decode step over
//! one set of quantized weights, and gradient steps through an adapter. That its numbers are those of Hugging Face is
//! what tests/it/parity.rs holds it to.

use std::collections::BTreeMap;
use std::sync::Arc;

use percept::graph::{
    Composite, DType, Graph, HostTensor, Op, Role, TensorType, Trace, grad_graph, passes, quantize, reference,
};
use percept::hal::{Arg, Buffer, CompileOptions, Device, Executable, Weight};
use percept::model::checkpoint::Checkpoint;
use percept::model::family::{DecoderNames, decoder};
use percept::model::{
    Adapter, AllF32, Config, Context, Decoder, Error, ParameterSpecs, Parameters, PassRows, PassShape,
    SequenceRows, Weights,
};

use crate::devices;

/// Tokens that a cache holds.
const CAPACITY: usize = 64;

/// A graph compiled with everything native or decomposed, nothing on a host.
struct CompiledGraph {
    graph: Graph,
    executable: Box<dyn Executable>,
}

impl CompiledGraph {
    fn compile(device: &dyn Device, graph: Graph) -> Self {
        let options = CompileOptions { strict: true, ..CompileOptions::default() };
        let executable = device.compile(&graph, &options).unwrap();
        Self { graph, executable }
    }

    /// Run on arguments by input name; buffers that outputs replace are donated.
    fn run(&self, mut argument: impl FnMut(&str) -> Buffer) -> BTreeMap<String, Buffer> {
        let donated = self.graph.donated();
        let args = self.graph.inputs().iter().enumerate().map(|(i, input)| {
            let buffer = argument(&input.name);
            if donated.contains(&i) { Arg::Donate(buffer) } else { Arg::Borrow(buffer) }
        });
        let outputs = self.executable.run(args.collect()).unwrap();
        self.graph.outputs().iter().map(|o| o.name.clone()).zip(outputs).collect()
    }
}

/// Weights on a device, loaded once.
fn load(device: &dyn Device, weights: &BTreeMap<String, HostTensor>) -> BTreeMap<String, Buffer> {
    let load = |w: &HostTensor| {
        let bytes: Vec<u8> = w.bytes().to_vec();
        device.load_weight(&Weight::new(w.ty().clone(), Arc::new(bytes)).unwrap()).unwrap()
    };
    weights.iter().map(|(name, w)| (name.clone(), load(w))).collect()
}

fn upload(device: &dyn Device, t: &HostTensor) -> Buffer {
    device.upload(t.ty(), t.bytes()).unwrap()
}

fn read(device: &dyn Device, b: &Buffer) -> Vec<f64> {
    HostTensor::new(b.ty().clone(), device.read(b).unwrap()).unwrap().values()
}

fn assert_near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let error = found
        .iter()
        .zip(expected)
        .fold(0.0, |e: f64, (a, b)| if (a - b).abs() <= e { e } else { (a - b).abs() });
    assert!(error <= tolerance, "{what} is off by {error}, allowed is {tolerance}");
}

/// The parity case's checkpoint and prompt.
struct Case {
    model: Decoder,
    weights: BTreeMap<String, HostTensor>,
    prompt: Vec<i32>,
}

impl Case {
    fn read() -> Self {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
        let weights = Weights::new(Arc::new(Checkpoint::open(folder.join("model")).unwrap()));
        let config = weights.checkpoint().config();
        let config = Config::new("config.json", config, serde_json::Value::Null).unwrap();
        let model = decoder(&config, &DecoderNames::find(&weights, &["model."], &[])).unwrap();
        let tensor = |name: &str| {
            let w = weights.checkpoint().weight(name).unwrap();
            (name.to_string(), HostTensor::new(w.ty.clone(), w.bytes()).unwrap())
        };
        let inputs = Checkpoint::open(folder.join("inputs.safetensors")).unwrap();
        let ids = inputs.weight("input_ids").unwrap();
        let ids = HostTensor::new(ids.ty.clone(), ids.bytes()).unwrap();
        Self {
            model,
            weights: weights.checkpoint().names().map(tensor).collect(),
            prompt: ids.values().iter().map(|&v| v as i32).collect(),
        }
    }

    /// A step of `rows` tokens over a cache of [`CAPACITY`].
    fn step(&self, rows: usize) -> Graph {
        self.model.step(&AllF32, &self.shape(rows)).unwrap()
    }

    fn shape(&self, rows: usize) -> PassShape {
        PassShape::single(&self.model, rows, CAPACITY)
    }

    /// What a step of `width` rows reads of `ids` from position `pos` on.
    fn given(&self, width: usize, ids: &[i32], pos: usize) -> BTreeMap<String, HostTensor> {
        let positions: Vec<f32> = (pos..pos + ids.len()).map(|at| at as f32).collect();
        let mut rows = PassRows {
            ids: ids.to_vec(),
            sequences: vec![SequenceRows::single(&self.model, pos, ids.len(), CAPACITY)],
            ..PassRows::default()
        };
        rows.add_angles(&self.model, &[&positions], pos + ids.len());
        self.shape(width).fill(&self.model, &rows).unwrap().into_iter().collect()
    }

    /// Cosines or sines of `rows` positions from `pos` on.
    fn angles(&self, which: &str, rows: usize, pos: usize) -> HostTensor {
        let positions: Vec<i32> = (pos as i32..(pos + rows) as i32).collect();
        let rope = &self.model.ropes[0];
        let [cos, sin] = rope.angles(&[&positions], pos + rows);
        let table = if which == "rope.0.cos" { cos } else { sin };
        HostTensor::from_f32([1, rows, rope.pairs()], &table).unwrap()
    }

    /// The mean loss of predicting `labels` i32[t] with low-rank adapters on the query projections, its gradients, and
    /// the adapters after a step of AdamW, updated in place. Weights that `quantize` names are quantized.
    fn adapter_step(&self, rows: usize, quantize: &dyn Fn(&str, &TensorType) -> Option<DType>) -> Graph {
        let t = Trace::new("adapter");
        let p = Parameters::new(&t, &Adapted);
        let labels = t.data("labels", DType::I32, [rows]);
        let pairs = self.model.ropes[0].pairs();
        let angle = |name: &str| t.data(name, DType::F32, [1, rows, pairs]);
        let cx = Context { angles: vec![[angle("rope.0.cos"), angle("rope.0.sin")]], ..Context::default() };
        let x = self.model.embed(&p, &t.data("ids", DType::I32, [1, rows]));
        let logits = self.model.logits(&p, &self.model.hidden(&p, &x, &cx, &[], None));
        let loss = logits.reshape([rows, self.model.vocab]).cross_entropy(&labels, -100, 0.0).mean([0]);
        t.output("loss", &loss);
        drop(p);
        let forward = passes::quantize_weights(&t.finish().unwrap(), quantize).unwrap();

        let names: Vec<String> =
            forward.inputs().iter().map(|i| i.name.clone()).filter(|n| n.contains("lora")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let graph = grad_graph(&forward, "loss", &names).unwrap();
        let value = |g: &Graph, name: &str| g.inputs()[g.input_index(name).unwrap()].value;
        let gradient =
            |g: &Graph, name: &str| g.outputs()[g.output_index(&format!("grad.{name}")).unwrap()].value;
        let found: Vec<_> = names.iter().map(|n| (value(&graph, n), gradient(&graph, n))).collect();
        let t = Trace::resume(graph);
        let scalar = TensorType::new(DType::F32, []);
        let rate = t.input("rate", Role::Scalar, scalar.clone());
        let step = t.input("step", Role::Scalar, scalar);
        for (name, (p, g)) in names.iter().zip(found) {
            let (p, g) = (t.value(p), t.value(g));
            let [m, v] = ["m", "v"].map(|s| t.input(format!("{s}.{name}"), Role::State, p.ty()));
            let adamw = Composite::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0 };
            let op = Op::Composite(adamw);
            let [p2, m2, v2] = p.results(op, &[&p, &g, &m, &v, &rate, &step]);
            t.output_in_place(*name, &p2, &p);
            t.output_in_place(format!("m.{name}"), &m2, &m);
            t.output_in_place(format!("v.{name}"), &v2, &v);
        }
        t.finish().unwrap()
    }
}

/// Adapters of rank 4 on the query projections.
struct Adapted;

impl ParameterSpecs for Adapted {
    fn dtype(&self, _name: &str, _dims: &[usize]) -> Result<DType, Error> {
        Ok(DType::F32)
    }

    fn adapter(&self, name: &str) -> Option<Adapter> {
        name.ends_with("q_proj").then_some(Adapter { rank: 4, scale: 1.0 })
    }
}

/// The caches after a step.
type Caches = BTreeMap<String, Buffer>;

/// A decoder on a device: steps of several widths over one set of weights.
struct Steps<'a> {
    device: &'a dyn Device,
    case: &'a Case,
    weights: BTreeMap<String, Buffer>,
}

impl Steps<'_> {
    /// Run `ids` from position `pos`, padded to the program's width; gives the logits of the real rows.
    fn step(&self, program: &CompiledGraph, ids: &[i32], pos: usize, caches: &mut Caches) -> Vec<f64> {
        let ty = program.graph.ty(program.graph.inputs()[program.graph.input_index("ids").unwrap()].value);
        let given = self.case.given(ty.dims[0], ids, pos);
        let mut out = program.run(|name| match given.get(name) {
            Some(array) => upload(self.device, array),
            None => caches.remove(name).unwrap_or_else(|| match self.weights.get(name) {
                Some(weight) => weight.clone(),
                None => {
                    let cache = &program.graph.inputs()[program.graph.input_index(name).unwrap()];
                    self.device.zeros(program.graph.ty(cache.value)).unwrap()
                }
            }),
        });
        let logits = read(self.device, &out.remove("logits").unwrap());
        *caches = out;
        logits[..ids.len() * self.case.model.vocab].to_vec()
    }
}

/// Text that parses back to the same graph.
fn assert_round_trip(graph: &Graph) {
    let text = graph.to_string();
    println!("{text}");
    assert!(text.parse::<Graph>().unwrap() == *graph, "the text parses to another graph");
}

/// What is quantized: matrices whose rows are whole blocks.
fn q4_1(name: &str, ty: &TensorType) -> Option<DType> {
    let matrix = ty.rank() == 2 && ty.dims[1].is_multiple_of(32) && !name.contains("lora");
    (matrix && name.ends_with(".weight")).then_some(DType::Q4_1)
}

fn quantized(case: &Case) -> BTreeMap<String, HostTensor> {
    let convert = |(name, w): (&String, &HostTensor)| match q4_1(name, w.ty()) {
        Some(dtype) => {
            let values: Vec<f32> = w.values().iter().map(|&v| v as f32).collect();
            let blocks = quantize(dtype, &values).unwrap();
            (name.clone(), HostTensor::new(w.ty().with_dtype(dtype), blocks).unwrap())
        }
        None => (name.clone(), w.clone()),
    };
    case.weights.iter().map(convert).collect()
}

/// Both buckets and the decode step read one set of Q4_1 weights, and agree with the reference on the dense weights
/// those decode to.
pub fn shared_quantized_weights(device: &dyn Device, tolerance: f64) {
    let case = Case::read();
    let weights = quantized(&case);
    let decoder = Steps { device, case: &case, weights: load(device, &weights) };
    let held = device.memory().buffers;
    let [decode, small, large] = [1, 32, 48].map(|rows| {
        let graph = passes::quantize_weights(&case.step(rows), &q4_1).unwrap();
        assert_round_trip(&graph);
        CompiledGraph::compile(device, graph)
    });
    // Executables may hold constants; one that held weights would double what is held.
    let with_programs = device.memory().buffers;
    println!("weights take {held} bytes; with three programs {with_programs} are held");
    assert!(with_programs < held + held / 8, "executables hold weights of their own");

    let t = case.prompt.len();
    let dense =
        |name: &str| HostTensor::from_f64(case.weights[name].ty().clone(), &weights[name].values()).unwrap();
    let exact = case.step(t);
    let given = case.given(t, &case.prompt, 0);
    let zeros = |ty: &TensorType| HostTensor::from_f64(ty.clone(), &vec![0.0; ty.numel()]).unwrap();
    let inputs: Vec<HostTensor> = exact
        .inputs()
        .iter()
        .map(|i| match i.role {
            Role::Parameter => dense(&i.name),
            Role::State => zeros(exact.ty(i.value)),
            _ => given[&i.name].clone(),
        })
        .collect();
    let expected = reference::evaluate(&exact, &inputs).unwrap()[0].values();

    for prefill in [&small, &large] {
        let mut caches = Caches::new();
        let logits = decoder.step(prefill, &case.prompt, 0, &mut caches);
        assert_near(&logits, &expected, tolerance, prefill.graph.name());
        // The last token again, one step at a time over the cache of those before it.
        let last = decoder.step(&decode, &case.prompt[t - 1..], t - 1, &mut caches);
        assert_near(&last, &expected[(t - 1) * case.model.vocab..], tolerance, "a decode step");
    }
}

/// Gradients through Q4_1 weights into a low-rank adapter agree with the reference, and descending them helps.
pub fn adapter_step(device: &dyn Device, tolerance: f64) {
    let case = Case::read();
    let rows = case.prompt.len() - 1;
    let graph = case.adapter_step(rows, &q4_1);
    assert_round_trip(&graph);
    let weights = quantized(&case);
    let initial: Vec<HostTensor> = graph
        .inputs()
        .iter()
        .map(|i| {
            let ty = graph.ty(i.value).clone();
            let fill = |f: &dyn Fn(usize) -> f64| {
                HostTensor::from_f64(ty.clone(), &(0..ty.numel()).map(f).collect::<Vec<_>>()).unwrap()
            };
            match i.name.as_str() {
                "ids" => HostTensor::from_i32([1, rows], &case.prompt[..rows]).unwrap(),
                "labels" => HostTensor::from_i32([rows], &case.prompt[1..]).unwrap(),
                "rope.0.cos" | "rope.0.sin" => case.angles(&i.name, rows, 0),
                "rate" => fill(&|_| 0.01),
                "step" => fill(&|_| 1.0),
                _ if i.role == Role::State => fill(&|_| 0.0),
                name if name.contains("lora") => {
                    fill(&|e| ((e * 37 + name.len()) % 101) as f64 / 505.0 - 0.1)
                }
                name => weights[name].clone(),
            }
        })
        .collect();

    let program = CompiledGraph::compile(device, graph);
    let loaded = load(device, &weights);
    let mut state: BTreeMap<String, Buffer> = BTreeMap::new();
    let mut losses = Vec::new();
    for step in 1..=4 {
        let mut outputs = program.run(|name| {
            let i = program.graph.input_index(name).unwrap();
            match name {
                "step" => upload(device, &HostTensor::from_f32([], &[step as f32]).unwrap()),
                name => state
                    .remove(name)
                    .or_else(|| loaded.get(name).cloned())
                    .unwrap_or_else(|| upload(device, &initial[i])),
            }
        });
        losses.push(read(device, &outputs["loss"])[0]);
        if step == 1 {
            let expected = reference::evaluate(&program.graph, &initial).unwrap();
            for (o, exact) in program.graph.outputs().iter().zip(expected) {
                let size = exact.values().iter().fold(0.0, |a: f64, v| a.max(v.abs()));
                // An AdamW step divides by the gradient's size: it is compared where the gradient itself is.
                if o.name == "loss" || o.name.starts_with("grad.") {
                    assert!(size > 0.0, "{} is zero", o.name);
                    assert_near(&read(device, &outputs[&o.name]), &exact.values(), tolerance * size, &o.name);
                }
            }
        }
        outputs.retain(|name, _| program.graph.input_index(name).is_some());
        state = outputs;
    }
    assert!(losses.windows(2).all(|w| w[1] < w[0]), "the loss went {losses:?}");
}

macro_rules! on_devices {
    ($($check:ident: $cpu:ident $wgpu:ident;)*) => {$(
        #[test]
        fn $cpu() {
            $check(&*devices::device("cpu"), 2e-4);
        }

        #[test]
        fn $wgpu() {
            if let Some(device) = devices::gpu() {
                $check(&*device, 2e-3);
            }
        }
    )*};
}

on_devices! {
    shared_quantized_weights: buckets_share_quantized_weights_on_cpu buckets_share_quantized_weights_on_wgpu;
    adapter_step: an_adapter_learns_on_cpu an_adapter_learns_on_wgpu;
}
