//! A run as one TOML file.

mod valid;

use std::path::{Path, PathBuf};

use percept_data::augment::Augmentation;
use percept_data::leakage::Shared;
use percept_graph::DType;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::error::{Error, Result, file};
use crate::optimizer::OptimizerKind;
use crate::settings::{apply, explained, one_length};

/// One run of training.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder that checkpoints, logs and the finished model go to.
    pub out: PathBuf,
    /// What the run or stage is called in messages; the folder of a stage in `out` is called so too, when it
    /// has a name of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seeds everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// Optimizer steps. Either these or `epochs` must be given.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps: u64,
    /// How often every sample is seen at least, in place of `steps`: a mixture runs until the corpus that
    /// takes longest at its weight has been gone through this often. May be a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
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
    /// Runs one after the other, each given as what it changes of the rest of this file. A stage goes on with
    /// the model that the one before it made.
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
    /// A folder with a low-rank adapter that is merged into the checkpoint before training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Names of parameters that stay as they are; `*` stands for any characters. Constants of a model, such as the bounds
    /// of Gemma 4's towers and its `layer_scalar`, always do.
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
    /// What training and held-out data may have in common all the same: key, media, text, group. Anything
    /// else that they have in common is an error before the first step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_leakage: Vec<Shared>,
    /// Tokens of a packed row. A sample longer than the model's context is left out all the same.
    pub length: usize,
    /// Rows of a step over all processes.
    pub rows: usize,
    /// Samples of a step; as many as fit when left out. A multiple of the sum of the weights gives every step
    /// the same make-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Pieces that a process cuts its rows of a step into, one after the other; 0 and 1 leave them whole.
    pub accumulate: usize,
}

/// One corpus.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What it is called in reports; the last part of its path when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A corpus: a folder of WebDataset shards (`*.tar`, `*.tar.gz`), one of its splits as `corpus/train`, or
    /// one shard.
    pub path: PathBuf,
    /// The split to take, as `train`; the only one there is when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Train on it although its split is named held-out, test, validation or the like.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub train_on_held_out: bool,
    /// Its samples in a round of the mixture: with weights that add to `w`, any `w` samples in a row hold
    /// this many of it. For training alone.
    #[serde(default = "one")]
    pub weight: u32,
    /// How its images are changed each time they are read. For training alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augmentation>,
}

/// How steps are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The optimizer. Parameters that it does not take have AdamW.
    pub kind: OptimizerKind,
    /// The learning rate at the schedule's height.
    pub rate: f64,
    /// Decays of AdamW's moments.
    pub betas: [f32; 2],
    /// Added to the root of AdamW's second moment.
    pub eps: f32,
    /// Weight decay of matrices and tables, decoupled where the optimizer does not say otherwise; vectors
    /// have none unless a group says so.
    pub decay: f64,
    /// Decay of the momentum of Muon and SGD.
    pub momentum: f64,
    /// Largest norm of all gradients together; 0 leaves them as they are.
    pub clip: f64,
    /// Share of the target spread over all tokens.
    pub smoothing: f32,
    /// Weight of the loss that balances the loads of a mixture's experts; what the model's config.json asks
    /// for when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<f32>,
    /// Decay of a running mean of the weights, which evaluation and the finished model use; 0 is off.
    pub ema: f64,
    /// Parameters that differ.
    #[serde(rename = "group", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupConfig>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::default(),
            rate: 1e-3,
            betas: [0.9, 0.95],
            eps: 1e-8,
            decay: 0.0,
            momentum: 0.95,
            clip: 1.0,
            smoothing: 0.0,
            balance: None,
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
    /// Their optimizer. One that takes none of them is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<OptimizerKind>,
}

/// How the learning rate goes over the steps. The first step after the warm-up has the whole rate, and the
/// last one is still above `end`, as in transformers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The curve.
    pub kind: Curve,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Steps of the fall at the end of a warmup-stable-decay curve; with `warmup` no more than the run has.
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
    /// Share of the elements before A that are dropped while training; the rest is scaled up to make up for
    /// it.
    #[serde(default)]
    pub dropout: f64,
    /// A folder with an adapter to go on from. A stage after one with adapters goes on from those when it is
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How to go on from an adapter: continue, stack or merge.
    #[serde(default)]
    pub from: Onward,
    /// Names of linear layers, without `.weight`, and of stacks of experts; `*` stands for any characters.
    pub layers: Vec<String>,
    /// Names of parameters that are trained whole beside them. A layer whose weight is among them has no
    /// adapter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
}

/// How training goes on from an adapter that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Onward {
    /// The adapter itself is trained on. Rank, alpha, layers and what is trained whole must be the same.
    #[default]
    Continue,
    /// It stays as it is, and a new one is trained on top. The result is one adapter that holds both.
    Stack,
    /// It is merged into the model, which is written to the folder `merged` of the run, and a new one is
    /// trained on that.
    Merge,
}

/// Dtypes, loss scaling and recomputation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrecisionConfig {
    /// Dtype of products: f32, bf16 or f16. Master weights, norms, losses and optimizers are f32.
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

fn is_zero(steps: &u64) -> bool {
    *steps == 0
}

impl Config {
    /// Read a file; `set` are `key=value` with dots in the keys, over what the file says.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, has a key that is not known (the error gives the nearest), or a
    /// value that cannot be.
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
            let set: Vec<&str> = set.iter().filter_map(|s| s.split('=').next()).collect();
            one_length(&mut table, |key| set.contains(&key));
            table.try_into().map_err(|e| wrong(explained(&e)))?
        };
        config.check().map_err(wrong)?;
        Ok(config)
    }
}

impl LoraConfig {
    /// What the product of A and B is multiplied by: alpha over the rank.
    pub fn scale(&self) -> f64 {
        self.alpha() / self.rank as f64
    }

    /// Alpha, twice the rank when it is left out.
    pub fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(2.0 * self.rank as f64)
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
    fn a_run_has_one_length() {
        let both = parse(&format!("epochs = 2.0\n{RUN}"), &[]).unwrap_err().to_string();
        assert!(both.contains("both given"), "{both}");
        // What is set goes over the file's, whichever of the two that has.
        let c = parse(RUN, &["epochs=2"]).unwrap();
        assert_eq!((c.steps, c.epochs), (0, Some(2.0)));
        let c = parse(&RUN.replace("steps = 10", "epochs = 0.5"), &["steps=3"]).unwrap();
        assert_eq!((c.steps, c.epochs), (3, None));
        let none = parse(&RUN.replace("steps = 10\n", ""), &[]).unwrap_err().to_string();
        assert!(none.contains("nothing would be trained"), "{none}");
    }
}
