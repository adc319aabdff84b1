//! How likely texts are after a prompt.

use std::ops::Range;

use percept_modalities::Inputs;
use percept_model::PAGE;

use super::{Part, Sequence, Session};
use crate::error::{Error, Result};

/// Rows of the cache that continuations take at a time, beside the prompt's. They bound the logits that are held, too.
const ROWS_AT_A_TIME: usize = 256;

impl Session {
    /// The logits [n, vocab] that decide each of `continuation`'s tokens after the prompt, all of them read.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn score(&mut self, inputs: &Inputs, continuation: &[i32]) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        self.score_each(inputs, &[continuation], |logits| all = logits)?;
        Ok(all)
    }

    /// As [`Session::score`], for several continuations: the prompt is read once, and a few of them side by side. `found` is
    /// given the logits of each, in their order, so that those of many continuations are never held together.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn score_each(
        &mut self,
        inputs: &Inputs,
        continuations: &[&[i32]],
        mut found: impl FnMut(Vec<f32>),
    ) -> Result<()> {
        let prompt = self.prompt(inputs)?;
        let rows = prompt.len();
        let batches = batches(continuations);
        let most =
            batches.iter().map(|batch| continuations[batch.clone()].iter().map(|ids| rows_of(ids)).sum());
        self.reserve(rows + most.max().unwrap_or(0usize))?;
        let mut sequence = self.start(prompt)?;
        let first = self.read(&mut sequence, rows.saturating_sub(1))?;
        for batch in batches {
            let mut forks = Vec::with_capacity(batch.len());
            for ids in &continuations[batch] {
                let mut fork = sequence.fork();
                // What follows the last token is not asked for.
                self.push(&mut fork, &ids[..ids.len().saturating_sub(1)])?;
                forks.push(fork);
            }
            for rest in self.read_forks(forks, rows)? {
                found([&first[..], &rest].concat());
            }
        }
        Ok(())
    }

    /// The logits of what each fork has after their common `rows`: read in one step, or one after the other where the cache has no
    /// room for all of them.
    fn read_forks(&mut self, mut forks: Vec<Sequence>, rows: usize) -> Result<Vec<Vec<f32>>> {
        let mut longer: Vec<&mut Sequence> = forks.iter_mut().filter(|fork| fork.len() > rows).collect();
        let mut parts: Vec<Part<'_>> = longer
            .iter_mut()
            .map(|sequence| {
                let new = sequence.len() - rows;
                Part { sequence, rows: new, logits: new }
            })
            .collect();
        let read = match parts.len() {
            0 | 1 => None,
            _ => match self.step(&mut parts) {
                Ok(logits) => Some(logits),
                Err(Error::CacheFull { .. }) => None,
                Err(e) => return Err(e),
            },
        };
        let mut read = read.map(Vec::into_iter);
        let mut all = Vec::with_capacity(forks.len());
        for mut fork in forks {
            all.push(match &mut read {
                _ if fork.len() == rows => Vec::new(),
                Some(read) => read.next().unwrap_or_default(),
                // Its pages are free again before the next is read.
                None => self.read(&mut fork, rows)?,
            });
        }
        Ok(all)
    }
}

/// Rows of the cache that a continuation takes: the first page that it writes to begins as a copy of the prompt's last.
fn rows_of(ids: &[i32]) -> usize {
    if ids.len() > 1 { ids.len() + PAGE } else { 0 }
}

/// Neighbours that are read side by side: at least one, and no more than fit [`ROWS_AT_A_TIME`].
fn batches(continuations: &[&[i32]]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut rows = 0;
    for (i, ids) in continuations.iter().enumerate() {
        rows += rows_of(ids);
        match batches.last_mut() {
            Some(batch) if rows <= ROWS_AT_A_TIME && batch.len() < ROWS_AT_A_TIME => batch.end = i + 1,
            _ => {
                rows = rows_of(ids);
                batches.push(i..i + 1);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_are_read_a_bounded_number_of_rows_at_a_time() {
        let of = |lengths: &[usize]| {
            let all: Vec<Vec<i32>> = lengths.iter().map(|&n| vec![0; n]).collect();
            batches(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Vec::<Range<usize>>::new());
        assert_eq!(of(&[1; 4]).first(), Some(&(0..4)));
        // Two halves fit and a third does not; what is longer than all stands alone.
        let half = ROWS_AT_A_TIME / 2 - PAGE;
        assert_eq!(of(&[half, half, half, 1000, 5]), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(of(&[1; 600]), [0..256, 256..512, 512..600]);
    }
}
