//! A checkpoint's parameters on their way to a device.

use std::path::Path;
use std::sync::Arc;

use percept_graph::{DType, Graph, Op, Role, TensorType, decode, dequantize};
use percept_hal::{Buffer, Device, Uses, Weight};

use serde_json::json;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::parameters::{Adapter, Stored};

/// The parameters of a checkpoint, in the dtypes in which it was opened, and those of an adapter to it.
pub struct Weights {
    checkpoint: Arc<Checkpoint>,
    adapter: Option<LowRank>,
    trained: Option<Arc<dyn Trained>>,
    /// Of a model that is yet to be made: whether its head has a matrix of its own.
    described: Option<bool>,
}

/// What training asks of parameters, over what their file says.
pub trait Trained: Send + Sync {
    /// Whether this parameter of the file is trained, and so is f32.
    fn is_master(&self, name: &str) -> bool;

    /// What is trained beside the linear layer `name`, if anything is.
    fn adapter(&self, name: &str) -> Option<Adapter>;

    /// Whether elements before what is trained beside a linear layer are dropped.
    fn drops(&self) -> bool {
        false
    }
}

/// An adapter in the layout of the PEFT library: a folder with adapter_config.json and adapter_model.safetensors.
struct LowRank {
    checkpoint: Checkpoint,
    /// lora_alpha, over the rank or its root.
    alpha: f64,
    over_root: bool,
}

/// What PEFT puts before the names of the model that it adapts.
const ADAPTED: &str = "base_model.model.";

impl Weights {
    /// Parameters of `checkpoint`.
    pub fn new(checkpoint: Arc<Checkpoint>) -> Self {
        Self { checkpoint, adapter: None, trained: None, described: None }
    }

    /// Parameters of a model that is yet to be made: graphs may declare any, in f32 and in the shape that they ask for, and
    /// none can be fetched. `own_head` says whether the head has a matrix of its own or is the table.
    pub fn described(checkpoint: Arc<Checkpoint>, own_head: bool) -> Self {
        Self { described: Some(own_head), ..Self::new(checkpoint) }
    }

    /// With a low-rank adapter beside its linear layers.
    ///
    /// # Errors
    /// When the folder is no adapter, or adapts a layer that is not there, or in another way.
    pub fn with_adapter(mut self, folder: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(folder.join("adapter_model.safetensors"))?;
        let file = folder.join("adapter_config.json");
        let wrong = |why: String| Error::Content { file: file.display().to_string(), why };
        let text = std::fs::read(&file).map_err(|e| wrong(e.to_string()))?;
        let config = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        let config = Config::new(&file.display().to_string(), &config, json!({"peft_type": "LORA"}))?;
        if config.text("peft_type")? != "LORA" || config.flag("use_dora")? {
            return Err(wrong("only plain LoRA adapters are read".into()));
        }
        for name in checkpoint.names() {
            let own = name.strip_prefix(ADAPTED).unwrap_or(name);
            let base = own.strip_suffix(".lora_A.weight").or_else(|| own.strip_suffix(".lora_B.weight"));
            // Tensors that were trained whole have the names of those that they replace.
            let known = base.map_or(self.has(own), |b| self.has(&format!("{b}.weight")));
            if !known || own == name {
                return Err(wrong(format!(
                    "its tensor '{name}' adapts no linear layer and replaces no tensor of the model"
                )));
            }
        }
        let (alpha, over_root) = (config.f64("lora_alpha")?, config.flag("use_rslora")?);
        self.adapter = Some(LowRank { checkpoint, alpha, over_root });
        Ok(self)
    }

    /// As graphs that train them declare them. Weights of a new adapter are not in any file, and [`Weights::fetch`] does not
    /// give them.
    pub fn for_training(mut self, trained: Arc<dyn Trained>) -> Self {
        self.trained = Some(trained);
        self
    }

    /// The checkpoint with its adapter merged into it: W + scale B A, in f32 where the adapter changes something.
    /// Quantized weights are decoded for it.
    ///
    /// # Errors
    /// When a tensor cannot be read or its shape is not the adapter's.
    pub fn merged(self) -> Result<Checkpoint> {
        let mut changed = Vec::new();
        if let Some(adapter) = &self.adapter {
            for tensor in adapter.checkpoint.names() {
                let name = tensor.strip_prefix(ADAPTED).unwrap_or(tensor);
                let layer = name.strip_suffix(".lora_A.weight");
                if layer.is_none() && name.ends_with(".lora_B.weight") {
                    continue;
                }
                let (target, values) = match layer {
                    Some(layer) => (format!("{layer}.weight"), self.merged_layer(layer)?),
                    None => (name.to_string(), widened(&adapter.checkpoint.weight(tensor)?)),
                };
                let dims = self.checkpoint.weight(&target)?.ty.dims;
                changed.push((target, TensorType::new(DType::F32, dims), values));
            }
        }
        let checkpoint = Arc::try_unwrap(self.checkpoint).or_else(|shared| shared.reopened())?;
        Ok(checkpoint.with_tensors("the merged adapter", changed)?)
    }

    /// The bytes of a linear layer's matrix f32[n,k] with what its adapter adds.
    fn merged_layer(&self, layer: &str) -> Result<Vec<u8>> {
        let base = self.checkpoint.weight(&format!("{layer}.weight"))?;
        let down = self.find(&format!("{layer}.lora_A.weight"))?;
        let up = self.find(&format!("{layer}.lora_B.weight"))?;
        let scale = self.adapter(layer).map_or(0.0, |a| a.scale);
        let floats = |w: &Weight| -> Vec<f32> {
            let wide = widened(w);
            wide.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let ([n, rank], [rank_too, k]) = (matrix(&up.ty), matrix(&down.ty));
        if rank != rank_too || base.ty.dims != [n, k] {
            let name = format!("{layer}.weight");
            return Err(Error::TensorShape { name, found: base.ty.clone(), expected: vec![n, k] });
        }
        let (mut values, down, up) = (floats(&base), floats(&down), floats(&up));
        for (row, up) in values.chunks_exact_mut(k.max(1)).zip(up.chunks_exact(rank.max(1))) {
            for (u, down) in up.iter().zip(down.chunks_exact(k.max(1))) {
                row.iter_mut().zip(down).for_each(|(w, d)| *w += scale * u * d);
            }
        }
        Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// The file behind them.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether there is such a parameter.
    pub fn has(&self, name: &str) -> bool {
        match self.described {
            Some(own_head) => own_head && name.ends_with("lm_head.weight"),
            None => self.checkpoint.ty(name).is_some(),
        }
    }

    /// The first of several prefixes under which `name` exists; the first of all when it exists under none.
    pub fn prefix<'a>(&self, prefixes: &[&'a str], name: &str) -> &'a str {
        let found = prefixes.iter().find(|p| self.has(&format!("{p}{name}")));
        found.or(prefixes.first()).copied().unwrap_or("")
    }

    /// A parameter as a graph declares it. Its shape may be another one of the same elements.
    ///
    /// # Errors
    /// When the checkpoint lacks it or holds another number of elements.
    pub fn fetch(&self, name: &str, ty: &TensorType) -> Result<Weight> {
        let weight = self.find(name)?;
        check_extent(name, &weight.ty, &ty.dims)?;
        let bytes: Arc<dyn AsRef<[u8]> + Send + Sync> =
            if weight.ty.dtype == ty.dtype { Arc::new(Borrowed(weight)) } else { Arc::new(widened(&weight)) };
        Ok(Weight::new(ty.clone(), bytes)?)
    }

    fn find(&self, name: &str) -> Result<Weight> {
        let adapted = format!("{ADAPTED}{name}");
        match &self.adapter {
            Some(a) if a.checkpoint.ty(&adapted).is_some() => Ok(a.checkpoint.weight(&adapted)?),
            _ => Ok(self.checkpoint.weight(name)?),
        }
    }

    /// A parameter as a graph declares it, on the device.
    ///
    /// # Errors
    /// As [`Weights::fetch`], or when the device cannot take it.
    pub fn load(&self, device: &dyn Device, name: &str, ty: &TensorType, uses: Uses) -> Result<Buffer> {
        Ok(device.load_weight(&self.fetch(name, ty)?, uses)?)
    }
}

impl Stored for Weights {
    fn dtype(&self, name: &str, dims: &[usize]) -> Result<DType> {
        if self.described.is_some() {
            return Ok(DType::F32);
        }
        if let Some(trained) = &self.trained {
            let layer = name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight"));
            if layer.is_some_and(|l| trained.adapter(l).is_some()) {
                return Ok(DType::F32);
            }
            if let Some(ty) = self.checkpoint.ty(name).filter(|_| trained.is_master(name)) {
                check_extent(name, ty, dims)?;
                return Ok(DType::F32);
            }
        }
        let adapted = self.adapter.as_ref().and_then(|a| a.checkpoint.ty(&format!("{ADAPTED}{name}")));
        let Some(ty) = adapted.or(self.checkpoint.ty(name)) else {
            // Asking for it gives the error that names what is near.
            return Ok(self.checkpoint.weight(name)?.ty.dtype);
        };
        check_extent(name, ty, dims)?;
        Ok(ty.dtype)
    }

    fn adapter(&self, name: &str) -> Option<Adapter> {
        if let Some(new) = self.trained.as_ref().and_then(|t| t.adapter(name)) {
            return Some(new);
        }
        let adapter = self.adapter.as_ref()?;
        let down = adapter.checkpoint.ty(&format!("{ADAPTED}{name}.lora_A.weight"))?;
        let rank = *down.dims.first()?;
        let over = if adapter.over_root { (rank as f64).sqrt() } else { rank as f64 };
        Some(Adapter { rank, scale: (adapter.alpha / over) as f32 })
    }

    fn drops(&self, name: &str) -> bool {
        self.trained.as_ref().is_some_and(|t| t.drops() && t.adapter(name).is_some())
    }
}

/// The bytes of a weight under another shape, still in the mapped file.
struct Borrowed(Weight);

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

fn check_extent(name: &str, found: &TensorType, expected: &[usize]) -> Result<()> {
    let asked = TensorType::new(found.dtype, expected);
    // Blocks lie along the last dimension, which must then be the same.
    let same_rows = !found.dtype.is_quantized() || found.dims.last() == expected.last();
    if asked.numel() == found.numel() && same_rows {
        return Ok(());
    }
    Err(Error::TensorShape { name: name.to_string(), found: found.clone(), expected: expected.to_vec() })
}

/// Rows and columns; zeros for what is no matrix.
fn matrix(ty: &TensorType) -> [usize; 2] {
    ty.dims[..].try_into().unwrap_or_default()
}

/// The elements as f32: what small parameters become.
fn widened(weight: &Weight) -> Vec<u8> {
    let mut wide = vec![0f32; weight.ty.numel()];
    let unit = weight.ty.dtype.block_bytes();
    if weight.ty.dtype.is_quantized() {
        let whole = dequantize(weight.ty.dtype, weight.bytes(), &mut wide);
        debug_assert!(whole, "a weight has as many bytes as its type says");
    } else {
        let elements = weight.bytes().chunks_exact(unit);
        wide.iter_mut().zip(elements).for_each(|(w, b)| *w = decode(weight.ty.dtype, b) as f32);
    }
    wide.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// What a graph does with each of its parameters, for [`Device::load_weight`].
pub fn uses(graph: &Graph) -> Vec<Uses> {
    use percept_graph::Composite;
    let mut uses = vec![Uses::default(); graph.inputs().len()];
    let mut of_value = vec![None; graph.values().len()];
    for (i, input) in graph.inputs().iter().enumerate().filter(|(_, i)| i.role == Role::Parameter) {
        of_value[input.value.index()] = Some(i);
    }
    for node in graph.nodes() {
        for (operand, v) in node.inputs.iter().enumerate() {
            let Some(i) = of_value[v.index()] else { continue };
            match (&node.op, operand) {
                (
                    Op::Composite(
                        Composite::Linear { .. } | Composite::QuantizedDot { .. } | Composite::Int8Dot,
                    ),
                    1,
                ) => uses[i].linear = true,
                (Op::Composite(Composite::Embedding { .. }), 0) => uses[i].embedding = true,
                _ => uses[i].other = true,
            }
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use percept_graph::{Trace, passes::int8_dots};

    use super::*;

    #[test]
    fn a_tied_weight_is_looked_up_in_and_multiplied_exactly_or_in_int8() {
        let t = Trace::new("tied");
        let (w, ids) = (t.parameter("w", DType::Q4_1, [8, 32]), t.data("ids", DType::I32, [3]));
        let x = w.embedding(&ids, DType::F32);
        t.output("y", &x.linear(&w, None, None));
        let graph = t.finish().unwrap();
        let expected = Uses { linear: true, embedding: true, ..Uses::default() };
        for graph in [int8_dots(&graph).unwrap(), graph] {
            assert_eq!(uses(&graph)[0], expected, "{graph}");
        }
    }
}
