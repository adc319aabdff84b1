//! How likely texts are after a prompt.

use percept_modalities::Inputs;
use percept_model::PAGE;

use super::{Part, Sequence, Session};
use crate::error::{Error, Result};

impl Session {
    /// The logits [n, vocab] that decide each of `continuation`'s tokens after the prompt, all of them read.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn score(&mut self, inputs: &Inputs, continuation: &[i32]) -> Result<Vec<f32>> {
        Ok(self.score_each(inputs, &[continuation])?.remove(0))
    }

    /// As [`Session::score`], for each of several continuations: the prompt is read once, and they are read side by side.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn score_each(&mut self, inputs: &Inputs, continuations: &[&[i32]]) -> Result<Vec<Vec<f32>>> {
        let prompt = self.prompt(inputs)?;
        let rows = prompt.len();
        // Each writes to pages of its own, the first of which begins as a copy of the prompt's last.
        self.reserve(rows + continuations.iter().map(|ids| ids.len() + PAGE).sum::<usize>())?;
        let mut sequence = self.start(prompt)?;
        let first = self.read(&mut sequence, rows.saturating_sub(1))?;
        let mut forks = Vec::with_capacity(continuations.len());
        for ids in continuations {
            let mut fork = sequence.fork();
            // What follows the last token is not asked for.
            self.push(&mut fork, &ids[..ids.len().saturating_sub(1)])?;
            forks.push((fork, first.clone()));
        }
        let mut waiting: Vec<_> = forks.iter_mut().filter(|(fork, _)| fork.len() > rows).collect();
        while !waiting.is_empty() {
            let mut sum = 0;
            let mut fits = |fork: &Sequence| {
                sum += fork.len() - rows;
                sum <= self.options.chunk
            };
            let count = waiting.iter().take_while(|(fork, _)| fits(fork)).count().max(1);
            self.read_forks(waiting.drain(..count).collect(), rows)?;
        }
        Ok(forks.into_iter().map(|(_, logits)| logits).collect())
    }

    /// Read what forks have after their common `rows`, in one step if the cache has room for all of them, and add its logits to
    /// theirs. Their pages are given back.
    fn read_forks(&mut self, mut forks: Vec<&mut (Sequence, Vec<f32>)>, rows: usize) -> Result<()> {
        if forks.len() > 1 {
            let mut parts: Vec<Part<'_>> = forks
                .iter_mut()
                .map(|(sequence, _)| {
                    let new = sequence.len() - rows;
                    Part { sequence, rows: new, logits: new }
                })
                .collect();
            match self.step(&mut parts) {
                Ok(found) => {
                    for ((sequence, logits), found) in forks.into_iter().zip(found) {
                        logits.extend(found);
                        sequence.release();
                    }
                    return Ok(());
                }
                Err(Error::CacheFull { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        for (sequence, logits) in forks {
            logits.extend(self.read(sequence, rows)?);
            sequence.release();
        }
        Ok(())
    }
}
