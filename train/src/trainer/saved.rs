//! What a trainer saves, and how it goes on from that.

use std::collections::BTreeMap;
use std::path::Path;

use percept_graph::{HostTensor, TensorType};
use percept_model::checkpoint::Checkpoint;

use super::{LossScale, Trainer};
use crate::adapter::{self, Parts};
use crate::config::LoraConfig;
use crate::error::{Error, Result};
use crate::optimizer::{mean_name, parameter_of, state_name};
use crate::steps::TrainedTypes;

impl Trainer {
    /// Write the folder of an adapter with these parameters.
    ///
    /// # Errors
    /// When it cannot be written, or something is there.
    pub fn write_adapter(
        &self,
        folder: &Path,
        lora: &LoraConfig,
        trained: &BTreeMap<String, HostTensor>,
    ) -> Result<()> {
        let parts = Parts {
            lora,
            plan: self.plan(),
            weights: self.model.weights(),
            base: self.base.as_ref(),
            below: self.below.as_ref(),
        };
        adapter::write(folder, &parts, trained)
    }

    /// The adapter that was trained among what [`Trainer::write_adapter`] wrote.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn own_adapter(&self, folder: &Path) -> Result<Checkpoint> {
        let all = adapter::read(folder, self.model.weights().checkpoint())?;
        if self.below.is_some() { adapter::own_part(all, self.plan()) } else { Ok(all) }
    }

    /// What training changes, by the names of [`Trainer::restore`]: parameters, moments, means.
    ///
    /// # Errors
    /// When the device fails.
    pub fn saved(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut saved = BTreeMap::new();
        for name in self.kept_names(&self.trained) {
            if let Some(buffer) = self.state.0.get(&name) {
                saved.insert(name, HostTensor::new(buffer.ty().clone(), self.device.read(buffer)?)?);
            }
        }
        Ok(saved)
    }

    /// The trained parameters as evaluation and the finished model use them: their means where those are
    /// kept.
    ///
    /// # Errors
    /// When the device fails.
    pub fn parameters(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut found = BTreeMap::new();
        for name in self.trained.keys() {
            let buffer = self.state.0.get(&mean_name(name)).or_else(|| self.state.0.get(name));
            if let Some(buffer) = buffer {
                found.insert(name.clone(), HostTensor::new(buffer.ty().clone(), self.device.read(buffer)?)?);
            }
        }
        Ok(found)
    }

    /// Go on with what an earlier run saved.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the model.
    pub fn restore(
        &mut self,
        masters: &Checkpoint,
        kept: &Checkpoint,
        updates: u64,
        scale: LossScale,
    ) -> Result<()> {
        // Every optimizer keeps something for each parameter that was trained.
        let names: Vec<(&str, &str)> = kept.names().filter_map(|n| Some((n, parameter_of(n)?))).collect();
        let mut trained = TrainedTypes::new();
        for (state, name) in names {
            let weight = masters.weight(name)?;
            if let Some(ty) = self.model.weights().checkpoint().ty(name)
                && ty.dims != weight.ty.dims
            {
                return Err(Error::Setting(format!(
                    "'{name}' is {} in {}, the model's is {ty}; start anew in another folder",
                    weight.ty,
                    masters.path().display()
                )));
            }
            // The step has it in the shape of what is kept for it; the file may have the same elements as a
            // convolution's kernel.
            let step = kept.ty(state).filter(|ty| ty.numel() == weight.ty.numel());
            let dims = step.map_or(&weight.ty.dims, |ty| &ty.dims).clone();
            trained.insert(name.to_string(), TensorType::new(weight.ty.dtype, dims));
        }
        // Nothing changes before everything is read.
        let mut read = Vec::new();
        for name in self.kept_names(&trained) {
            let saved = if trained.contains_key(&name) { masters } else { kept };
            let weight = saved.weight(&name)?;
            let ty = trained.get(&name).unwrap_or(&weight.ty);
            read.push((name, self.device.upload(ty, weight.bytes())?));
        }
        self.state.0.extend(read);
        self.trained = trained;
        (self.updates, self.scale) = (updates, scale);
        Ok(())
    }

    fn kept_names(&self, trained: &TrainedTypes) -> Vec<String> {
        let of = |(name, ty): (&String, &TensorType)| {
            let optimizer = self.plan.group(name, ty).kind.optimizer();
            let mut names = vec![name.clone()];
            names.extend(optimizer.state().iter().map(|s| state_name(s, name)));
            names.extend((self.config.optimizer.ema > 0.0).then(|| mean_name(name)));
            names
        };
        trained.iter().flat_map(of).collect()
    }
}
