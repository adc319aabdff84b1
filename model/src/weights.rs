//! A checkpoint's parameters on their way to a device.

use std::path::Path;
use std::sync::Arc;

use percept_graph::{DType, TensorType, decode, dequantize};
use percept_hal::{Buffer, Device, Weight};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::parameters::{Adapter, Extras, ParameterSpecs};
use crate::peft::{AdapterFacts, Overlay, floats, suffix};

/// The parameters of a checkpoint, in the dtypes in which it was opened, and those of adapters to it.
pub struct Weights {
    checkpoint: Arc<Checkpoint>,
    overlay: Option<Overlay>,
    trained: Option<Arc<dyn TrainedParameters>>,
    /// Of a model that is yet to be made: whether its head has a matrix of its own.
    described: Option<bool>,
}

/// What training asks of parameters, over what their file says.
pub trait TrainedParameters: Send + Sync {
    /// Whether this parameter of the file is trained, and so is f32.
    fn is_master(&self, name: &str) -> bool;

    /// What is trained beside the linear layer `name`, if anything is.
    fn adapter(&self, name: &str) -> Option<Adapter>;

    /// Whether elements before what is trained beside a linear layer are dropped.
    fn drops(&self) -> bool {
        false
    }
}

impl Weights {
    /// Parameters of `checkpoint`.
    pub fn new(checkpoint: Arc<Checkpoint>) -> Self {
        Self { checkpoint, overlay: None, trained: None, described: None }
    }

    /// Parameters of a model that is yet to be made: graphs may declare any, in f32 and in the shape that
    /// they ask for, and none can be fetched. `own_head` says whether the head has a matrix of its own or is
    /// the table.
    pub fn described(checkpoint: Arc<Checkpoint>, own_head: bool) -> Self {
        Self { described: Some(own_head), ..Self::new(checkpoint) }
    }

    /// With an adapter in the layout of the PEFT library beside its layers: a folder with adapter_config.json
    /// and adapter_model.safetensors.
    ///
    /// # Errors
    /// When the folder is no adapter, asks for what is not done here, or has a tensor that fits nothing in
    /// the checkpoint.
    pub fn with_adapter(self, folder: &Path) -> Result<Self> {
        self.with_weighted_adapter(folder, 1.0)
    }

    /// As [`Weights::with_adapter`], with what it adds multiplied by `weight`. Called several times, adapters
    /// act in that order, as several active ones do in PEFT: what they add is summed.
    ///
    /// # Errors
    /// As [`Weights::with_adapter`]; when the weight is not 1 and the adapter replaces tensors; or when two
    /// adapters replace the same one.
    pub fn with_weighted_adapter(mut self, folder: &Path, weight: f64) -> Result<Self> {
        let overlay = self.overlay.get_or_insert_with(|| Overlay::new(&self.checkpoint));
        overlay.add(&self.checkpoint, folder, weight)?;
        Ok(self)
    }

    /// The parameters of the same file, without the adapters.
    pub fn bare(&self) -> Self {
        Self::new(self.checkpoint.clone())
    }

    /// The adapters, in the order in which they act.
    pub fn adapters(&self) -> Vec<AdapterFacts> {
        self.overlay.as_ref().map(Overlay::facts).unwrap_or_default()
    }

    /// Why an adapter may not belong to this base, a sentence each that names both.
    pub fn doubts(&self) -> &[String] {
        self.overlay.as_ref().map_or(&[], |o| o.doubts())
    }

    /// As graphs that train them declare them. Weights of a new adapter are not in any file, and
    /// [`Weights::fetch`] does not give them.
    pub fn for_training(mut self, trained: Arc<dyn TrainedParameters>) -> Self {
        self.trained = Some(trained);
        self
    }

    /// The checkpoint with its adapters merged into it, in f32 where they change something. Quantized weights
    /// are decoded for it. A head that was the table and is no more becomes a tensor of its own.
    ///
    /// # Errors
    /// When a tensor cannot be read, or products get a bias that the layer has no place for.
    pub fn merged(self) -> Result<Checkpoint> {
        let mut changed = Vec::new();
        let mut parted = false;
        for name in self.overlay.iter().flat_map(Overlay::changed) {
            let Some(overlay) = &self.overlay else { continue };
            let raw = overlay.raw(&self.checkpoint, name)?;
            let dims = raw.ty.dims.clone();
            let weight =
                if overlay.adapts(name) { self.find(&format!("{name}{}", suffix::SUM))? } else { raw };
            parted |= overlay.is_new_head(name);
            changed.push((name.to_string(), TensorType::new(DType::F32, dims), widened(&weight)));
            let Some(layer) = name.strip_suffix(".weight").filter(|l| overlay.extras(l).1) else { continue };
            let (bias, added) = (format!("{layer}.bias"), self.find(&format!("{layer}{}", suffix::BIAS))?);
            if !self.has(&bias) {
                let why = format!(
                    "'lora_bias' adds a bias to '{layer}', which has none, so that it cannot be merged"
                );
                return Err(Error::Content { file: crate::peft::FILE.into(), why });
            }
            // A bias that the adapter replaces is among the changed ones by its own name; both changes are in
            // this one.
            let sum: Vec<f32> =
                floats(&self.find(&bias)?).iter().zip(floats(&added)).map(|(b, a)| b + a).collect();
            let bytes = sum.iter().flat_map(|v| v.to_le_bytes()).collect();
            changed.retain(|(n, ..)| *n != bias);
            changed.push((bias, TensorType::new(DType::F32, [sum.len()]), bytes));
        }
        let checkpoint = Arc::try_unwrap(self.checkpoint).or_else(|shared| shared.reopened())?;
        let mut config = checkpoint.config().clone();
        let merged = checkpoint.with_tensors("the merged adapter", changed)?;
        if !parted {
            return Ok(merged);
        }
        let inner = config.get("text_config").is_some_and(|t| t.is_object());
        config["tie_word_embeddings"] = false.into();
        if inner {
            config["text_config"]["tie_word_embeddings"] = false.into();
        }
        Ok(merged.with_config(config))
    }

    /// The file behind them.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether there is such a parameter.
    pub fn has(&self, name: &str) -> bool {
        match self.described {
            Some(own_head) => own_head && name.ends_with("lm_head.weight"),
            None => {
                let is_new_head = self.overlay.as_ref().is_some_and(|o| o.is_new_head(name));
                self.checkpoint.ty(name).is_some() || is_new_head
            }
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

    /// A parameter in the type that it has in its file, or as adapters bring it.
    pub(crate) fn find(&self, name: &str) -> Result<Weight> {
        let adapted = self.overlay.as_ref().map(|o| o.weight(&self.checkpoint, name)).transpose()?.flatten();
        adapted.map_or_else(|| Ok(self.checkpoint.weight(name)?), Ok)
    }

    /// A parameter as a graph declares it, on the device.
    ///
    /// # Errors
    /// As [`Weights::fetch`], or when the device cannot take it.
    pub fn load(&self, device: &dyn Device, name: &str, ty: &TensorType) -> Result<Buffer> {
        Ok(device.load_weight(&self.fetch(name, ty)?)?)
    }
}

impl ParameterSpecs for Weights {
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
        let adapted = self.overlay.as_ref().and_then(|o| o.ty(&self.checkpoint, name));
        let Some(ty) = adapted.as_ref().or(self.checkpoint.ty(name)) else {
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
        let (rank, scale) = self.overlay.as_ref()?.adapter(name)?;
        Some(Adapter { rank, scale: scale as f32 })
    }

    fn extras(&self, name: &str) -> Extras {
        let (magnitude, bias) = self.overlay.as_ref().map(|o| o.extras(name)).unwrap_or_default();
        Extras { magnitude, bias }
    }

    fn is_adapted(&self, name: &str) -> bool {
        self.overlay.as_ref().is_some_and(|o| o.adapts(name))
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
    if asked.numel() == found.numel() && same_rows && nested(&found.dims, expected) {
        return Ok(());
    }
    Err(Error::TensorShape { name: name.to_string(), found: found.clone(), expected: expected.to_vec() })
}

/// Whether one of two shapes is the other with neighbouring dimensions made one, as the kernel of a convolution is a matrix.
/// Those of a matrix and its transpose are not.
fn nested(a: &[usize], b: &[usize]) -> bool {
    let ends = |dims: &[usize]| -> Vec<usize> {
        let mut ends: Vec<usize> = dims
            .iter()
            .scan(1usize, |product, dim| {
                *product = product.saturating_mul(*dim);
                Some(*product)
            })
            .collect();
        ends.dedup();
        ends
    };
    let (a, b) = (ends(a), ends(b));
    let (fewer, more) = if a.len() < b.len() { (a, b) } else { (b, a) };
    fewer.iter().all(|end| *end == 1 || more.contains(end))
}

/// The elements as f32: what small parameters become.
pub(crate) fn widened(weight: &Weight) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_may_have_other_dimensions_and_not_those_of_its_transpose() {
        let floats = |dims: &[usize]| TensorType::new(DType::F32, dims);
        for (found, expected) in [
            (&[48, 32][..], &[48, 32][..]),
            (&[16, 3, 2, 7, 7], &[16, 294]),
            (&[1, 577, 16], &[577, 16]),
            (&[16], &[1, 1, 16]),
            (&[24, 24, 16], &[576, 16]),
            (&[1], &[]),
        ] {
            check_extent("w", &floats(found), expected).unwrap();
            check_extent("w", &floats(expected), found).unwrap();
        }
        for (found, expected) in
            [(&[48, 32][..], &[32, 48][..]), (&[3, 80, 512], &[512, 240]), (&[4, 6], &[4, 7])]
        {
            assert!(check_extent("w", &floats(found), expected).is_err(), "{found:?}");
        }
    }
}
