//! Adapters with parameters that are trained whole, in the layout that PEFT writes (make_golden.py) and opens.
//!
//! `PERCEPT_KEEP_ADAPTERS=FOLDER` keeps those that the tests make, for open_with_peft.py.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::graph::HostTensor;
use percept::model::Weights;
use percept::model::checkpoint::Checkpoint;
use percept::train::batch::Batch;
use percept::train::encode::Encoded;
use percept::train::{Config, LoraConfig, Single, Trainer};
use serde_json::{Value, json};

use super::golden::{golden, learnt, media_inputs, text_sample};
use super::{cpu, model, trainer};

/// What a run trains in a case of make_golden.py.
fn cases() -> [(&'static str, &'static str); 7] {
    [
        ("module", "rank = 2, layers = ['*.v_proj'], also = ['*post_layernorm.weight']"),
        (
            "table",
            "rank = 2, layers = ['*.v_proj'], also = ['model.embed_tokens.weight', 'model.norm.weight']",
        ),
        ("biases", "rank = 2, layers = ['*.k_proj'], also = ['*.bias']"),
        ("own-biases", "rank = 2, layers = ['*.k_proj'], also = ['*.k_proj.bias']"),
        (
            "language-model",
            "rank = 2, layers = ['language_model.*.v_proj'], also = ['language_model.model.embed_tokens.weight', \
             'language_model.model.norm.weight']",
        ),
        ("beside-visual", "rank = 2, layers = ['model.*.k_proj'], also = ['model.norm.weight']"),
        (
            "own-head",
            "rank = 2, layers = ['language_model.*.k_proj'], also = ['language_model.lm_head.weight']",
        ),
    ]
}

/// How transformers 5 calls a parameter of a case's checkpoint.
fn in_memory(case: &str, name: &str) -> String {
    match case {
        "language-model" => name.replace("language_model.model.", "model.language_model."),
        "beside-visual" => name.replace("model.", "model.language_model."),
        "own-head" => name
            .replace("language_model.model.", "model.language_model.")
            .replace("language_model.lm_head", "lm_head"),
        _ => name.to_string(),
    }
}

fn rest(lora: &str) -> String {
    format!("lora = {{ {lora} }}\noptimizer = {{ rate = 2e-2 }}")
}

fn samples(trainer: &Trainer, base: &str) -> Vec<Encoded> {
    let m = trainer.model();
    if base != "smolvlm-image" {
        return vec![text_sample(m, 3, 300, 100)];
    }
    let (inputs, ids) = media_inputs(base);
    let from = ids.len() - 8;
    vec![Encoded::of_inputs(m, "image", learnt(inputs, ids, from)).unwrap()]
}

/// The loss of a step at a rate of 0, or of one that learns.
fn step(trainer: &mut Trainer, base: &str, factor: f64) -> f64 {
    let samples = samples(trainer, base);
    let row: Vec<&Encoded> = samples.iter().collect();
    let length = samples.iter().map(Encoded::tokens).sum::<usize>();
    let m = trainer.shared_model();
    let batch = Batch::new(&*m, &[row], length).unwrap();
    let answers = batch.answers;
    trainer.step(&[batch], answers, factor, &Single).unwrap().loss
}

fn lora_of(rest: &str) -> LoraConfig {
    let text = format!("out = 'a'\nsteps = 1\nmodel.path = 'b'\ndata = {{ length = 1, rows = 1 }}\n{rest}");
    Config::parse(Path::new("run.toml"), &text, &[]).unwrap().lora.unwrap()
}

/// A run of a few steps and the adapter that it leaves.
fn trained(base: &str, rest: &str, folder: &Path) -> Trainer {
    let mut t = trainer(&model(base), cpu(), rest).unwrap();
    for _ in 0..3 {
        step(&mut t, base, 1.0);
    }
    t.write_adapter(folder, &lora_of(rest), &t.parameters().unwrap()).unwrap();
    t
}

fn json_of(folder: &Path, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap()
}

#[test]
fn what_is_trained_whole_lies_as_peft_writes_it() {
    let kept = std::env::var_os("PERCEPT_KEEP_ADAPTERS").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let golden = golden("whole");
    for (case, lora) in cases() {
        let place = kept.as_deref().unwrap_or(folder.path()).join(case);
        let (peft, rest) = (&golden[case], rest(lora));
        let base = peft["base"].as_str().unwrap();
        let mut t = trained(base, &rest, &place);
        let file = Checkpoint::open(place.join("adapter_model.safetensors")).unwrap();
        let dims = |name: &str| (name.to_string(), json!(file.ty(name).unwrap().dims));
        let found: BTreeMap<String, Value> = file.names().map(dims).collect();
        assert_eq!(json!(found), peft["tensors"], "{case}");
        let config = json_of(&place, "adapter_config.json");
        for (key, expected) in peft["config"].as_object().unwrap() {
            // PEFT reads a key that is left out as false.
            let found = config.get(key).cloned().unwrap_or(json!(false));
            assert_eq!(&found, expected, "{case}: {key}");
        }

        // The tensors are those that were trained; the rest of a module is the base's, and a head the table.
        let values = |name: &str| {
            let weight = file.weight(&format!("base_model.model.{name}")).unwrap();
            HostTensor::new(weight.ty.clone(), weight.bytes()).unwrap().values()
        };
        for (name, tensor) in t.parameters().unwrap() {
            let wrapped = if case.ends_with("biases") && name.contains("k_proj.bias") {
                ".base_layer.bias"
            } else {
                ".bias"
            };
            let name = in_memory(case, &name.replace(".bias", wrapped));
            assert_eq!(values(&name), tensor.values(), "{case}: {name}");
        }
        match case {
            "module" => {
                let name = "model.vision_model.post_layernorm.bias";
                let own = Checkpoint::open(model(base)).unwrap().weight(name).unwrap();
                assert_eq!(values(name), HostTensor::new(own.ty.clone(), own.bytes()).unwrap().values());
            }
            "table" => assert_eq!(values("lm_head.weight"), values("model.embed_tokens.weight")),
            "language-model" => {
                assert_eq!(values("lm_head.weight"), values("model.language_model.embed_tokens.weight"))
            }
            _ => {}
        }

        // A run goes on from it where it was, and it merges into a model that computes the same.
        let now = step(&mut t, base, 0.0);
        let on = format!("lora = {{ {lora}, path = '{}' }}", place.display());
        let again = step(&mut trainer(&model(base), cpu(), &on).unwrap(), base, 0.0);
        assert_eq!(again, now, "{case}");
        let weights = Weights::new(Arc::new(Checkpoint::open(model(base)).unwrap()));
        let merged = weights.with_adapter(&place).unwrap().merged().unwrap();
        let own_head = ["qwen2", "qwen2-vl-image", "smolvlm-image"].contains(&base);
        assert_eq!(merged.ty("lm_head.weight").is_some(), own_head, "{case}");
        let whole = folder.path().join(format!("{case}-merged"));
        percept::model::checkpoint::convert(&merged, &whole, None).unwrap();
        let merged = step(&mut trainer(&whole, cpu(), "").unwrap(), base, 0.0);
        assert!((merged - now).abs() < 1e-5 * now, "{case}: {merged} merged, {now} beside the base");
    }
}

/// Adapters that PEFT itself wrote, gone on from by a run.
#[test]
fn a_table_apart_from_its_head_is_not_trained_as_both() {
    let adapters = super::root().join("tests/adapters");
    let on = |name: &str| {
        format!(
            "lora = {{ rank = 2, alpha = 4.0, layers = ['*.q_proj', '*.v_proj'], also = ['model.embed_tokens.weight'], path = \
             '{}' }}",
            adapters.join(name).display()
        )
    };
    // Both were made with layers_to_transform = [0].
    let first = |name: &str| on(name).replace("'*.q_proj', '*.v_proj'", "'*.0.*.q_proj', '*.0.*.v_proj'");
    trainer(&model("llama"), cpu(), &first("save-tied")).unwrap();
    let e = trainer(&model("llama"), cpu(), &first("save-table")).err().unwrap().to_string();
    assert!(e.contains("leaves the head as it is") && e.contains("merge"), "{e}");
}

#[test]
fn what_is_frozen_stays_so_and_what_is_trained_whole_has_no_adapter_beside_it() {
    let rest = "model = { freeze = ['model.layers.0.*'] }\n";
    let lora = "lora = { rank = 2, layers = ['*.k_proj'], also = ['*.input_layernorm.weight', '*.1.*.k_proj.weight'] }";
    let text = format!(
        "out = 'unused'\nsteps = 1\ndata = {{ length = 64, rows = 1 }}\n{lora}\n{}",
        rest.replace("freeze", &format!("path = '{}', freeze", model("llama").display()))
    );
    let config = Config::parse(Path::new("run.toml"), &text, &[]).unwrap();
    let t = Trainer::new(&config, cpu(), Default::default()).unwrap();
    let trains = |name: &str| t.plan().trains(name);
    assert!(
        !trains("model.layers.0.input_layernorm.weight") && trains("model.layers.1.input_layernorm.weight")
    );
    assert!(!trains("model.layers.0.self_attn.k_proj.lora_A.weight"));
    assert!(trains("model.layers.1.self_attn.k_proj.weight"));
    assert!(!trains("model.layers.1.self_attn.k_proj.lora_A.weight"));
    assert!(trains("model.layers.2.self_attn.k_proj.lora_A.weight"));
}

/// What PEFT wrote beside experts is written again as it was, and with another one on top it is one adapter that merges.
#[test]
fn adapters_of_experts_lie_as_peft_writes_them() {
    let (base, folder) = ("qwen3-moe", tempfile::tempdir().unwrap());
    let peft = super::root().join("tests/training/adapter-experts");
    let lora = |more: &str| {
        rest(&format!(
            "layers = ['*.q_proj', '*.experts.*', '*.mlp.gate'], path = '{}', {more}",
            peft.display()
        ))
    };
    let same = lora("rank = 4, alpha = 8.0");
    let mut t = trainer(&model(base), cpu(), &same).unwrap();
    step(&mut t, base, 0.0);
    let place = folder.path().join("same");
    t.write_adapter(&place, &lora_of(&same), &t.parameters().unwrap()).unwrap();
    let open = |folder: &Path| Checkpoint::open(folder.join("adapter_model.safetensors")).unwrap();
    let (ours, theirs) = (open(&place), open(&peft));
    assert_eq!(ours.names().collect::<Vec<_>>(), theirs.names().collect::<Vec<_>>());
    for name in theirs.names() {
        let [a, b] = [&ours, &theirs].map(|file| file.weight(name).unwrap());
        assert_eq!((&a.ty, a.bytes()), (&b.ty, b.bytes()), "{name}");
    }
    let parameters = [0, 2].iter().flat_map(|layer| {
        let of = move |name: &str| format!("model.layers.{layer}.mlp.{name}");
        ["experts.down_proj", "experts.gate_up_proj", "gate.weight"].map(of)
    });
    let config = json_of(&place, "adapter_config.json");
    assert_eq!(config["target_parameters"], json!(parameters.collect::<Vec<_>>()));

    let on_top = lora("rank = 2, from = 'stack'");
    let mut t = trainer(&model(base), cpu(), &on_top).unwrap();
    for _ in 0..3 {
        step(&mut t, base, 1.0);
    }
    let place = folder.path().join("top");
    t.write_adapter(&place, &lora_of(&on_top), &t.parameters().unwrap()).unwrap();
    let own = t.own_adapter(&place).unwrap();
    for (name, tensor) in t.parameters().unwrap() {
        assert_eq!(own.weight(&name).unwrap().bytes(), tensor.bytes(), "{name}");
    }
    let now = step(&mut t, base, 0.0);
    let weights = Weights::new(Arc::new(Checkpoint::open(model(base)).unwrap()));
    let merged = weights.with_adapter(&place).unwrap().merged().unwrap();
    let whole = folder.path().join("merged");
    percept::model::checkpoint::convert(&merged, &whole, None).unwrap();
    let merged = step(&mut trainer(&whole, cpu(), "").unwrap(), base, 0.0);
    assert!((merged - now).abs() < 1e-4 * now, "{merged} merged, {now} beside the base");
    let dropped = lora("rank = 4, alpha = 8.0, dropout = 0.1");
    let refused = trainer(&model(base), cpu(), &dropped).err().unwrap().to_string();
    assert!(refused.contains("lora.dropout: beside experts"), "{refused}");
}
