//! The graph of a model that is exported, and values for its inputs.

use clap::ValueEnum;
use percept::graph::{Graph, Role};
use percept::model::{Decoder, Model, PassRows, PassShape, SequenceRows, Weights};

use super::{Export, Part};
use crate::cli::Failure;
use crate::cli::device::values::example;

/// A graph with what its parameters are taken from.
pub(super) struct Exported<'m> {
    pub(super) graph: Graph,
    pub(super) weights: &'m Weights,
    /// The decoder and the shape of its pass, where the graph is one.
    pass: Option<(&'m Decoder, PassShape)>,
}

impl<'m> Exported<'m> {
    /// The graph that the options ask for.
    pub(super) fn of(options: &Export, model: &'m Model) -> Result<Self, Failure> {
        let (rows, batch) = (options.rows as usize, options.batch as usize);
        let capacity = options.capacity as usize;
        let alone = |graph, weights| Self { graph, weights, pass: None };
        Ok(match (model, options.part) {
            (Model::Causal(m), None | Some(Part::Decoder)) => {
                let shape = PassShape::single(m.decoder(), rows, capacity);
                let graph = m.decoder().step(m.weights(), &shape)?;
                Self { graph, weights: m.weights(), pass: Some((m.decoder(), shape)) }
            }
            (Model::Contrastive(m), None | Some(Part::Image)) => alone(m.image_graph(batch)?, &m.weights),
            (Model::Contrastive(m), Some(Part::Text)) => alone(m.text_graph(batch)?, &m.weights),
            (Model::Speech(m), None | Some(Part::Audio)) => alone(m.encode()?, m.weights()),
            (Model::Speech(m), Some(Part::CrossKeys)) => alone(m.cross_keys()?, m.weights()),
            (Model::Speech(m), Some(Part::Decoder)) => {
                let shape = m.step_shape(rows, rows);
                Self { graph: m.step(&shape)?, weights: m.weights(), pass: Some((m.decoder(), shape)) }
            }
            (Model::Frames(m), None | Some(Part::Audio)) => {
                // As many frames of sound as --rows asks for rows.
                let frames = rows.saturating_mul(m.encoder.factor()).min(1 << 16);
                alone(m.run(&vec![0.0; frames * m.encoder.bands], frames)?.graph, &m.weights)
            }
            (Model::TextEncoder(m), None | Some(Part::Text)) => alone(m.graph(batch, capacity)?, &m.weights),
            (model, part) => return Err(lacks(options, model, part)),
        })
    }

    /// The bytes of every input that is no parameter: the first step of a sequence for a decoder, whose cache holds
    /// nothing yet, and seeded values for other graphs.
    pub(super) fn example(&self) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let given = match &self.pass {
            Some((decoder, shape)) => {
                let rows = shape.count();
                let positions: Vec<f32> = (0..rows).map(|at| at as f32).collect();
                let capacity = shape.cache.as_ref().map_or(rows, |cache| cache.page * cache.table);
                let mut pass = PassRows {
                    ids: (0..rows).map(|i| ((i + 1) * 7919 % decoder.vocab) as i32).collect(),
                    positions: (0..rows as i32).collect(),
                    out: (0..rows as i32).collect(),
                    sequences: vec![SequenceRows::single(decoder, 0, rows, capacity)],
                    ..PassRows::default()
                };
                pass.add_angles(decoder, &[&positions], rows);
                shape.fill(decoder, &pass)?
            }
            None => Vec::new(),
        };
        let of_input = |(i, input): (usize, &percept::graph::Input)| {
            let ty = self.graph.ty(input.value);
            match (input.role, given.iter().find(|(name, _)| *name == input.name)) {
                (Role::Parameter, _) => None,
                (_, Some((_, array))) => Some(array.bytes().to_vec()),
                (Role::State, None) => Some(vec![0; ty.bytes()]),
                (_, None) => Some(example(ty, i as u64 + 1)),
            }
        };
        Ok(self.graph.inputs().iter().enumerate().map(of_input).collect())
    }
}

fn lacks(options: &Export, model: &Model, part: Option<Part>) -> Failure {
    let (kind, parts) = match model {
        Model::Causal(_) => (
            "a model that continues text",
            "decoder; its towers are made anew for each image's size, so there is no one graph to export",
        ),
        Model::Contrastive(_) => ("a model that embeds images and texts", "image, text"),
        Model::Speech(_) => ("a model that transcribes speech", "audio, cross-keys, decoder"),
        Model::Frames(_) => ("a model that names a token for every row of sound", "audio"),
        Model::TextEncoder(_) => ("a model that embeds texts", "text"),
        Model::ImageEncoder(_) => (
            "a model that embeds images",
            "none; its tower is made anew for each image's size, so there is no one graph to export",
        ),
    };
    let name = part.and_then(|part| part.to_possible_value());
    let name = name.map_or("to export".to_string(), |value| format!("'{}'", value.get_name()));
    Failure::Usage(format!("{} is {kind} and has no part {name}; its parts: {parts}", options.path.display()))
}
