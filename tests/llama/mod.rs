//! A llama decoder traced with the tensor API, and the parity case that holds it to Hugging Face's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use percept::graph::{
    Activation, AttentionSpec, DType, Graph, HostTensor, Role, Tensor, TensorType, Trace, grad_graph, passes,
};
use safetensors::{Dtype, SafeTensors};

/// What `config.json` says of the architecture.
pub struct Llama {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub mlp: usize,
    pub vocab: usize,
    pub eps: f32,
    pub theta: f64,
}

/// What a layer does with its queries, keys and values.
type Attend<'a> = &'a mut dyn FnMut(usize, &Tensor, Tensor, Tensor) -> Tensor;
/// What is added to the result of a projection, given its name and operand.
type Adapt<'a> = &'a dyn Fn(&str, &Tensor, Tensor) -> Tensor;

impl Llama {
    pub fn read(config: &Path) -> Self {
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
        let number = |name: &str| json[name].as_u64().unwrap() as usize;
        Self {
            layers: number("num_hidden_layers"),
            hidden: number("hidden_size"),
            heads: number("num_attention_heads"),
            kv_heads: number("num_key_value_heads"),
            head_dim: number("head_dim"),
            mlp: number("intermediate_size"),
            vocab: number("vocab_size"),
            eps: json["rms_norm_eps"].as_f64().unwrap() as f32,
            theta: json["rope_parameters"]["rope_theta"].as_f64().unwrap(),
        }
    }

    /// Logits [1,t,vocab] of ids i32[1,t] at positions i32[1,t].
    fn logits(&self, ids: &Tensor, positions: &Tensor, attend: Attend, adapt: Adapt) -> Tensor {
        let t = ids.trace();
        let norm = |x: &Tensor, name: &str| {
            x.rms_norm(&t.parameter(format!("{name}.weight"), DType::F32, [self.hidden]), self.eps)
        };
        let linear = |x: &Tensor, name: &str, n: usize| {
            let w = t.parameter(format!("{name}.weight"), DType::F32, [n, x.dim(2)]);
            adapt(name, x, x.linear(&w, None, None))
        };
        let rows = ids.dim(1);
        let split =
            |x: Tensor, heads: usize| x.reshape([1, rows, heads, self.head_dim]).transpose([0, 2, 1, 3]);
        let d = self.head_dim as f64;
        let frequencies: Vec<f64> =
            (0..self.head_dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / d)).collect();
        let [cos, sin] = positions.rope_angles(&frequencies);

        let table = t.parameter("model.embed_tokens.weight", DType::F32, [self.vocab, self.hidden]);
        let mut h = table.embedding(ids, DType::F32);
        for l in 0..self.layers {
            let path = format!("model.layers.{l}");
            let _scope = t.scope(&path);
            let x = norm(&h, &format!("{path}.input_layernorm"));
            let q = linear(&x, &format!("{path}.self_attn.q_proj"), self.heads * self.head_dim);
            let k = linear(&x, &format!("{path}.self_attn.k_proj"), self.kv_heads * self.head_dim);
            let v = linear(&x, &format!("{path}.self_attn.v_proj"), self.kv_heads * self.head_dim);
            let q = split(q, self.heads).rope(&cos, &sin, false);
            let k = split(k, self.kv_heads).rope(&cos, &sin, false);
            let out = attend(l, &q, k, split(v, self.kv_heads)).transpose([0, 2, 1, 3]);
            let out = out.reshape([1, rows, self.heads * self.head_dim]);
            h = h + linear(&out, &format!("{path}.self_attn.o_proj"), self.hidden);
            let x = norm(&h, &format!("{path}.post_attention_layernorm"));
            let gate = linear(&x, &format!("{path}.mlp.gate_proj"), self.mlp);
            let up = linear(&x, &format!("{path}.mlp.up_proj"), self.mlp);
            h = h + linear(&gate.gated(Activation::Silu, &up), &format!("{path}.mlp.down_proj"), self.hidden);
        }
        norm(&h, "model.norm").linear(&table, None, None)
    }

    fn attention(&self) -> AttentionSpec {
        AttentionSpec::causal(1.0 / (self.head_dim as f32).sqrt())
    }

    /// A step of `rows` tokens from position `pos` on, of which those before `kv_len` are real; the caches of
    /// `capacity` tokens are updated in place.
    pub fn step(&self, rows: usize, capacity: usize) -> Graph {
        let t = Trace::new(format!("llama.{rows}"));
        let ids = t.data("ids", DType::I32, [1, rows]);
        let pos = t.input("pos", Role::Scalar, TensorType::new(DType::I32, [1]));
        let kv_len = t.input("kv_len", Role::Extent, TensorType::new(DType::I32, [1]));
        let positions = t.iota(DType::I32, [1, rows], 1) + pos.unsqueeze(1);
        let mut caches = Vec::new();
        let mut attend = |l: usize, q: &Tensor, k: Tensor, v: Tensor| {
            let [k, v] = [("k", k), ("v", v)].map(|(name, new)| {
                let name = format!("cache.{l}.{name}");
                let cache = t.input(&name, Role::State, self.cache(capacity));
                let all = cache.kv_append(&new, &pos, None);
                caches.push((name, cache, all.clone()));
                all
            });
            let spec = AttentionSpec { offset: true, kv_len: true, ..self.attention() };
            q.attention(&k, &v, &[&pos, &kv_len], spec)
        };
        let logits = self.logits(&ids, &positions, &mut attend, &|_, _, y| y);
        t.output("logits", &logits);
        for (name, cache, all) in &caches {
            t.output_in_place(name, all, cache);
        }
        t.finish().unwrap()
    }

    /// The type of one layer's keys or values.
    pub fn cache(&self, capacity: usize) -> TensorType {
        TensorType::new(DType::F32, [1, self.kv_heads, capacity, self.head_dim])
    }

    /// The mean loss of predicting `labels` i32[t] with low-rank adapters on the query projections, its gradients, and
    /// the adapters after a step of AdamW, updated in place. Weights that `quantize` names are quantized.
    pub fn adapter_step(
        &self,
        rows: usize,
        rank: usize,
        quantize: &dyn Fn(&str, &TensorType) -> Option<DType>,
    ) -> Graph {
        let t = Trace::new("adapter");
        let ids = t.data("ids", DType::I32, [1, rows]);
        let labels = t.data("labels", DType::I32, [rows]);
        let spec = self.attention();
        let mut attend = |_: usize, q: &Tensor, k: Tensor, v: Tensor| q.attention(&k, &v, &[], spec.clone());
        let adapt = |name: &str, x: &Tensor, y: Tensor| {
            if !name.ends_with("q_proj") {
                return y;
            }
            let (k, n) = (x.dim(2), y.dim(2));
            let a = t.parameter(format!("{name}.lora_a"), DType::F32, [rank, k]);
            let b = t.parameter(format!("{name}.lora_b"), DType::F32, [n, rank]);
            y + x.linear(&a, None, None).linear(&b, None, None)
        };
        let positions = t.iota(DType::I32, [1, rows], 1);
        let logits = self.logits(&ids, &positions, &mut attend, &adapt);
        let loss = logits.reshape([rows, self.vocab]).cross_entropy(&labels, -100, 0.0).mean([0]);
        t.output("loss", &loss);
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
            let adamw =
                percept::graph::Composite::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0 };
            let op = percept::graph::Op::Composite(adamw);
            let [p2, m2, v2] = p.results(op, &[&p, &g, &m, &v, &rate, &step]);
            t.output_in_place(*name, &p2, &p);
            t.output_in_place(format!("m.{name}"), &m2, &m);
            t.output_in_place(format!("v.{name}"), &v2, &v);
        }
        t.finish().unwrap()
    }
}

/// The parity case: its checkpoint, its prompt and what Hugging Face makes of it.
pub struct Case {
    pub model: Llama,
    pub weights: BTreeMap<String, HostTensor>,
    pub prompt: Vec<i32>,
    /// [t, vocab], row-major.
    pub logits: Vec<f64>,
    /// The greedy continuation with the end token suppressed.
    pub generated: Vec<i32>,
}

/// Never generated in parity cases.
pub const END: usize = 2;

impl Case {
    pub fn read() -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
        let inputs = tensors(&folder.join("inputs.safetensors"));
        let expected = tensors(&folder.join("expected.safetensors"));
        let integers = |t: &HostTensor| t.values().iter().map(|&v| v as i32).collect();
        Self {
            model: Llama::read(&folder.join("model/config.json")),
            weights: tensors(&folder.join("model/model.safetensors")),
            prompt: integers(&inputs["input_ids"]),
            logits: expected["logits"].values(),
            generated: integers(&expected["generated"]),
        }
    }
}

/// The tensors of a safetensors file; 64-bit integers become i32.
fn tensors(path: &Path) -> BTreeMap<String, HostTensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let view = file.tensor(name).unwrap();
        let dims = view.shape().to_vec();
        match view.dtype() {
            Dtype::F32 => HostTensor::new(TensorType::new(DType::F32, dims), view.data()).unwrap(),
            Dtype::I64 => {
                let word = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap()) as i32;
                let words: Vec<i32> = view.data().chunks_exact(8).map(word).collect();
                HostTensor::from_i32(dims, &words).unwrap()
            }
            other => panic!("{name} is {other:?}"),
        }
    };
    file.names().into_iter().map(|name| (name.to_string(), read(name))).collect()
}
