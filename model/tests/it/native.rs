//! The native family on the reference: a new checkpoint opens like any other, its steps over a cache give what its
//! training forward gives, and gradients reach every parameter.

use std::collections::BTreeMap;
use std::sync::Arc;

use percept_graph::{DType, Graph, HostTensor, Role, Tensor, Trace, grad_graph, reference};
use percept_modalities::audio::Waveform;
use percept_modalities::image::Image;
use percept_modalities::video::Clip;
use percept_modalities::{Aim, Content, Inputs, Media, Message, Part, Values};
use percept_model::checkpoint::Checkpoint;
use percept_model::family::percept::{SPECIAL_TOKENS, initial};
use percept_model::{
    AllF32, CausalModel, Features, MediaShape, Model, Parameters, PassRows, PassShape, SequenceRows,
};
use serde_json::{Value, json};

/// A byte-level tokenizer.json with the family's special tokens and no merges.
fn tokenizer() -> Vec<u8> {
    // GPT-2's letters for bytes: printable ones stand for themselves, the rest for what follows U+0100.
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut others = 256..;
    let letter = |b: u32| if printable(b) { b } else { others.next().unwrap() };
    let letters: Vec<u32> = (0..256).map(letter).collect();
    let special = SPECIAL_TOKENS.iter().map(|t| t.to_string());
    let bytes = letters.into_iter().map(|l| char::from_u32(l).unwrap().to_string());
    let vocab: serde_json::Map<String, Value> =
        special.chain(bytes).enumerate().map(|(i, t)| (t, json!(i))).collect();
    let added: Vec<Value> = (SPECIAL_TOKENS.iter().enumerate())
        .map(|(i, t)| {
            json!({ "id": i, "content": t, "special": true, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false })
        })
        .collect();
    let level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let file = json!({
        "version": "1.0", "added_tokens": added, "pre_tokenizer": level, "decoder": level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    file.to_string().into_bytes()
}

fn small() -> Value {
    json!({
        "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "vision_config": { "channels": [4], "image_size": 8, "frame_size": 8, "num_frames": 4 },
        "audio_config": { "num_mel_bins": 8, "num_frames": 12, "patch_size": 4 },
    })
}

fn open(settings: &Value, seed: u64) -> (tempfile::TempDir, Box<dyn CausalModel>) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("new");
    initial(settings, &tokenizer(), seed, &place).unwrap();
    match percept_model::open(Arc::new(Checkpoint::open(&place).unwrap())).unwrap() {
        Model::Causal(model) => (folder, model),
        _ => panic!("the family continues sequences"),
    }
}

fn picture(edge: usize, seed: usize) -> Image {
    let rgb = (0..edge * edge * 3).map(|i| ((i * 37 + seed * 101) % 256) as u8).collect();
    Image { width: edge, height: edge, rgb }
}

/// A question about one medium of each kind, and its answer.
fn sample(model: &dyn CausalModel) -> Inputs {
    let frames = (0..4).map(|i| picture(10, i)).collect();
    let samples = (0..16_000).map(|i| (i as f32 * 0.05).sin()).collect();
    let media = Media {
        images: vec![picture(9, 7)],
        videos: vec![Clip::steady(frames, 8.0)],
        audios: vec![Waveform { samples, rate: 16_000 }],
        ..Media::default()
    };
    let parts = vec![
        Part::Image { path: None },
        Part::Video { path: None },
        Part::Audio { path: None },
        Part::Text { text: "what?".into() },
    ];
    let turns = [
        Message::new("user", Content::Parts(parts)),
        Message::new("assistant", Content::Text("a cat".into())),
    ];
    model.processor().prepare(&turns, &media, Aim::Learn).unwrap()
}

/// A graph on parameters of the model and other inputs by name.
fn run(
    model: &dyn CausalModel,
    graph: &Graph,
    given: &BTreeMap<String, HostTensor>,
) -> BTreeMap<String, Vec<f64>> {
    let argument = |i: &percept_graph::Input| {
        let ty = graph.ty(i.value);
        match (i.role, given.get(&i.name)) {
            (_, Some(t)) => t.clone(),
            (Role::Parameter, _) => {
                HostTensor::new(ty.clone(), model.weights().fetch(&i.name, ty).unwrap().bytes()).unwrap()
            }
            _ => HostTensor::from_f64(ty.clone(), &vec![0.0; ty.numel()]).unwrap(),
        }
    };
    let arguments: Vec<HostTensor> = graph.inputs().iter().map(argument).collect();
    let outputs = reference::evaluate(graph, &arguments).unwrap();
    graph.outputs().iter().zip(outputs).map(|(o, t)| (o.name.clone(), t.values())).collect()
}

fn features(model: &dyn CausalModel, inputs: &Inputs) -> Vec<f64> {
    let runs = model.encoder_runs(inputs).unwrap();
    runs.iter().flat_map(|r| run(model, &r.graph, &r.arguments).remove("features").unwrap()).collect()
}

/// Everything that a pass over the decoder reads of rows `start..end` of a layout, in a sequence with room for `capacity`.
fn arguments(
    model: &dyn CausalModel,
    inputs: &Inputs,
    shape: &PassShape,
    (start, end): (usize, usize),
    capacity: usize,
) -> BTreeMap<String, HostTensor> {
    let (layout, all) = (model.layout(inputs).unwrap(), features(model, inputs));
    let (d, rows) = (model.decoder(), end - start);
    let mut pass = PassRows {
        ids: layout.ids[start..end].to_vec(),
        blocks: layout.blocks.as_ref().unwrap()[start..end].to_vec(),
        features: layout.features[start..end].to_vec(),
        given: vec![0.0; rows * d.hidden],
        sequences: vec![SequenceRows::single(d, start, rows, capacity)],
        ..PassRows::default()
    };
    let positions: Vec<&[f32]> = layout.positions.iter().map(|p| &p[start..end]).collect();
    pass.add_angles(d, &positions, layout.ids.len());
    for (i, place) in pass.features.iter().enumerate() {
        let Some(row) = place else { continue };
        let from = &all[row * d.hidden..(row + 1) * d.hidden];
        (0..d.hidden).for_each(|k| pass.given[i * d.hidden + k] = from[k] as f32);
    }
    shape.fill(d, &pass).unwrap().into_iter().collect()
}

/// Logits of all rows and the loss of the answers, as training computes them, the encoders inside.
fn training(model: &dyn CausalModel, inputs: &Inputs) -> (Graph, BTreeMap<String, HostTensor>) {
    let layout = model.layout(inputs).unwrap();
    let n = layout.ids.len();
    let shape = PassShape { rows: [1, n], blocks: true, media: MediaShape::Computed, ..PassShape::default() };
    let mut given = arguments(model, inputs, &shape, (0, n), n);
    let d = model.decoder();
    let t = Trace::new("train");
    let p = Parameters::new(&t, &AllF32);
    let pass = shape.declare(d, &t);
    let mut parts = Vec::new();
    for run in model.encoder_runs(inputs).unwrap() {
        let g = &run.graph;
        let input = |i: &percept_graph::Input| match i.role {
            Role::Parameter => p.shared(&i.name, g.ty(i.value)),
            _ => t.input(&i.name, i.role, g.ty(i.value).clone()),
        };
        let own: Vec<Tensor> = g.inputs().iter().map(input).collect();
        parts.extend(t.inline(g, &own.iter().collect::<Vec<_>>()));
        given.extend(run.arguments.clone());
    }
    let all = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0).unwrap();
    let features = Features::computed(d, &shape, &pass, &[all]);
    let logits = d.logits(&p, &d.rows(&p, &shape, &pass, &d.context(&shape, &pass), features));
    t.output("logits", &logits);
    let Values::I64(learnt) = &inputs.arrays["answers"].values else { panic!("answers are integers") };
    let label = |i: usize| match learnt.get(i + 1) {
        Some(1) => layout.ids[i + 1],
        _ => -1,
    };
    given.insert("labels".into(), HostTensor::from_i32([n], &(0..n).map(label).collect::<Vec<_>>()).unwrap());
    let labels = t.data("labels", DType::I32, [n]);
    t.output("loss", &logits.cross_entropy(&labels, -1, 0.0).sum([0]));
    drop(p);
    (t.finish().unwrap(), given)
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-5, "{what}: off by {worst}");
}

#[test]
fn steps_over_a_cache_are_the_training_forward() {
    let (_folder, model) = open(&small(), 3);
    let inputs = sample(&*model);
    let layout = model.layout(&inputs).unwrap();
    let (n, vocab) = (layout.ids.len(), model.decoder().vocab);
    let (graph, given) = training(&*model, &inputs);
    let expected = run(&*model, &graph, &given).remove("logits").unwrap();
    // The question in one step, the answer token by token.
    let question = layout.blocks.as_ref().unwrap().iter().rposition(|&b| b >= 0).unwrap() + 1;
    let mut caches: BTreeMap<String, HostTensor> = BTreeMap::new();
    for (start, end) in [(0, question)].into_iter().chain((question..n).map(|i| (i, i + 1))) {
        let shape = PassShape {
            blocks: true,
            media: MediaShape::Given,
            ..PassShape::single(model.decoder(), end - start, n)
        };
        let step = model.decoder().step(model.weights(), &shape).unwrap();
        let mut given = arguments(&*model, &inputs, &shape, (start, end), n);
        given.extend(caches.clone());
        let outputs = run(&*model, &step, &given);
        assert_near(
            &outputs["logits"],
            &expected[start * vocab..end * vocab],
            &format!("rows {start}..{end}"),
        );
        for input in step.inputs().iter().filter(|i| i.role == Role::State) {
            let cache = HostTensor::from_f64(step.ty(input.value).clone(), &outputs[&input.name]).unwrap();
            caches.insert(input.name.clone(), cache);
        }
    }
}

#[test]
fn gradients_reach_every_parameter() {
    let (_folder, model) = open(&small(), 4);
    let (graph, given) = training(&*model, &sample(&*model));
    let names: Vec<&str> = model.weights().checkpoint().names().collect();
    let graph = grad_graph(&graph, "loss", &names).unwrap();
    let outputs = run(&*model, &graph, &given);
    for name in names {
        let gradient = &outputs[&format!("grad.{name}")];
        assert!(gradient.iter().any(|g| g.abs() > 1e-9), "{name} gets no gradient");
    }
}

#[test]
fn many_media_are_one_run_of_each_kind() {
    let (_folder, model) = open(&small(), 5);
    let one = sample(&*model);
    let mut two = one.clone();
    for (name, array) in &mut two.arrays {
        match &mut array.values {
            Values::I64(v) => {
                v.extend_from_within(..);
                array.dims[1] *= 2;
            }
            Values::F32(v) => {
                v.extend_from_within(..);
                array.dims[0] *= 2;
            }
        }
        assert_eq!(array.dims.iter().product::<usize>() % 2, 0, "{name}");
    }
    assert_eq!(model.encoder_runs(&two).unwrap().len(), 3);
    let (of_one, of_two) = (features(&*model, &one), features(&*model, &two));
    let (single, double) = (model.layout(&one).unwrap(), model.layout(&two).unwrap());
    let (n, d) = (single.ids.len(), model.decoder().hidden);
    for (i, place) in double.features.iter().enumerate() {
        assert_eq!(place.is_some(), single.features[i % n].is_some());
        let (Some(a), Some(b)) = (place, single.features[i % n]) else { continue };
        assert_near(&of_two[a * d..(a + 1) * d], &of_one[b * d..(b + 1) * d], &format!("row {i}"));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bytes = |seed| {
        let (folder, _) = open(&small(), seed);
        std::fs::read(folder.path().join("new/model.safetensors")).unwrap()
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}

#[test]
fn impossible_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |settings: Value| {
        initial(&settings, &tokenizer(), 0, &folder.path().join("x")).unwrap_err().to_string()
    };
    for (settings, word) in [
        (json!({ "hiden_size": 3 }), "'hiden_size' is not known"),
        (json!({ "num_attention_heads": 0 }), "num_attention_heads"),
        (json!({ "vision_config": { "image_size": 50 } }), "multiple of 8"),
        (json!({ "vision_config": { "num_frames": 5 } }), "pairs"),
        (json!({ "audio_config": { "patch_size": 5 } }), "multiple of 5"),
        (json!(3), "object"),
    ] {
        let e = refused(settings);
        assert!(e.contains(word), "{e}");
    }
    let e = initial(&json!({}), b"{}", 0, &folder.path().join("x")).unwrap_err().to_string();
    assert!(e.contains("tokenizer.json"), "{e}");
}
