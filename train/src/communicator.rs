//! How the processes of a run add up what each of them found.

use crate::error::Result;

/// The processes of a run.
pub trait Communicator {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Replace the values by their sums over all processes. The same sums arrive everywhere.
    ///
    /// # Errors
    /// When another process does not answer.
    fn sum(&self, values: &mut [f32]) -> Result<()>;

    /// Wait until every process is here.
    ///
    /// # Errors
    /// When another process does not answer.
    fn meet(&self) -> Result<()>;
}

/// A run of one process, which waits for nobody.
pub struct Single;

impl Communicator for Single {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _values: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn meet(&self) -> Result<()> {
        Ok(())
    }
}
