//! A run as one TOML file.

use std::path::{Path, PathBuf};

use percept_data::augment::Augmentation;
use percept_data::leakage::Shared;
use percept_graph::DType;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, Result, file};

/// One run of training.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder that checkpoints, logs and the finished model go to.
    pub out: PathBuf,
    /// Seeds everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// What is trained.
    pub model: ModelConfig,
    /// What it is trained on.
    pub data: DataConfig,
    /// How steps are taken.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How the learning rate goes.
    #[serde(default)]
    pub schedule: Schedule,
    /// Low-rank adapters in place of the parameters themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Dtypes, loss scaling and recomputation.
    #[serde(default)]
    pub precision: PrecisionConfig,
    /// Measuring on held-out data.
    #[serde(default)]
    pub evaluate: EvaluateConfig,
    /// What is kept of a run.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// Runs one after the other, each given as what it changes of the rest of this file. A stage goes on with the model
    /// that the one before it made.
    #[serde(default, rename = "stage", skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Table>,
}

/// The model of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A checkpoint. With `init`, a folder with config.json and the tokenizer's files is enough.
    pub path: PathBuf,
    /// Draw new weights from the run's seed instead of reading them.
    pub init: bool,
    /// Names of parameters that stay as they are; `*` stands for any characters.
    pub freeze: Vec<String>,
    /// Dtype that frozen weights are loaded in: f32, f16 or bf16. As the file has them when left out.
    #[serde(skip_serializing_if = "Option::is_none", with = "dtype_name")]
    pub dtype: Option<DType>,
}

/// The data of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Corpora with their shares of a step.
    pub train: Vec<SourceConfig>,
    /// Corpora that are measured on and never trained on.
    pub held_out: Vec<SourceConfig>,
    /// What training and held-out data may have in common all the same: key, media, text, group. Anything else that they have
    /// in common is an error before the first step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_leakage: Vec<Shared>,
    /// Tokens of a packed row.
    pub length: usize,
    /// Rows of a step over all processes.
    pub rows: usize,
    /// Samples of a step; as many as fit when left out. A multiple of the sum of the weights gives every step the same
    /// make-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Pieces that a process cuts its rows of a step into, one after the other.
    pub accumulate: usize,
}

/// One corpus.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What it is called in reports; the last part of its path when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A corpus: a folder of WebDataset shards (`*.tar`), one of its splits as `corpus/train`, or one shard.
    pub path: PathBuf,
    /// The split to take, as `train`; the only one there is when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Train on it although its split is named held-out, test, validation or the like.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub train_on_held_out: bool,
    /// Its samples in a round of the mixture: with weights that add to `w`, any `w` samples in a row hold this many of it.
    #[serde(default = "one")]
    pub weight: u32,
    /// How its pictures are changed each time they are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augmentation>,
}

/// Which optimizer a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW with decoupled decay (Loshchilov and Hutter 2019).
    AdamW,
    /// Muon for matrices inside the network (Jordan et al. 2024), AdamW for the rest.
    Muon,
}

/// How steps are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The optimizer.
    pub kind: OptimizerKind,
    /// The learning rate at the schedule's height.
    pub rate: f64,
    /// Decays of AdamW's moments.
    pub betas: [f32; 2],
    /// Added to the root of AdamW's second moment.
    pub eps: f32,
    /// Weight decay of matrices and tables, decoupled; vectors have none unless a group says so.
    pub decay: f64,
    /// Decay of Muon's momentum.
    pub momentum: f64,
    /// Largest norm of all gradients together; 0 leaves them as they are.
    pub clip: f64,
    /// Share of the target spread over all tokens.
    pub smoothing: f32,
    /// Decay of a running mean of the weights, which evaluation and the finished model use; 0 is off.
    pub ema: f64,
    /// Parameters that differ.
    #[serde(rename = "group", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupConfig>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            rate: 1e-3,
            betas: [0.9, 0.95],
            eps: 1e-8,
            decay: 0.0,
            momentum: 0.95,
            clip: 1.0,
            smoothing: 0.0,
            ema: 0.0,
            groups: Vec::new(),
        }
    }
}

/// Parameters whose steps differ; the first group that matches a name counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Names; `*` stands for any characters.
    #[serde(rename = "match")]
    pub names: Vec<String>,
    /// Their learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Their weight decay, vectors included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// Their optimizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<OptimizerKind>,
}

/// How the learning rate goes over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The curve.
    pub kind: Curve,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Steps of the fall at the end of a warmup-stable-decay curve.
    pub decay: u64,
    /// What is left of the rate at the end, as a share.
    pub end: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { kind: Curve::Cosine, warmup: 0, decay: 0, end: 0.0 }
    }
}

/// Curves of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// Always the same.
    Constant,
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
    /// Warm-up, stable, decay (Hu et al. 2024).
    Wsd,
}

/// Low-rank adapters (Hu et al. 2021).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rows of the smaller matrices.
    pub rank: usize,
    /// Over the rank it multiplies what adapters add; twice the rank when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// An adapter of the same rank and layers to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Names of linear layers, without `.weight`; `*` stands for any characters.
    pub layers: Vec<String>,
    /// Names of parameters that are trained whole beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
}

/// Dtypes, loss scaling and recomputation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrecisionConfig {
    /// Dtype of products: f32, bf16 or f16. Masters, norms, losses and optimizers are f32.
    #[serde(with = "dtype_name_required")]
    pub compute: DType,
    /// What the loss is multiplied by at first in f16.
    pub loss_scale: f64,
    /// Steps without overflow after which the loss scale is doubled.
    pub loss_scale_steps: u64,
    /// Compute each block again on the way back instead of keeping what it computed.
    pub rematerialize: bool,
}

impl Default for PrecisionConfig {
    fn default() -> Self {
        Self { compute: DType::F32, loss_scale: 65536.0, loss_scale_steps: 2000, rematerialize: false }
    }
}

/// Measuring on held-out data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// Steps from one to the next; 0 measures at the end alone.
    pub every: u64,
    /// Samples of each corpus at most.
    pub limit: usize,
    /// Samples whose answers the model is asked to give and that are shown.
    pub show: usize,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self { every: 0, limit: 256, show: 3 }
    }
}

/// What is kept of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps from one checkpoint to the next; 0 keeps none on the way.
    pub every: u64,
    /// Checkpoints that are kept, beside the one with the least held-out loss.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 0, keep: 2 }
    }
}

fn one() -> u32 {
    1
}

impl Config {
    /// Read a file; `set` are `key=value` with dots in the keys, over what the file says.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, has a key that is not known (the error gives the nearest), or a value that
    /// cannot be.
    pub fn read(path: &Path, set: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(file(path))?;
        Self::parse(path, &text, set)
    }

    /// As [`Config::read`], from text that is in memory.
    ///
    /// # Errors
    /// As there.
    pub fn parse(path: &Path, text: &str, set: &[String]) -> Result<Self> {
        let wrong = |why: String| Error::Config { file: path.to_path_buf(), why };
        let config: Config = if set.is_empty() {
            toml::from_str(text).map_err(|e| wrong(explained(&e)))?
        } else {
            let mut table: Table = toml::from_str(text).map_err(|e| wrong(explained(&e)))?;
            for setting in set {
                apply(&mut table, setting).map_err(&wrong)?;
            }
            table.try_into().map_err(|e| wrong(explained(&e)))?
        };
        config.check().map_err(wrong)?;
        Ok(config)
    }

    /// The runs that this one consists of: itself, or its stages in order. Each stage writes to a folder of its own
    /// inside `out` and goes on with the model of the one before.
    ///
    /// # Errors
    /// When a stage says something that cannot be.
    pub fn runs(&self) -> Result<Vec<Config>> {
        if self.stages.is_empty() {
            return Ok(vec![self.clone()]);
        }
        let wrong = |i: usize, why: String| Error::Setting(format!("stage {}: {why}", i + 1));
        let mut base = Table::try_from(self).map_err(|e| wrong(0, e.to_string()))?;
        base.remove("stage");
        let mut runs: Vec<Config> = Vec::new();
        for (i, stage) in self.stages.iter().enumerate() {
            let mut table = base.clone();
            overlay(&mut table, stage);
            let mut run: Config = table.try_into().map_err(|e| wrong(i, explained(&e)))?;
            if !stage.contains_key("out") {
                run.out = self.out.join(format!("stage-{}", i + 1));
            }
            let own_model =
                stage.get("model").and_then(Value::as_table).is_some_and(|m| m.contains_key("path"));
            if let (Some(before), false) = (runs.last(), own_model) {
                run.model.path = before.out.join("model");
                run.model.init = false;
            }
            run.check().map_err(|why| wrong(i, why))?;
            runs.push(run);
        }
        Ok(runs)
    }

    fn check(&self) -> Result<(), String> {
        let positive = |name: &str, v: f64| match v.is_finite() && v > 0.0 {
            true => Ok(()),
            false => Err(format!("{name} is {v}; it must be positive")),
        };
        let share = |name: &str, v: f64| match (0.0..1.0).contains(&v) {
            true => Ok(()),
            false => Err(format!("{name} is {v}; it must be at least 0 and below 1")),
        };
        if self.steps == 0 && self.stages.is_empty() {
            return Err("steps is 0; nothing would be trained".into());
        }
        for (name, n) in [("data.length", self.data.length), ("data.rows", self.data.rows)] {
            if n == 0 && self.stages.is_empty() {
                return Err(format!("{name} is missing or 0"));
            }
        }
        if let Some(source) = self.data.held_out.iter().find(|source| source.train_on_held_out) {
            return Err(format!(
                "data.held_out: {} has train_on_held_out, which is for data.train; nothing in data.held_out is trained on",
                source.path.display()
            ));
        }
        let o = &self.optimizer;
        positive("optimizer.rate", o.rate)?;
        positive("optimizer.eps", o.eps as f64)?;
        share("optimizer.betas[0]", o.betas[0] as f64)?;
        share("optimizer.betas[1]", o.betas[1] as f64)?;
        share("optimizer.momentum", o.momentum)?;
        share("optimizer.ema", o.ema)?;
        share("optimizer.smoothing", o.smoothing as f64)?;
        for rate in o.groups.iter().filter_map(|g| g.rate) {
            if !(rate.is_finite() && rate >= 0.0) {
                return Err(format!("optimizer.group.rate is {rate}; it must not be negative"));
            }
        }
        if let Some(lora) = &self.lora {
            if lora.rank == 0 {
                return Err("lora.rank is 0; adapters need a rank of at least 1".into());
            }
            positive("lora.alpha", lora.alpha.unwrap_or(1.0))?;
        }
        if !self.precision.compute.is_float() {
            return Err(format!(
                "precision.compute is {}; it can be f32, bf16 or f16",
                self.precision.compute
            ));
        }
        positive("precision.loss_scale", self.precision.loss_scale)
    }
}

/// What is wrong with a TOML text, and for a key that is not known the nearest that is.
fn explained(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let quoted: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    let (true, Some((wrong, known))) = (error.message().starts_with("unknown "), quoted.split_first()) else {
        return text.trim_end().to_string();
    };
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(k, wrong), k)).min();
    match near {
        Some((distance, key)) if distance <= 2 + wrong.len() / 4 => {
            format!("{}\ndid you mean `{key}`?", text.trim_end())
        }
        _ => text.trim_end().to_string(),
    }
}

/// Set one value by its dotted key.
fn apply(table: &mut Table, setting: &str) -> Result<(), String> {
    let (key, text) =
        setting.split_once('=').ok_or_else(|| format!("--set {setting}: it needs the form key=value"))?;
    // What is no TOML value is a text.
    let value = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut t| t.remove("value"));
    let value = value.unwrap_or_else(|| Value::String(text.to_string()));
    let mut at = table;
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let next = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at =
            next.as_table_mut().ok_or_else(|| format!("--set {setting}: `{part}` holds a value, no keys"))?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

/// `over` laid over `table`; tables are merged, everything else is replaced.
fn overlay(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => overlay(old, new),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

mod dtype_name {
    use percept_graph::DType;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(dtype: &Option<DType>, s: S) -> Result<S::Ok, S::Error> {
        match dtype {
            Some(d) => s.serialize_str(d.name()),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<DType>, D::Error> {
        let name = String::deserialize(d)?;
        name.parse().map(Some).map_err(serde::de::Error::custom)
    }
}

mod dtype_name_required {
    use percept_graph::DType;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(dtype: &DType, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(dtype.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<DType, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "out = 'runs/a'\nsteps = 10\n[model]\npath = 'base'\n[data]\nlength = 64\nrows = 4\n";

    fn parse(text: &str, set: &[&str]) -> Result<Config> {
        let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
        Config::parse(Path::new("run.toml"), text, &set)
    }

    #[test]
    fn settings_go_over_the_file() {
        let c = parse(RUN, &["optimizer.rate=3e-4", "model.path=other", "precision.compute=bf16"]).unwrap();
        assert_eq!((c.optimizer.rate, c.model.path), (3e-4, PathBuf::from("other")));
        assert_eq!(c.precision.compute, DType::BF16);
        assert!(parse(RUN, &["steps"]).unwrap_err().to_string().contains("key=value"));
        assert!(parse(RUN, &["steps.a=1"]).unwrap_err().to_string().contains("holds a value"));
    }

    #[test]
    fn a_misspelt_key_is_named_with_the_nearest() {
        let text = format!("{RUN}[optimizer]\nlearning_rat = 1.0\nrate = 1.0\nmomentun = 0.5\n");
        let e = parse(&text.replace("learning_rat = 1.0\n", ""), &[]).unwrap_err().to_string();
        assert!(
            e.contains("momentun") && e.contains("did you mean `momentum`?") && e.contains("line 10"),
            "{e}"
        );
        let e = parse(&text, &[]).unwrap_err().to_string();
        assert!(e.contains("learning_rat") && e.contains("`rate`"), "{e}");
        let e = parse(RUN, &["schedul.warmup=3"]).unwrap_err().to_string();
        assert!(e.contains("did you mean `schedule`?"), "{e}");
        let e = parse(&format!("{RUN}[schedule]\nkind = 'cosin'\n"), &[]).unwrap_err().to_string();
        assert!(e.contains("did you mean `cosine`?"), "{e}");
    }

    #[test]
    fn impossible_values_are_refused() {
        for (set, word) in [
            ("optimizer.rate=0.0", "positive"),
            ("optimizer.betas=[0.9, 1.0]", "below 1"),
            ("data.length=0", "data.length"),
            ("steps=0", "nothing"),
            ("precision.compute=q4_0", "f32, bf16 or f16"),
            ("lora.rank=0", "layers"),
        ] {
            let e = parse(RUN, &[set]).unwrap_err().to_string();
            assert!(e.contains(word), "{set}: {e}");
        }
    }

    #[test]
    fn stages_go_on_from_one_another() {
        let text =
            format!("{RUN}[[stage]]\nsteps = 3\n[stage.model]\nfreeze = ['a*']\n[[stage]]\nseed = 2\n");
        let runs = parse(&text, &[]).unwrap().runs().unwrap();
        assert_eq!((runs[0].steps, runs[1].steps, runs[1].seed), (3, 10, 2));
        assert_eq!(runs[0].model.freeze, ["a*"]);
        assert_eq!(runs[1].model.path, PathBuf::from("runs/a/stage-1/model"));
        assert_eq!(runs[0].model.path, PathBuf::from("base"));
        let e = parse(&format!("{RUN}[[stage]]\nstep = 3\n"), &[]).unwrap().runs().unwrap_err().to_string();
        assert!(e.contains("stage 1") && e.contains("did you mean `steps`?"), "{e}");
    }
}
