//! Low-rank adapters in PEFT's layout: written, compared with what a run trains, and put on top of one
//! another.

mod layout;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept_graph::{DType, HostTensor};
use percept_model::checkpoint::{self, BASE_FILE, Base, Checkpoint};
use percept_model::{ParameterSpecs as _, TrainedParameters as _, Weights, adapter_tensors, tied_table};
use serde_json::{Value, json};

use crate::config::LoraConfig;
use crate::error::{Error, Result};
use crate::plan::TrainingPlan;
use crate::trainer::floats;
use layout::{HEAD, Layout};

pub use layout::modules;

/// PEFT's settings of an adapter.
const CONFIG_FILE: &str = "adapter_config.json";
/// Names that a message lists before it counts the rest.
const LISTED: usize = 3;

/// What an adapter is made from.
pub struct Parts<'a> {
    /// The run's settings.
    pub lora: &'a LoraConfig,
    /// What the run may train.
    pub plan: &'a TrainingPlan,
    /// The parameters that the adapter belongs to.
    pub weights: &'a Weights,
    /// What is recorded of that checkpoint.
    pub base: Option<&'a Base>,
    /// An adapter that stays as it is under the trained one.
    pub below: Option<&'a Below>,
}

/// Write the folder of an adapter: adapter_model.safetensors, with the modules that were trained whole among
/// its tensors, adapter_config.json, and what PEFT has no place for in percept.json.
///
/// # Errors
/// When it cannot be written, or something is there.
pub fn write(folder: &Path, parts: &Parts, trained: &BTreeMap<String, HostTensor>) -> Result<()> {
    let Parts { lora, plan, weights, .. } = parts;
    let is_used = |n: &String| trained.contains_key(n) || trained.contains_key(&format!("{n}.lora_A.weight"));
    let unused: Vec<String> = plan
        .adapters()
        .keys()
        .cloned()
        .chain(wholes(plan, weights.checkpoint()))
        .filter(|n| !is_used(n))
        .collect();
    let (tensors, rank, alpha) = match parts.below {
        Some(below) => {
            let rank = lora.rank + below.rank();
            (below.under(trained, lora)?, rank, lora.scale() * rank as f64)
        }
        None => (trained.clone(), lora.rank, lora.alpha()),
    };
    let layout = Layout::new(&tensors, weights)?;
    let base = weights.checkpoint().path();
    let base = std::fs::canonicalize(base).unwrap_or_else(|_| base.to_path_buf());
    let mut config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "bias": layout.bias,
        "fan_in_fan_out": false, "inference_mode": true, "r": rank, "lora_alpha": alpha, "lora_dropout": lora.dropout, "target_modules": layout.adapted,
        "modules_to_save": if layout.modules.is_empty() { json!(null) } else { json!(layout.modules) }, "use_rslora": false,
        "use_dora": false,
    });
    if !layout.parameters.is_empty() {
        config["target_parameters"] = json!(layout.parameters);
    }
    if layout.tied {
        config["ensure_weight_tying"] = json!(true);
    }
    let mut own = json!({ "unused": unused, "kept": layout.kept });
    if let Some(base) = parts.base {
        own["base"] = json!(base);
    }
    let text = |json: Value| format!("{json:#}\n").into_bytes();
    let files = BTreeMap::from([(CONFIG_FILE.to_string(), text(config)), (BASE_FILE.to_string(), text(own))]);
    Ok(checkpoint::write_as(folder, "adapter_model.safetensors", &layout.tensors, &files)?)
}

/// The tensors of an adapter as f32 under the names of its base.
///
/// # Errors
/// When it cannot be read.
pub fn read(folder: &Path, base: &Checkpoint) -> Result<Checkpoint> {
    Ok(adapter_tensors(folder, base)?)
}

/// The layer that a tensor of an adapter stands beside.
fn layer_of(name: &str) -> Option<&str> {
    name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight"))
}

/// The last two dimensions: those of a matrix, or of each in a stack.
fn rows_and_columns(dims: &[usize]) -> [usize; 2] {
    let from_end = |d: usize| dims.len().checked_sub(d).and_then(|at| dims.get(at)).copied().unwrap_or(0);
    [from_end(2), from_end(1)]
}

/// The parameters that a plan trains whole.
fn wholes<'a>(plan: &'a TrainingPlan, checkpoint: &'a Checkpoint) -> impl Iterator<Item = String> + 'a {
    let floats = |n: &&str| checkpoint.ty(n).is_some_and(|t| t.dtype.is_float());
    checkpoint.names().filter(floats).filter(|n| plan.is_master(n)).map(str::to_string)
}

/// What decides whether one adapter can be trained on as another.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Form {
    /// The rank, and what the product of A and B is multiplied by, of each layer.
    layers: BTreeMap<String, (usize, f32)>,
    /// Parameters that are trained whole.
    whole: BTreeSet<String>,
    /// What patterns matched and no batch used, so that it has no tensors.
    unused: BTreeSet<String>,
    /// It holds the table of a model whose head that is, and leaves the head as it is.
    parts_head: bool,
}

impl Form {
    /// Of the adapters that a run trains.
    pub fn planned(plan: &TrainingPlan, checkpoint: &Checkpoint) -> Self {
        let layers = plan.adapters().iter().map(|(l, a)| (l.clone(), (a.rank, a.scale)));
        Self { layers: layers.collect(), whole: wholes(plan, checkpoint).collect(), ..Self::default() }
    }

    /// Of an adapter in a folder, over its base.
    ///
    /// # Errors
    /// When it is no adapter of this base.
    pub fn read(folder: &Path, base: Arc<Checkpoint>) -> Result<Self> {
        let tensors = read(folder, &base)?;
        let table = tied_table(&base);
        let weights = Weights::new(base).with_adapter(folder)?;
        let own = json_of(&folder.join(BASE_FILE));
        let tied = json_of(&folder.join(CONFIG_FILE))["ensure_weight_tying"] == true;
        let mut kept = listed(&own, "kept");
        kept.extend((tied && table.is_some()).then(|| HEAD.to_string()));
        let mut form = Self { unused: listed(&own, "unused"), ..Self::default() };
        // What wrote the first of our adapters trained the head with the table, and did not say so.
        let first = own.is_object() && own.get("kept").is_none();
        form.parts_head = !tied && !first && table.is_some_and(|t| tensors.ty(&t).is_some());
        for name in tensors.names() {
            match layer_of(name) {
                Some(layer) => {
                    let adapter = weights.adapter(layer).map(|a| (a.rank, a.scale)).unwrap_or_default();
                    let rank =
                        tensors.ty(&format!("{layer}.lora_A.weight")).map(|t| rows_and_columns(&t.dims)[0]);
                    if rank != Some(adapter.0) {
                        return Err(not_plain(folder, name));
                    }
                    form.layers.insert(layer.to_string(), adapter);
                }
                None if name.contains(".lora_") || name.contains(".token_adapter.") => {
                    return Err(not_plain(folder, name));
                }
                None if kept.contains(name) => {}
                None => {
                    form.whole.insert(name.to_string());
                }
            }
        }
        Ok(form)
    }

    /// Of the one adapter that holds this on top of `below`.
    pub fn on_top_of(&self, below: &Form) -> Self {
        let highest = |f: &Form| f.layers.values().map(|l| l.0).max().unwrap_or(0);
        let rank = highest(self) + highest(below);
        let scale = self.layers.values().next().map_or(0.0, |l| l.1);
        let layers = self.layers.keys().chain(below.layers.keys()).map(|l| (l.clone(), (rank, scale)));
        Self {
            layers: layers.collect(),
            whole: self.whole.union(&below.whole).cloned().collect(),
            unused: BTreeSet::new(),
            parts_head: below.parts_head,
        }
    }

    /// An error that names every difference between the adapter in `folder`, which this is of, and what a run
    /// trains.
    ///
    /// # Errors
    /// When there is one.
    pub fn check(&self, folder: &Path, run: &Form) -> Result<()> {
        let mut differences = Vec::new();
        let rank = |(rank, _): &(usize, f32)| *rank as f64;
        let scale = |(_, scale): &(usize, f32)| f64::from(*scale);
        for (what, of) in [("rank", &rank as &dyn Fn(&(usize, f32)) -> f64), ("alpha over rank", &scale)] {
            let other = |(l, a): (&String, &(usize, f32))| {
                let b = run.layers.get(l)?;
                ((of(a) - of(b)).abs() > 1e-6 * of(b).abs()).then(|| (l.clone(), of(a), of(b)))
            };
            if let Some((layer, own, new)) = self.layers.iter().find_map(other) {
                differences.push(format!("its {what} is {own} and this run's {new} ({layer})"));
            }
        }
        let mut lacks = |mine: Vec<&String>, what: &str| {
            if !mine.is_empty() {
                let listed: Vec<&str> = mine.iter().take(LISTED).map(|n| n.as_str()).collect();
                let more = match mine.len() - listed.len() {
                    0 => String::new(),
                    n => format!(" and {n} more"),
                };
                differences.push(format!("{what} {}{more}", listed.join(", ")));
            }
        };
        let new = |n: &&String| !self.layers.contains_key(*n) && !self.unused.contains(*n);
        lacks(run.layers.keys().filter(new).collect(), "it has nothing beside these of this run's layers:");
        let lost = |n: &&String| !run.layers.contains_key(*n);
        lacks(self.layers.keys().filter(lost).collect(), "lora.layers leaves out these of its layers:");
        let new = |n: &&String| !self.whole.contains(*n) && !self.unused.contains(*n);
        lacks(run.whole.iter().filter(new).collect(), "it has no values of its own for these of lora.also:");
        let lost = |n: &&String| !run.whole.contains(*n);
        lacks(self.whole.iter().filter(lost).collect(), "lora.also leaves out these that it holds whole:");
        if self.parts_head && !run.parts_head {
            differences.push(
                "it leaves the head as it is beside its table, and this run's table is the head too".into(),
            );
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "the adapter {} cannot be continued, because it differs: {}. Give the same settings, or keep it as it is \
             under a new one with lora.from = \"stack\" or \"merge\"",
            folder.display(),
            differences.join("; ")
        )))
    }
}

/// Training goes on from what is plain LoRA under the model's own names: not from DoRA, PiSSA or tables.
fn not_plain(folder: &Path, tensor: &str) -> Error {
    Error::Setting(format!(
        "the adapter {} cannot be trained on: '{tensor}' is no plain LoRA of this model. Give lora.from = \"merge\", which \
         merges it into the base and trains a new one",
        folder.display()
    ))
}

/// A file of an adapter's folder as JSON; null where there is none.
fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_default()).unwrap_or_default()
}

/// The names that a key of percept.json lists.
fn listed(json: &Value, key: &str) -> BTreeSet<String> {
    let names = json.get(key).and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_string).collect()
}

/// How the base of an adapter stands to the one that it is put on, in words.
#[derive(Debug, PartialEq)]
pub enum OtherBase {
    /// It was trained on other weights.
    Differs(String),
    /// Its folder does not say on which weights it was trained.
    Unknown(String),
}

/// What to say of an adapter on `base`; `None` where it was trained on that.
///
/// # Errors
/// When what the folder says of its base cannot be read.
pub fn other_base(folder: &Path, base: &Base) -> Result<Option<OtherBase>> {
    let adapter = folder.display();
    Ok(match Base::read(folder)? {
        Some(own) => own
            .differs_from(base)
            .map(|how| OtherBase::Differs(format!("the adapter {adapter} belongs to another base: {how}"))),
        None => Some(OtherBase::Unknown(format!(
            "the adapter {adapter} does not say which weights it was trained on ({BASE_FILE}), so they are not \
             compared with {}",
            base.path.display()
        ))),
    })
}

/// An adapter that stays as it is while another is trained on top of it.
pub struct Below {
    folder: PathBuf,
    tensors: Checkpoint,
    /// Rank and scale by layer.
    layers: BTreeMap<String, (usize, f32)>,
}

impl Below {
    /// Open an adapter over its base.
    ///
    /// # Errors
    /// When it is no adapter of this base.
    pub fn open(folder: &Path, base: Arc<Checkpoint>) -> Result<Self> {
        let tensors = read(folder, &base)?;
        let form = Form::read(folder, base)?;
        Ok(Self { folder: folder.to_path_buf(), tensors, layers: form.layers })
    }

    /// The base with this adapter merged into it, in memory.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn merged(&self, base: Arc<Checkpoint>) -> Result<Checkpoint> {
        Ok(Weights::new(base).with_adapter(&self.folder)?.merged()?)
    }

    /// The highest rank of its layers.
    fn rank(&self) -> usize {
        self.layers.values().map(|l| l.0).max().unwrap_or(0)
    }

    /// One adapter that adds what this one and the trained one add: the rows of A and the columns of B follow
    /// those that were trained, and B makes up for the other scale. Where a layer has only one of the two, or
    /// a lower rank, the rest is 0, so that every layer has the same rank.
    fn under(
        &self,
        trained: &BTreeMap<String, HostTensor>,
        lora: &LoraConfig,
    ) -> Result<BTreeMap<String, HostTensor>> {
        let rank = lora.rank + self.rank();
        let mut all = trained.clone();
        for name in self.tensors.names() {
            if layer_of(name).is_none() && !all.contains_key(name) {
                let weight = self.tensors.weight(name)?;
                all.insert(name.to_string(), HostTensor::new(weight.ty.clone(), weight.bytes())?);
            }
        }
        let on_top = trained.keys().filter_map(|n| n.strip_suffix(".lora_A.weight")).map(str::to_string);
        let layers: BTreeSet<String> = self.layers.keys().cloned().chain(on_top).collect();
        for layer in layers {
            let [down, up] = ["A", "B"].map(|m| format!("{layer}.lora_{m}.weight"));
            let own = |name: &str| trained.get(name).map(|t| (t.ty().dims.clone(), floats(t.bytes())));
            let below = |name: &str| -> Result<_> {
                let Some(_) = self.tensors.ty(name) else { return Ok(None) };
                let weight = self.tensors.weight(name)?;
                Ok(Some((weight.ty.dims.clone(), floats(weight.bytes()))))
            };
            let (old_down, old_up) = (below(&down)?, below(&up)?);
            let (new_down, new_up) = (own(&down), own(&up));
            let dims = |a: &Option<(Vec<usize>, Vec<f32>)>, b: &Option<(Vec<usize>, Vec<f32>)>| {
                a.as_ref().or(b.as_ref()).map_or(Vec::new(), |t| t.0.clone())
            };
            let (down_dims, up_dims) = (dims(&new_down, &old_down), dims(&new_up, &old_up));
            let (k, n) = (rows_and_columns(&down_dims)[1], rows_and_columns(&up_dims)[0]);
            // A stack of experts has one matrix after the other; everything else is one.
            let experts: Vec<usize> = down_dims.iter().rev().skip(2).copied().collect();
            let count: usize = experts.iter().product();
            let mut a = vec![0f32; count * rank * k];
            for (first, part) in [(0, &new_down), (lora.rank, &old_down)] {
                let Some((dims, values)) = part else { continue };
                let height = rows_and_columns(dims)[0] * k;
                for (to, from) in
                    a.chunks_exact_mut((rank * k).max(1)).zip(values.chunks_exact(height.max(1)))
                {
                    to[first * k..first * k + height].copy_from_slice(from);
                }
            }
            let mut b = vec![0f32; count * n * rank];
            let by = self.layers.get(&layer).map_or(0.0, |l| f64::from(l.1) / lora.scale());
            for (first, part, by) in [(0, &new_up, 1.0), (lora.rank, &old_up, by)] {
                let Some((dims, values)) = part else { continue };
                let width = rows_and_columns(dims)[1];
                for (to, from) in b.chunks_exact_mut(rank).zip(values.chunks_exact(width.max(1))) {
                    to[first..].iter_mut().zip(from).for_each(|(t, &f)| *t = (f64::from(f) * by) as f32);
                }
            }
            let stacked = |own: [usize; 2]| [&experts[..], &own].concat();
            all.insert(down, HostTensor::from_f32(stacked([rank, k]), &a)?);
            all.insert(up, HostTensor::from_f32(stacked([n, rank]), &b)?);
        }
        Ok(all)
    }
}

/// The tensors of a checkpoint of a run that trains on top of another adapter, without that one's part.
///
/// # Errors
/// When one cannot be read.
pub fn own_part(checkpoint: Checkpoint, plan: &TrainingPlan) -> Result<Checkpoint> {
    let mut parts = Vec::new();
    for (layer, adapter) in plan.adapters() {
        for matrix in ["A", "B"] {
            let name = format!("{layer}.lora_{matrix}.weight");
            let Some(ty) = checkpoint.ty(&name).cloned() else { continue };
            let weight = checkpoint.weight(&name)?;
            let values = floats(weight.bytes());
            let [rows, columns] = rows_and_columns(&ty.dims);
            // The first rows of A, and the first columns of B, of every expert.
            let (own_dims, whole, kept) = match matrix {
                "A" => ([adapter.rank, columns], rows * columns, adapter.rank * columns),
                _ => ([rows, adapter.rank], columns, adapter.rank),
            };
            let cut = |part: &[f32]| part[..kept.min(part.len())].to_vec();
            let own: Vec<f32> = values.chunks_exact(whole.max(1)).flat_map(cut).collect();
            let dims = [&ty.dims[..ty.rank().saturating_sub(2)], &own_dims].concat();
            let ty = percept_graph::TensorType::new(DType::F32, dims);
            parts.push((name, ty, own.iter().flat_map(|v| v.to_le_bytes()).collect()));
        }
    }
    Ok(checkpoint.with_tensors("the adapter on top", parts)?)
}
