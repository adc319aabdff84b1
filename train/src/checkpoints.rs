//! Checkpoints of a run: the model in Hugging Face's layout, and beside it what going on needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use percept_data::loader::Position;
use percept_files::AtomicFolder;
use percept_graph::{HostTensor, TensorType};
use percept_model::checkpoint::{self, Base, Checkpoint};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::{Error, Result, file};
use crate::trainer::{LossScale, Trainer};

/// What a run needs to go on, beside tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// How many steps were done.
    pub step: u64,
    /// Updates that changed something.
    pub updates: u64,
    /// The loss scale and how long it has been so.
    pub loss_scale: (f64, u64),
    /// Where the feed stands.
    pub position: Option<Position>,
    /// Seeds what is drawn; a run goes on with its own alone.
    pub seed: u64,
    /// Mean loss on held-out data, when it was measured at this step.
    pub held_out_loss: Option<f64>,
    /// Losses of the last ten steps.
    #[serde(default)]
    pub recent: Vec<f64>,
    /// The checkpoint that training began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Fingerprints of the trained tensors and of those beside them, as they were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<[String; 2]>,
}

/// A checkpoint that cannot be used, and why.
pub struct Damaged {
    step: u64,
    /// Why it cannot be used, in words.
    pub why: String,
}

/// The checkpoints of a run.
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints in a run's folder.
    pub fn open(config: &Config) -> Self {
        Self { folder: config.out.join("checkpoints"), keep: config.checkpoint.keep }
    }

    /// Steps that have a checkpoint, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps = Vec::new();
        if !self.folder.is_dir() {
            return Ok(steps);
        }
        for entry in fs::read_dir(&self.folder).map_err(file(&self.folder))? {
            let name = entry.map_err(file(&self.folder))?.file_name();
            steps.extend(name.to_string_lossy().strip_prefix("step-").and_then(|n| n.parse::<u64>().ok()));
        }
        steps.sort();
        Ok(steps)
    }

    /// The folder of a step's checkpoint.
    pub fn place(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// What a checkpoint says about its run.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn progress(&self, step: u64) -> Result<Progress> {
        let path = self.place(step).join("training/progress.json");
        let bytes = fs::read(&path).map_err(file(&path))?;
        let wrong = |e: serde_json::Error| Error::Config { file: path.clone(), why: e.to_string() };
        serde_json::from_slice(&bytes).map_err(wrong)
    }

    /// Write a checkpoint, which appears whole or not at all, and drop those that are not kept.
    ///
    /// # Errors
    /// When it cannot be written; those that are there stay.
    pub fn save(&self, trainer: &Trainer, config: &Config, progress: &Progress) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder).map_err(file(&self.folder))?;
        let place = self.place(progress.step);
        let folder = AtomicFolder::create(&place).map_err(file(&place))?;
        self.write(folder.path(), trainer, config, progress)?;
        folder.replace().map_err(file(&place))?;
        self.rotate()?;
        Ok(place)
    }

    fn write(&self, folder: &Path, trainer: &Trainer, config: &Config, progress: &Progress) -> Result<()> {
        let mut saved = trainer.saved()?;
        let (masters, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut saved).into_iter().partition(|(n, _)| trainer.trained().contains_key(n));
        write_model(trainer, config, &masters, folder)?;
        let training = folder.join("training");
        checkpoint::write(&training, &rest, &BTreeMap::new())?;
        let written = [trained(folder, config)?, Checkpoint::open(training.join("model.safetensors"))?];
        let [first, second] = &written;
        let progress =
            Progress { written: Some([first.fingerprint()?, second.fingerprint()?]), ..progress.clone() };
        let json = serde_json::to_vec_pretty(&progress).unwrap_or_default();
        let path = training.join("progress.json");
        percept_files::write(&path, &json).map_err(file(&path))?;
        percept_files::sync_folder(&training).map_err(file(&training))
    }

    /// Drop all but the last few and the one with the least held-out loss.
    fn rotate(&self) -> Result<()> {
        let steps = self.steps()?;
        let loss = |s: &u64| self.progress(*s).ok().and_then(|p| p.held_out_loss);
        let best = steps.iter().filter_map(|s| Some((loss(s)?, *s))).min_by(|a, b| a.0.total_cmp(&b.0));
        let old = &steps[..steps.len().saturating_sub(self.keep)];
        for step in old.iter().filter(|s| best.is_none_or(|b| b.1 != **s)) {
            let place = self.place(*step);
            fs::remove_dir_all(&place).map_err(file(&place))?;
        }
        Ok(())
    }

    /// Bring a trainer to where the last checkpoint left off, or the one before where that is damaged, with
    /// those that are. `None` where there is no checkpoint.
    ///
    /// # Errors
    /// When none of them can be read, or they are of another model or run.
    pub fn restore_last(
        &self,
        trainer: &mut Trainer,
        config: &Config,
        base: Option<&Base>,
    ) -> Result<(Option<Progress>, Vec<Damaged>)> {
        let mut damaged: Vec<Damaged> = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            match self.restore(step, trainer, config, base) {
                Ok(progress) => return Ok((Some(progress), damaged)),
                // These say that the run is another one, not that a file is damaged.
                Err(e @ Error::Setting(_)) => return Err(e),
                Err(e) => damaged.push(Damaged { step, why: e.to_string() }),
            }
        }
        match damaged.first() {
            None => Ok((None, damaged)),
            Some(last) => Err(Error::Setting(format!(
                "no checkpoint of {} can be read, the last because {}; begin anew with another `out`",
                self.folder.display(),
                last.why
            ))),
        }
    }

    /// Put a damaged checkpoint out of the way, and say so.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_aside(&self, damaged: &Damaged) -> Result<String> {
        let place = self.place(damaged.step);
        let aside = self.folder.join(format!("damaged-step-{:08}", damaged.step));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(file(&aside))?;
        }
        fs::rename(&place, &aside).map_err(file(&place))?;
        Ok(format!(
            "the checkpoint of step {} cannot be read ({}); it was renamed to {} and the one before is used",
            damaged.step,
            damaged.why,
            aside.display()
        ))
    }

    /// Bring a trainer to where a checkpoint left off.
    fn restore(
        &self,
        step: u64,
        trainer: &mut Trainer,
        config: &Config,
        base: Option<&Base>,
    ) -> Result<Progress> {
        let progress = self.progress(step)?;
        let place = self.place(step);
        if progress.seed != config.seed {
            return Err(Error::Setting(format!(
                "{} was made with seed {}, this run has {}; start anew in another folder",
                place.display(),
                progress.seed,
                config.seed
            )));
        }
        if let (Some(old), Some(new)) = (&progress.base, base)
            && let Some(how) = old.differs_from(new)
        {
            return Err(Error::Setting(format!(
                "{} is of another model: {how}; start anew in another folder",
                place.display()
            )));
        }
        let masters = trained(&place, config)?;
        let kept = Checkpoint::open(place.join("training/model.safetensors"))?;
        for (file, written) in [&masters, &kept].into_iter().zip(progress.written.iter().flatten()) {
            if file.fingerprint()? != *written {
                let why = "its tensors are not those that were written".into();
                return Err(checkpoint::Error::Damaged { path: file.path().to_path_buf(), why }.into());
            }
        }
        let masters = match config.lora {
            Some(_) => trainer.own_adapter(&place)?,
            None => masters,
        };
        let scale = LossScale { value: progress.loss_scale.0, steady: progress.loss_scale.1 };
        trainer.restore(&masters, &kept, progress.updates, scale)?;
        Ok(progress)
    }
}

/// The tensors of a checkpoint of a run that training changes, and with them those that it does not.
fn trained(place: &Path, config: &Config) -> Result<Checkpoint> {
    match config.lora {
        Some(_) => Ok(Checkpoint::open(place.join("adapter_model.safetensors"))?),
        None => Ok(Checkpoint::open(place)?),
    }
}

/// Write trained parameters as a model that every command opens: a whole checkpoint, or an adapter.
///
/// # Errors
/// When it cannot be written, or something is there.
pub fn write_model(
    trainer: &Trainer,
    config: &Config,
    trained: &BTreeMap<String, HostTensor>,
    folder: &Path,
) -> Result<()> {
    let trained: BTreeMap<String, HostTensor> =
        trained.iter().map(|(n, t)| Ok((n.clone(), as_in_file(trainer, n, t)?))).collect::<Result<_>>()?;
    if let Some(lora) = &config.lora {
        return trainer.write_adapter(folder, lora, &trained);
    }
    let options = checkpoint::LoadOptions { dtype: config.model.dtype, dequantize: false };
    let tensors = trained.iter().map(|(n, t)| (n.clone(), t.ty().clone(), t.bytes().to_vec()));
    let whole =
        Checkpoint::open_with(trainer.checkpoint().path(), options)?.with_tensors("training", tensors)?;
    checkpoint::convert(&whole, folder, None)?;
    Ok(())
}

/// A trained parameter in the shape that its checkpoint has: graphs see the kernel of a convolution over
/// patches as a matrix, and transformers reads it as the kernel.
fn as_in_file(trainer: &Trainer, name: &str, tensor: &HostTensor) -> Result<HostTensor> {
    match trainer.checkpoint().ty(name) {
        Some(ty) if ty.numel() == tensor.ty().numel() => {
            Ok(HostTensor::new(TensorType::new(tensor.ty().dtype, ty.dims.clone()), tensor.bytes())?)
        }
        _ => Ok(tensor.clone()),
    }
}
