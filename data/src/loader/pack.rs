//! Several samples in a row of tokens.

use super::{Drawn, Position, Stream};
use crate::error::{Error, Result};

/// Rows of `tokens` tokens, filled with whole items: each goes to the first row that has room.
///
/// ```
/// use percept_data::loader::Packing;
/// let mut packing = Packing::new(2, 10);
/// let rows: Vec<_> = [6, 7, 4, 3].into_iter().map(|length| packing.place(length)).collect();
/// assert_eq!(rows, [Some(0), Some(1), Some(0), Some(1)]);
/// assert_eq!(packing.place(1), None);
/// ```
#[derive(Debug, Clone)]
pub struct Packing {
    free: Vec<usize>,
}

impl Packing {
    /// `rows` empty rows.
    pub fn new(rows: usize, tokens: usize) -> Self {
        Self { free: vec![tokens; rows] }
    }

    /// Take room for an item; `None` where no row has it.
    pub fn place(&mut self, length: usize) -> Option<usize> {
        let row = self.free.iter().position(|&free| free >= length)?;
        self.free[row] -= length;
        Some(row)
    }

    /// The tokens that are free in each row.
    pub fn free(&self) -> &[usize] {
        &self.free
    }
}

/// A packed batch.
#[derive(Debug)]
pub struct Packed<T> {
    /// The items of each row in order; some rows may be empty.
    pub rows: Vec<Vec<Drawn<T>>>,
    /// Where a run that has used this batch continues.
    pub position: Position,
}

/// Batches of packed rows. A batch ends at the first item that no row has room for, which begins the next
/// one, so the saved position needs nothing but a draw's number.
pub struct PackedBatches<T, L> {
    stream: Stream<T>,
    length: L,
    rows: usize,
    tokens: usize,
    pending: Option<Drawn<T>>,
}

impl<T, L: Fn(&T) -> usize> PackedBatches<T, L> {
    /// Batches of `rows` rows of `tokens` tokens; `length` says how many an item takes.
    pub fn new(stream: Stream<T>, rows: usize, tokens: usize, length: L) -> Self {
        Self { stream, length, rows: rows.max(1), tokens, pending: None }
    }

    /// The next batch.
    ///
    /// # Errors
    /// When the stream fails, or an item is longer than a row; what prepares items refuses those.
    pub fn next_batch(&mut self) -> Result<Packed<T>> {
        let mut packing = Packing::new(self.rows, self.tokens);
        let mut rows: Vec<Vec<_>> = (0..self.rows).map(|_| Vec::new()).collect();
        loop {
            let item = match self.pending.take() {
                Some(item) => item,
                None => self.stream.next_draw()?,
            };
            let length = (self.length)(&item.value);
            if length > self.tokens {
                return Err(Error::Config(format!(
                    "draw {} takes {length} tokens and a row has {}; make rows longer, or leave it out",
                    item.draw.number, self.tokens
                )));
            }
            match packing.place(length) {
                Some(row) => rows[row].push(item),
                None => {
                    let position = self.stream.loader().position(item.draw.number);
                    self.pending = Some(item);
                    return Ok(Packed { rows, position });
                }
            }
        }
    }
}
