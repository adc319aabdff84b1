//! Several samples in a row of tokens.

use super::{Drawn, Position, Refused, Stream};
use crate::error::Result;

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
    /// Items that are longer than a row, and left out.
    pub too_long: Vec<Refused>,
}

/// Batches of packed rows. A batch ends at the first item that no row has room for, which begins the next one, so the
/// saved position needs nothing but a draw's number.
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

    fn batch(&mut self) -> Result<Option<Packed<T>>> {
        let mut packing = Packing::new(self.rows, self.tokens);
        let mut rows: Vec<Vec<_>> = (0..self.rows).map(|_| Vec::new()).collect();
        let mut too_long = Vec::new();
        let mut position = self.stream.position();
        while let Some(item) = self.pending.take().map(Ok).or_else(|| self.stream.next()) {
            let item = item?;
            let length = (self.length)(&item.value);
            if length > self.tokens {
                let why = format!("it takes {length} tokens and a row has {}", self.tokens);
                too_long.push(Refused { draw: item.draw, why });
            } else if let Some(row) = packing.place(length) {
                rows[row].push(item);
            } else {
                position = self.stream.loader().position(item.draw.number);
                self.pending = Some(item);
                break;
            }
            position = self.stream.position();
        }
        if rows.iter().all(Vec::is_empty) && too_long.is_empty() {
            return Ok(None);
        }
        Ok(Some(Packed { rows, position, too_long }))
    }
}

impl<T, L: Fn(&T) -> usize> Iterator for PackedBatches<T, L> {
    type Item = Result<Packed<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}
