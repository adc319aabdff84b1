//! Adapters that add to linear layers and experts of a decoder and do nothing else. What they do to a row depends on that row
//! alone, so the rows of one step may have different ones.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use percept_graph::DType;
use percept_hal::Weight;

use crate::cache::PAGE;
use crate::causal::CausalModel;
use crate::error::Result;
use crate::parameters::{Adapter, Extras, ParameterSpecs};
use crate::pass::PassShape;
use crate::peft::suffix;
use crate::weights::Weights;

/// An adapter that is opened over a model.
pub enum OpenedAdapter {
    /// It adds to linear layers of the decoder, or to its experts.
    Layers(LayerAdapter),
    /// It does more than that: what it does, in words that follow the adapter's name. It needs a model of its own.
    More(String),
}

/// An adapter that adds to linear layers of one model's decoder. Its tensors are read and checked.
pub struct LayerAdapter {
    base: PathBuf,
    path: PathBuf,
    doubts: Vec<String>,
    layers: AdapterLayers,
    tensors: Vec<(String, Weight)>,
}

/// What an adapter does beside each layer, by the layer's name and whatever its numbers: adapters with equal ones can
/// stand for one another in a graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AdapterLayers(BTreeMap<String, LayerAddition>);

/// The addition to one layer; its factor by its bits, so that additions can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LayerAddition {
    rank: usize,
    scale: u32,
    extras: Extras,
}

impl AdapterLayers {
    /// What is done beside a linear layer, if anything is.
    pub fn find(&self, layer: &str) -> Option<(Adapter, Extras)> {
        let LayerAddition { rank, scale, extras } = *self.0.get(layer)?;
        Some((Adapter { rank, scale: f32::from_bits(scale) }, extras))
    }
}

impl LayerAdapter {
    /// The adapter in a folder of PEFT's layout, over a model.
    ///
    /// # Errors
    /// When the folder is no adapter, or does not fit the model.
    pub fn open(model: &dyn CausalModel, folder: &Path) -> Result<OpenedAdapter> {
        let base = model.weights();
        if let Some(own) = base.adapters().first() {
            let why = format!(
                "stands on a model with an adapter of its own, {}, and what they add is summed",
                own.path.display()
            );
            return Ok(OpenedAdapter::More(why));
        }
        let weights = base.bare().with_adapter(folder)?;
        let linear = LinearLayers::of(model)?;
        let mut layers = BTreeMap::new();
        let mut tensors = Vec::new();
        for facts in weights.adapters() {
            if let Some(name) = facts.replaced.first() {
                return Ok(OpenedAdapter::More(format!("replaces '{name}'")));
            }
            for name in &facts.adapted {
                let layer =
                    Some(name.strip_suffix(".weight").unwrap_or(name)).filter(|layer| linear.have(layer));
                let Some((layer, Adapter { rank, scale })) =
                    layer.and_then(|l| Some((l, weights.adapter(l)?)))
                else {
                    return Ok(OpenedAdapter::More(format!(
                        "changes '{name}', which is no linear layer of the decoder"
                    )));
                };
                let parts = [suffix::DOWN, suffix::UP, suffix::MAGNITUDE, suffix::BIAS];
                let extras = weights.extras(layer);
                let there = [true, true, extras.magnitude, extras.bias];
                for (part, _) in parts.iter().zip(there).filter(|(_, there)| *there) {
                    let name = format!("{layer}{part}");
                    let tensor = weights.find(&name)?;
                    tensors.push((name, tensor));
                }
                layers.insert(layer.to_string(), LayerAddition { rank, scale: scale.to_bits(), extras });
            }
        }
        Ok(OpenedAdapter::Layers(Self {
            base: base.checkpoint().path().to_path_buf(),
            path: folder.to_path_buf(),
            doubts: weights.doubts().to_vec(),
            layers: AdapterLayers(layers),
            tensors,
        }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the model is that it was opened over.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Why it may not belong to the model, a sentence each that names both.
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// What it does beside each layer.
    pub fn layers(&self) -> &AdapterLayers {
        &self.layers
    }

    /// Its tensors, by the names that a graph gives the adapter of all rows.
    pub fn tensors(&self) -> &[(String, Weight)] {
        &self.tensors
    }
}

/// The linear layers of a decoder, as tracing it finds them.
struct LinearLayers<'a> {
    weights: &'a Weights,
    linear: RefCell<BTreeSet<String>>,
    /// Tensors that are read whole, which an addition beside a product would miss.
    whole: RefCell<BTreeSet<String>>,
}

impl<'a> LinearLayers<'a> {
    fn of(model: &'a dyn CausalModel) -> Result<Self> {
        let (linear, whole) = Default::default();
        let found = Self { weights: model.weights(), linear, whole };
        model.decoder().step(&found, &PassShape::single(model.decoder(), 1, PAGE))?;
        Ok(found)
    }

    fn have(&self, layer: &str) -> bool {
        let whole = self.whole.borrow();
        self.linear.borrow().contains(layer)
            && ![&format!("{layer}.weight"), layer].iter().any(|n| whole.contains(*n))
    }
}

impl ParameterSpecs for LinearLayers<'_> {
    fn dtype(&self, name: &str, dims: &[usize]) -> Result<DType> {
        self.weights.dtype(name, dims)
    }

    fn adapter(&self, name: &str) -> Option<Adapter> {
        self.linear.borrow_mut().insert(name.to_string());
        None
    }

    fn is_adapted(&self, name: &str) -> bool {
        self.whole.borrow_mut().insert(name.to_string());
        false
    }
}
