//! What the demo makes and runs at each scale: the commands, the new model and the two training runs.

use std::path::PathBuf;

use serde_json::{Value, json};

/// The tasks that a new model learns, in the order of the report.
pub const GENERAL: [&str; 4] = ["category", "colour", "direction", "sound"];
/// The domain that it is adapted to.
pub const FLAGS: &str = "flags";

/// How large the demo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Shows that everything runs, in a few minutes even on a software GPU.
    Tiny,
    /// Learns its tasks in minutes on two cores.
    Base,
}

impl Scale {
    /// The name that `--scale` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Base => "base",
        }
    }

    fn sizes(self) -> Sizes {
        match self {
            Self::Base => Sizes {
                pretrain: 250,
                quotas: [37, 19, 9, 5],
                finetune: 240,
                finetune_quotas: [26, 4, 3, 4, 1],
                limit: None,
                rows: 18,
                finetune_rows: 10,
            },
            Self::Tiny => Sizes {
                pretrain: 50,
                quotas: [8, 4, 2, 2],
                finetune: 20,
                finetune_quotas: [8, 1, 1, 1, 1],
                limit: Some(20),
                rows: 4,
                finetune_rows: 3,
            },
        }
    }
}

/// Numbers of a scale. Quotas are samples of a step, of the tasks in order; flags come first in fine-tuning.
struct Sizes {
    pretrain: usize,
    quotas: [usize; 4],
    finetune: usize,
    finetune_quotas: [usize; 5],
    /// The largest number of held-out questions of a task.
    limit: Option<usize>,
    rows: usize,
    finetune_rows: usize,
}

/// Tokens of a packed row.
const LENGTH: usize = 192;
/// Tokens of the vocabulary: enough for the name of a country to be one or two.
const VOCABULARY: usize = 1400;

/// The settings of a demo.
pub struct Work {
    /// The folder of the demo.
    pub out: PathBuf,
    /// The seed of everything that is random.
    pub seed: u64,
    /// The size of the demo.
    pub scale: Scale,
}

impl Work {
    /// A file or folder of the demo.
    pub fn file(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// The folder of a task's split.
    pub fn data(&self, task: &str, split: &str) -> String {
        self.path(&format!("data/{task}/{split}"))
    }

    /// The command that builds the data.
    pub fn build(&self) -> Vec<String> {
        words(&[
            "data",
            "build",
            "emoji-world",
            "--out",
            &self.path("data"),
            "--seed",
            &self.seed.to_string(),
        ])
    }

    /// The command that trains a tokenizer on the texts of the training samples.
    pub fn tokenizer(&self) -> Vec<String> {
        let mut all = words(&["data", "tokenizer"]);
        all.extend(GENERAL.into_iter().chain([FLAGS]).map(|t| self.data(t, "train")));
        let out = self.path("model/tokenizer.json");
        all.extend(words(&["--vocab", &VOCABULARY.to_string(), "--out", &out]));
        all
    }

    /// `config.json` of the new model; what it leaves out has the family's defaults.
    pub fn model(&self) -> String {
        let sizes: Value = match self.scale {
            Scale::Base => json!({
                "model_type": "percept", "hidden_size": 160, "intermediate_size": 320, "num_hidden_layers": 4,
                "num_attention_heads": 4,
            }),
            Scale::Tiny => json!({
                "model_type": "percept", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                "num_attention_heads": 2, "vision_config": { "channels": [16, 32] },
            }),
        };
        format!("{sizes:#}\n")
    }

    /// The command that trains by a file of the demo.
    pub fn train(&self, run: &str) -> Vec<String> {
        words(&["train", &self.path(run)])
    }

    /// The command that evaluates a model on every held-out question.
    pub fn evaluate(&self, model: &[String], out: &str) -> Vec<String> {
        let tasks: Vec<String> =
            GENERAL.into_iter().chain([FLAGS]).map(|t| self.data(t, "held-out")).collect();
        let mut all = words(&["eval"]);
        all.extend_from_slice(model);
        all.extend(words(&["--tasks", &tasks.join(","), "--out", &self.path(out)]));
        if let Some(limit) = self.scale.sizes().limit {
            all.extend(words(&["--limit", &limit.to_string()]));
        }
        all
    }

    /// The model before fine-tuning, as arguments.
    pub fn before(&self) -> Vec<String> {
        words(&["--model", &self.path("pretrain/model")])
    }

    /// The model after it.
    pub fn after(&self) -> Vec<String> {
        let mut all = self.before();
        all.extend(words(&["--adapter", &self.path("finetune/model")]));
        all
    }

    /// The run that trains the new model.
    pub fn pretrain(&self) -> String {
        let s = self.scale.sizes();
        let sources: String = GENERAL.iter().zip(s.quotas).map(|(t, n)| self.source(t, n)).collect();
        format!(
            "# A new model learns four tasks at once; the weights are the numbers of samples of each in a step.\n\
             out = {out:?}\nseed = {seed}\nsteps = {steps}\n\n\
             [model]\npath = {model:?}\ninit = true\n\n\
             [data]\nlength = {LENGTH}\nrows = {rows}\nsamples = {samples}\n\n{sources}{held_out}\
             [optimizer]\nkind = \"muon\"\nrate = 2e-3\nbetas = [0.9, 0.98]\ndecay = 0.05\nclip = 1.0\nsmoothing = 0.05\n\n\
             [schedule]\nkind = \"cosine\"\nwarmup = {warmup}\nend = 0.02\n\n\
             [evaluate]\nevery = {every}\nlimit = 64\nshow = 0\n",
            out = self.path("pretrain"),
            seed = self.seed,
            steps = s.pretrain,
            model = self.path("model"),
            rows = s.rows,
            samples = s.quotas.iter().sum::<usize>(),
            held_out = self.held_out(&GENERAL),
            warmup = 50.min(s.pretrain / 5),
            every = s.pretrain.div_ceil(4),
        )
    }

    /// The run that adapts it to flags.
    pub fn finetune(&self) -> String {
        let s = self.scale.sizes();
        let tasks = [FLAGS].into_iter().chain(GENERAL);
        let sources: String = tasks.zip(s.finetune_quotas).map(|(t, n)| self.source(t, n)).collect();
        format!(
            "# Flags, with a quarter of the old tasks so that they are not forgotten. The names of countries were never\n\
             # answers before, so the table, which is the head too, is trained beside the adapters.\n\
             out = {out:?}\nseed = {seed}\nsteps = {steps}\n\n\
             [model]\npath = {model:?}\n\n\
             [lora]\nrank = 16\nlayers = [\"model.layers.*\"]\n\
             also = [\"model.image.*\", \"model.embed_tokens.weight\", \"*norm.weight\"]\n\n\
             [data]\nlength = {LENGTH}\nrows = {rows}\nsamples = {samples}\n\n{sources}{held_out}\
             [optimizer]\nrate = 3.5e-3\nbetas = [0.9, 0.98]\ndecay = 0.0\nclip = 1.0\nsmoothing = 0.05\n\
             group = [{{ match = [\"model.embed_tokens.weight\"], rate = 8e-3 }}]\n\n\
             [schedule]\nkind = \"cosine\"\nwarmup = {warmup}\nend = 0.02\n\n\
             [evaluate]\nevery = {every}\nlimit = 64\nshow = 0\n",
            out = self.path("finetune"),
            seed = self.seed,
            steps = s.finetune,
            model = self.path("pretrain/model"),
            rows = s.finetune_rows,
            samples = s.finetune_quotas.iter().sum::<usize>(),
            held_out = self.held_out(&[FLAGS]),
            warmup = 20.min(s.finetune / 5),
            every = s.finetune.div_ceil(2),
        )
    }

    fn source(&self, task: &str, weight: usize) -> String {
        let (path, augment) = (self.path(&format!("data/{task}")), augmentation(task));
        format!(
            "[[data.train]]\nname = {task:?}\npath = {path:?}\nsplit = \"train\"\nweight = {weight}\n{augment}\n"
        )
    }

    fn held_out(&self, tasks: &[&str]) -> String {
        let one = |t: &&str| {
            format!(
                "[[data.held_out]]\nname = {t:?}\npath = {path:?}\nsplit = \"held-out\"\n\n",
                path = self.path(&format!("data/{t}"))
            )
        };
        tasks.iter().map(one).collect()
    }
}

/// The random changes of a task's images in training, so that few images are enough.
fn augmentation(task: &str) -> &'static str {
    match task {
        "category" => {
            "augment = { flip = true, rotation = 20, scale = [0.7, 1.15], shift = 0.08, gains = 0.2, contrast = 0.2 }\n"
        }
        "colour" => {
            "augment = { flip = true, rotation = 20, scale = [0.7, 1.15], shift = 0.08, gains = 0.0, contrast = 0.1 }\n"
        }
        "flags" => {
            "augment = { flip = false, rotation = 10, scale = [0.85, 1.2], shift = 0.08, gains = 0.1, contrast = 0.2 }\n"
        }
        _ => "",
    }
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|w| w.to_string()).collect()
}
