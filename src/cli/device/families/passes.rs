//! What a tiny model runs for each part of its case, as graphs with their inputs.

use std::sync::Arc;

use percept::graph::{Composite, DType, Graph, HostTensor, Op, Role, TensorType, Trace, grad_graph};
use percept::hal::Device;
use percept::infer::{RecordedRun, Session, SessionOptions};
use percept::modalities::{Array, Inputs, Values};
use percept::model::family::Whisper;
use percept::model::{
    CausalModel, Contrastive, FrameHead, FrameModel, ImageEncoder, Model, PassRows, SequenceRows,
    TextEncoder, Weights,
};
use percept::train::batch::Batch;
use percept::train::encode::Encoded;
use percept::train::forward::{Purpose, forward};

use super::tiny::Description;
use crate::cli::Failure;
use crate::cli::device::subject::Subject;
use crate::cli::device::values::example;

/// A part of a family's case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What turns media, or texts, into rows.
    Encoders,
    /// The whole prompt.
    Prefill,
    /// One token behind it.
    Decode,
    /// Gradients of all parameters.
    Backward,
    /// Gradients, and a step of AdamW with them.
    Step,
}

impl Part {
    /// Every part, in the order in which a model has them.
    pub const ALL: [Part; 5] = [Part::Encoders, Part::Prefill, Part::Decode, Part::Backward, Part::Step];

    /// Its name in the id of a case.
    pub fn name(self) -> &'static str {
        match self {
            Part::Encoders => "encoders",
            Part::Prefill => "prefill",
            Part::Decode => "decode",
            Part::Backward => "backward",
            Part::Step => "step",
        }
    }
}

/// The arrays of a graph by name.
type Named = Vec<(String, HostTensor)>;

/// What a part of a model runs. Answers are recorded on `cpu`.
pub fn subjects(
    model: Model,
    description: &Description,
    part: Part,
    cpu: &Arc<dyn Device>,
) -> Result<Vec<Subject>, Failure> {
    match model {
        Model::Causal(model) => match part {
            Part::Backward | Part::Step => {
                let (graph, arrays) = loss(&*model, description.inputs(&*model)?)?;
                Ok(vec![learn(&graph, arrays, model.weights(), part)?])
            }
            _ => answered(model, description, part, cpu),
        },
        Model::Contrastive(model) => encoded(contrastive(&model, description)?, &model.weights, part),
        Model::ImageEncoder(model) => encoded(vec![images(&model, description)?], &model.weights, part),
        Model::TextEncoder(model) => encoded(vec![texts(&model)?], &model.weights, part),
        Model::Frames(model) => encoded(frames(&model, description)?, &model.weights, part),
        Model::Speech(model) => match part {
            Part::Prefill => Ok(vec![transcribed(&model, 5)?]),
            Part::Decode => Ok(vec![transcribed(&model, 1)?]),
            _ => encoded(speech(&model)?, model.weights(), part),
        },
    }
}

/// The graphs of encoders, or the mean square of what they give to be learnt.
fn encoded(graphs: Vec<(Graph, Named)>, weights: &Weights, part: Part) -> Result<Vec<Subject>, Failure> {
    let subject = |(graph, arrays): (Graph, Named)| match part {
        Part::Backward | Part::Step => learn(&squares(graph)?, arrays, weights, part),
        _ => filled(graph, &arrays, weights),
    };
    graphs.into_iter().map(subject).collect()
}

/// Encoders, the prompt, or the step behind it, of a model that answers.
fn answered(
    model: Box<dyn CausalModel>,
    description: &Description,
    part: Part,
    cpu: &Arc<dyn Device>,
) -> Result<Vec<Subject>, Failure> {
    let inputs = description.inputs(&*model)?;
    let encoders = model.encoder_runs(&inputs)?.len();
    let mut session = Session::new(cpu.clone(), model, SessionOptions::default())?;
    session.record_runs();
    let (mut sequence, logits) = session.prefill(&inputs, 2, 0)?;
    // Whatever comes next, were it the end.
    let last = logits.len().saturating_sub(session.model().decoder().vocab)..;
    let next = logits[last].iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(id, _)| id);
    session.decode(&mut sequence, next as i32)?;
    let model = session.shared_model();
    let runs = session.take_recorded_runs();
    let is_step = |run: &RecordedRun| run.graph.name().starts_with("step.");
    let steps: Vec<usize> = (0..runs.len()).filter(|&i| is_step(&runs[i])).collect();
    let (Some(&last), true) = (steps.last(), steps.len() > 1) else {
        return Err(Failure::Negative("a prompt and a token are two steps, and there were fewer".into()));
    };
    let of_part = |i: usize| match part {
        Part::Encoders => !is_step(&runs[i]),
        Part::Prefill => is_step(&runs[i]) && i != last,
        _ => i == last,
    };
    let chosen: Vec<usize> = (0..runs.len()).filter(|&i| of_part(i)).collect();
    if part == Part::Encoders && chosen.len() < encoders.min(1) {
        return Err(Failure::Negative("no encoder ran".into()));
    }
    let weights = model.weights();
    let recorded = |i: usize| {
        let run = &runs[i];
        let inputs = run.graph.inputs().iter().zip(&run.inputs).map(|(input, bytes)| match bytes {
            Some(bytes) => Ok(bytes.clone()),
            None => Ok(weights.fetch(&input.name, run.graph.ty(input.value))?.bytes().to_vec()),
        });
        Ok(Subject { graph: Graph::clone(&run.graph), inputs: inputs.collect::<Result<_, Failure>>()? })
    };
    chosen.into_iter().map(recorded).collect()
}

/// The loss of the prompt's second half, as training computes it.
fn loss(model: &dyn CausalModel, mut inputs: Inputs) -> Result<(Graph, Named), Failure> {
    let tokens = percept::model::input_ids(&inputs)?.len();
    let answers = (0..tokens).map(|i| i64::from(i >= tokens / 2)).collect();
    inputs.arrays.insert("answers".into(), Array { dims: vec![1, tokens], values: Values::I64(answers) });
    let sample = Encoded::of_inputs(model, "sample", inputs)?;
    let batch = Batch::new(model, &[vec![&sample]], tokens)?;
    let graph = forward(
        model,
        &batch.shape,
        &batch.runs,
        Purpose::Train { smoothing: 0.0, balance: None, scaled: false },
    )?;
    let count = HostTensor::from_f32([], &[batch.answers as f32]).map_err(percept::infer::Error::from)?;
    Ok((graph, batch.arrays.into_iter().chain([("count".to_string(), count)]).collect()))
}

/// The mean square of a graph's outputs as its output `objective`.
fn squares(graph: Graph) -> Result<Graph, Failure> {
    let outputs: Vec<_> = graph.outputs().iter().map(|o| o.value).collect();
    let t = Trace::resume(graph);
    let mean = |v| {
        let x = t.value(v);
        let axes: Vec<usize> = (0..x.rank()).collect();
        let count = (0..x.rank()).map(|i| x.dim(i)).product::<usize>().max(1);
        (&x * &x).sum(axes) / count as f64
    };
    let Some(objective) = outputs.into_iter().map(mean).reduce(|a, b| a + b) else {
        return Err(Failure::Negative("the graph has no output".into()));
    };
    t.output("objective", &objective);
    Ok(t.finish()?)
}

/// The gradients of `objective` with respect to all parameters, and for a step what AdamW makes of them.
fn learn(graph: &Graph, arrays: Named, weights: &Weights, part: Part) -> Result<Subject, Failure> {
    let parameters: Vec<(String, TensorType)> = graph
        .inputs()
        .iter()
        .filter(|i| i.role == Role::Parameter && graph.ty(i.value).dtype.is_float())
        .map(|i| (i.name.clone(), graph.ty(i.value).clone()))
        .collect();
    let names: Vec<&str> = parameters.iter().map(|(name, _)| &name[..]).collect();
    let mut graph = grad_graph(graph, "objective", &names)?;
    if part == Part::Backward {
        return filled(graph, &arrays, weights);
    }
    let place = |graph: &Graph, name: &str| graph.output_index(name).map(|i| graph.outputs()[i].value);
    let gradients: Vec<_> = names.iter().map(|name| place(&graph, &format!("grad.{name}"))).collect();
    let own: Vec<_> = names.iter().map(|n| graph.input_index(n).map(|i| graph.inputs()[i].value)).collect();
    graph.retain_outputs(|name| name == "loss" || name == "objective");
    let t = Trace::resume(graph);
    // With a large epsilon a step is proportional to its gradient, and the noise of a gradient that should be zero stays noise.
    let adamw = Composite::AdamW { beta1: 0.9, beta2: 0.95, eps: 0.1, weight_decay: 0.01 };
    let (rate, step) = (t.full(DType::F32, [], 0.5), t.full(DType::F32, [], 3.0));
    for (((name, ty), gradient), value) in parameters.iter().zip(gradients).zip(own) {
        let (Some(gradient), Some(value)) = (gradient, value) else { continue };
        let [m, v] = [0.01, 0.02].map(|moment| t.full(ty.dtype, ty.dims.clone(), moment));
        let operands = [&t.value(value), &t.value(gradient), &m, &v, &rate, &step];
        let updated = t.ops(Op::Composite(adamw.clone()), &operands);
        updated
            .iter()
            .zip(["value", "mean", "square"])
            .for_each(|(y, what)| t.output(format!("{what}.{name}"), y));
    }
    filled(t.finish()?, &arrays, weights)
}

/// A graph with the model's weights and these arrays; what is neither is zeros.
fn filled(graph: Graph, arrays: &Named, weights: &Weights) -> Result<Subject, Failure> {
    let mut inputs = Vec::new();
    for input in graph.inputs() {
        let ty = graph.ty(input.value);
        let given = arrays.iter().find(|(name, _)| *name == input.name);
        inputs.push(match (given, input.role) {
            (Some((_, array)), _) => array.bytes().to_vec(),
            (None, Role::Parameter) => weights.fetch(&input.name, ty)?.bytes().to_vec(),
            (None, Role::State) => vec![0; ty.bytes()],
            (None, _) => return Err(percept::infer::Error::NotGiven(input.name.clone()).into()),
        });
    }
    Ok(Subject { graph, inputs })
}

fn contrastive(model: &Contrastive, description: &Description) -> Result<Vec<(Graph, Named)>, Failure> {
    let pictures = description.media(None)?.images;
    let arrays = model.image_arguments(&model.prepare(&pictures)?)?;
    let words = ["a red square", "noise"].map(str::to_string);
    let tokens = model.tokens(&words)?;
    let Values::I64(ids) = &tokens.values else {
        return Err(Failure::Negative("the ids of texts are no whole numbers".into()));
    };
    let ends = model.ends(ids);
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let texts = vec![array("input_ids", &tokens.dims, &ids)?, array("ends", &[ends.len()], &ends)?];
    Ok(vec![(model.image_graph(pictures.len())?, arrays), (model.text_graph(words.len())?, texts)])
}

fn array(name: &str, dims: &[usize], values: &[i32]) -> Result<(String, HostTensor), Failure> {
    let array = HostTensor::from_i32(dims.to_vec(), values).map_err(percept::infer::Error::from)?;
    Ok((name.to_string(), array))
}

fn images(model: &ImageEncoder, description: &Description) -> Result<(Graph, Named), Failure> {
    let pixels = model.prepare(&description.media(None)?.images)?;
    Ok((model.graph(&pixels.dims)?, model.arguments(&pixels)?))
}

fn texts(model: &TextEncoder) -> Result<(Graph, Named), Failure> {
    let ids = model.tokens("a red square")?;
    let rows = ids.len() + 3;
    let row = |i: usize| ids.get(i).copied();
    let padded: Vec<i32> = (0..rows).map(|i| row(i).unwrap_or(0)).collect();
    let segments: Vec<i32> = (0..rows).map(|i| i32::from(row(i).is_none())).collect();
    let arrays = vec![array("input_ids", &[1, rows], &padded)?, array("segments", &[1, rows], &segments)?];
    Ok((model.graph(1, rows)?, arrays))
}

/// The encoder, and the keys that the decoder attends to.
fn speech(model: &Whisper) -> Result<Vec<(Graph, Named)>, Failure> {
    [model.encode()?, model.cross_keys()?]
        .into_iter()
        .map(|graph| {
            let arrays = drawn(&graph)?;
            Ok((graph, arrays))
        })
        .collect()
}

/// The encoder of speech row by row, and of a transducer its two networks, over rows that are drawn.
pub fn frames(model: &FrameModel, description: &Description) -> Result<Vec<(Graph, Named)>, Failure> {
    let sounds = description.media(Some(model.features.rate()))?.audios;
    let Some(sound) = sounds.first() else {
        return Err(Failure::Negative("the model hears, and its file has no 'audio'".into()));
    };
    let features = model.features.features(sound).map_err(percept::infer::Error::from)?;
    let Values::F32(values) = &features.values else {
        return Err(Failure::Negative("the features of sound are no floats".into()));
    };
    let run = model.run(values, model.features.heard(sound.samples.len()))?;
    let mut all: Vec<(Graph, Named)> = vec![(run.graph, run.arguments.into_iter().collect())];
    if let FrameHead::Transducer(transducer) = &model.head {
        for graph in [transducer.read(model)?, transducer.join(model, 3)?] {
            let arrays = drawn(&graph)?;
            all.push((graph, arrays));
        }
    }
    Ok(all)
}

/// Values for every input of a graph that is neither a weight nor a state.
fn drawn(graph: &Graph) -> Result<Named, Failure> {
    let data =
        graph.inputs().iter().enumerate().filter(|(_, i)| !matches!(i.role, Role::Parameter | Role::State));
    let array = |(seed, input): (usize, &percept::graph::Input)| -> Result<(String, HostTensor), Failure> {
        let ty = graph.ty(input.value);
        let values =
            HostTensor::new(ty.clone(), example(ty, seed as u64)).map_err(percept::infer::Error::from)?;
        Ok((input.name.clone(), values))
    };
    data.map(array).collect()
}

/// A step of the decoder of speech, over keys and values that are drawn.
fn transcribed(model: &Whisper, rows: usize) -> Result<Subject, Failure> {
    let (decoder, capacity) = (model.decoder(), model.decoder().context);
    let shape = model.step_shape(rows, 1);
    let graph = model.step(&shape)?;
    let mut pass = PassRows {
        ids: (0..rows).map(|i| (i * 7919 % decoder.vocab) as i32).collect(),
        sequences: vec![SequenceRows::single(decoder, 0, rows, capacity)],
        positions: (0..rows as i32).collect(),
        out: vec![rows as i32 - 1],
        ..PassRows::default()
    };
    pass.add_angles(decoder, &[&(0..rows).map(|at| at as f32).collect::<Vec<_>>()], rows);
    let mut arrays: Named = shape.fill(decoder, &pass)?.into_iter().collect();
    let others = drawn(&graph)?;
    arrays.extend(others.into_iter().filter(|(name, _)| name.starts_with("cross.")));
    filled(graph, &arrays, model.weights())
}
