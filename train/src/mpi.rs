//! Processes that MPI started.

use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives};

use crate::communicator::Communicator;
use crate::error::{Error, Result};

/// All processes of an MPI job. MPI ends with it.
pub struct Mpi {
    world: SimpleCommunicator,
    _universe: Universe,
}

impl Mpi {
    /// Join the job that this process is of.
    ///
    /// # Errors
    /// When MPI was joined before.
    pub fn start() -> Result<Self> {
        let universe =
            mpi::initialize().ok_or_else(|| Error::Peer("MPI runs in this process already".into()))?;
        Ok(Self { world: universe.world(), _universe: universe })
    }

    /// End all processes because this one failed, naming it. Otherwise the others would wait for it.
    pub fn abort(&self, why: &dyn std::fmt::Display) -> ! {
        eprintln!("error: rank {} of {} failed: {why}", self.rank(), self.size());
        self.world.abort(1)
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.world.rank().max(0) as usize
    }

    fn size(&self) -> usize {
        self.world.size().max(1) as usize
    }

    fn sum(&self, values: &mut [f32]) -> Result<()> {
        let own = values.to_vec();
        self.world.all_reduce_into(&own[..], values, SystemOperation::sum());
        Ok(())
    }

    fn meet(&self) -> Result<()> {
        self.world.barrier();
        Ok(())
    }
}
