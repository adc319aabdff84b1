//! How much a trainer trains, and what that takes.

use super::Trainer;
use crate::batch::Batch;
use crate::communicator::Communicator;
use crate::error::Result;

impl Trainer {
    /// How many parameters are trained so far; a tied one counts once.
    pub fn trained_parameters(&self) -> u64 {
        self.trained.values().map(|t| t.numel() as u64).sum()
    }

    /// How many parameters the model has, those of adapters included. A head that is tied to the table counts
    /// once, also where the file holds it.
    pub fn parameters_in_all(&self) -> u64 {
        let decoder = self.model.decoder();
        let tied = |name: &str| {
            decoder.head == decoder.table && name != decoder.head && name.ends_with("lm_head.weight")
        };
        let checkpoint = self.checkpoint();
        let own = checkpoint.names().filter(|n| !tied(n)).filter_map(|n| checkpoint.ty(n));
        let adapters = self.trained.iter().filter(|(n, _)| self.plan.adapted(n).is_some()).map(|(_, ty)| ty);
        own.chain(adapters).map(|ty| ty.numel() as u64).sum()
    }

    /// Compile what a step over these batches needs and bring its parameters to the device. The bytes that
    /// training is expected to take there: all that it keeps from step to step, and the values inside a step.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn prepare(&mut self, batches: &[Batch], peers: &dyn Communicator) -> Result<u64> {
        match batches {
            [batch] if peers.size() == 1 => {
                self.prepare_fused(batch)?;
            }
            _ => {
                for batch in batches {
                    self.prepare_accumulate(batch)?;
                }
                self.begin_sums()?;
            }
        }
        let kept: u64 = self.state.0.values().map(|b| b.ty().bytes() as u64).sum();
        let inside = self.reports().map(|r| r.scratch_bytes).max().unwrap_or(0);
        Ok(kept + inside)
    }
}
