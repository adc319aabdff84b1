//! Checkpoints of a run: the model in Hugging Face's layout, and beside it what going on needs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use percept_data::loader::Position;
use percept_graph::HostTensor;
use percept_model::checkpoint::{self, Checkpoint};
use serde::{Deserialize, Serialize};

use crate::adapter;
use crate::config::Config;
use crate::error::{Error, Result, file};
use crate::trainer::{LossScale, Trainer};

/// What a run needs to go on, beside tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
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
}

/// The checkpoints of a run.
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints in a run's folder.
    pub fn open(config: &Config) -> Self {
        Self { folder: config.out.join("checkpoints"), keep: config.checkpoint.keep.max(1) }
    }

    /// Make the folder, and remove what an interrupted run left half written.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn clean(config: &Config) -> Result<()> {
        let folder = config.out.join("checkpoints");
        fs::create_dir_all(&folder).map_err(file(&folder))?;
        for entry in fs::read_dir(&folder).map_err(file(&folder))? {
            let path = entry.map_err(file(&folder))?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_dir_all(&path).map_err(file(&path))?;
            }
        }
        Ok(())
    }

    /// Steps that have a checkpoint, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps = Vec::new();
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
        let place = self.place(progress.step);
        let temporary = place.with_extension("tmp");
        let written = self.write(&temporary, trainer, config, progress).and_then(|()| {
            if place.exists() {
                fs::remove_dir_all(&place).map_err(file(&place))?;
            }
            fs::rename(&temporary, &place).map_err(file(&place))?;
            sync(&self.folder)
        });
        if let Err(e) = written {
            // What cannot be removed is removed when the run goes on.
            let _ = fs::remove_dir_all(&temporary);
            return Err(e);
        }
        self.rotate()?;
        Ok(place)
    }

    fn write(&self, folder: &Path, trainer: &Trainer, config: &Config, progress: &Progress) -> Result<()> {
        let mut saved = trainer.saved()?;
        let (masters, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut saved).into_iter().partition(|(n, _)| trainer.trained().contains_key(n));
        write_model(trainer, config, &masters, folder)?;
        let json = serde_json::to_vec_pretty(progress).unwrap_or_default();
        let files = BTreeMap::from([("progress.json".to_string(), json)]);
        checkpoint::write(&folder.join("training"), &rest, &files)?;
        sync(folder)
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

    /// Bring a trainer to where a checkpoint left off.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or is of another model or run.
    pub fn restore(&self, step: u64, trainer: &mut Trainer, config: &Config) -> Result<Progress> {
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
        let masters = match config.lora {
            Some(_) => adapter::read(&place)?,
            None => Checkpoint::open(&place)?,
        };
        let kept = Checkpoint::open(place.join("training/model.safetensors"))?;
        let scale = LossScale { value: progress.loss_scale.0, steady: progress.loss_scale.1 };
        trainer.restore(&masters, &kept, progress.updates, scale)?;
        Ok(progress)
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
    if let Some(lora) = &config.lora {
        return adapter::write(folder, lora, trainer.plan(), trainer.checkpoint().path(), trained);
    }
    let options = checkpoint::LoadOptions { dtype: config.model.dtype, dequantize: false };
    let tensors = trained.iter().map(|(n, t)| (n.clone(), t.ty().clone(), t.bytes().to_vec()));
    let whole =
        Checkpoint::open_with(trainer.checkpoint().path(), options)?.with_tensors("training", tensors)?;
    checkpoint::convert(&whole, folder, None)?;
    Ok(())
}

/// Put what was renamed in a folder on the disk.
fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(file(folder))
}
