//! The adapters of a matrix, put together into one addition.

use std::sync::{Arc, PoisonError};

use percept_graph::{DType, TensorType, encode};
use percept_hal::Weight;
use rayon::prelude::*;

use super::config::Initial;
use super::initial::taken_out;
use super::{LowRank, Overlay, height};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::weights::widened;

/// What graphs call the parts of an addition, after the layer's name; and the sum, after the tensor's.
pub(crate) mod suffix {
    /// A, f32[r,k].
    pub const DOWN: &str = ".lora_A.weight";
    /// B, f32[n,r].
    pub const UP: &str = ".lora_B.weight";
    /// Rows of B, looked up beside a table's: f32[n,r].
    pub const TABLE_ROWS: &str = ".lora_embedding_A.weight";
    /// A transposed, which those are multiplied by: f32[k,r].
    pub const TABLE_UP: &str = ".lora_embedding_B.weight";
    /// What products are scaled by, f32[n]; columns of a table, f32[k].
    pub const MAGNITUDE: &str = ".lora_magnitude_vector";
    /// What is added to products, f32[n].
    pub const BIAS: &str = ".lora_bias";
    /// The matrix with all that is added to it, f32[n,k].
    pub const SUM: &str = ".adapted";
}

/// One addition to a matrix [n,k], or to each of a stack of them.
pub(crate) struct Folded {
    /// How many matrices there are.
    count: usize,
    extent: [usize; 2],
    /// f32[r,k] of each.
    down: Vec<f32>,
    /// f32[n,r] of each, with the factors.
    up: Vec<f32>,
    /// What the matrix is scaled by first: its rows, or a table's columns.
    magnitude: Option<Vec<f32>>,
    by_column: bool,
    bias: Option<Vec<f32>>,
}

impl Overlay {
    /// A tensor that adapters bring or change; `None` for what is the checkpoint's own.
    ///
    /// # Errors
    /// When a file cannot be read, or the base cannot be made what the adapter was trained over.
    pub fn weight(&self, checkpoint: &Checkpoint, name: &str) -> Result<Option<Weight>> {
        let Some((matrix, part)) = self.part(name) else {
            return self.ty(checkpoint, name).map(|_| self.raw(checkpoint, name)).transpose();
        };
        let Some(all) = self.low_rank.get(matrix) else { return Ok(None) };
        let folded = self.folded(checkpoint, matrix, all)?;
        let [n, k] = folded.extent;
        let (values, mut dims) = match part {
            suffix::DOWN => (folded.down.clone(), vec![height(all), k]),
            suffix::UP | suffix::TABLE_ROWS => (folded.up.clone(), vec![n, height(all)]),
            suffix::TABLE_UP => (transposed(&folded.down, k), vec![k, height(all)]),
            suffix::MAGNITUDE => {
                let scales = folded.magnitude.clone().unwrap_or_default();
                let length = scales.len();
                (scales, vec![length])
            }
            suffix::BIAS => (folded.bias.clone().unwrap_or_default(), vec![n]),
            _ => {
                let scale = self.single(all).map_or(1.0, |one| one.scale * self.adapters[one.adapter].weight);
                (folded.sum(&floats(&self.raw(checkpoint, matrix)?), scale as f32), vec![n, k])
            }
        };
        dims.splice(0..0, experts(all));
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(Some(Weight::new(TensorType::new(DType::F32, dims), Arc::new(bytes))?))
    }

    /// The type of what [`Overlay::weight`] gives.
    pub fn ty(&self, checkpoint: &Checkpoint, name: &str) -> Option<TensorType> {
        if let Some((matrix, part)) = self.part(name) {
            let all = self.low_rank.get(matrix)?;
            let ([n, k], rank) = (self.extent(all.first()?)?, height(all));
            let mut dims = match part {
                suffix::DOWN => vec![rank, k],
                suffix::UP | suffix::TABLE_ROWS => vec![n, rank],
                suffix::TABLE_UP => vec![k, rank],
                suffix::MAGNITUDE => vec![if all.iter().any(|l| l.table) { k } else { n }],
                suffix::BIAS => vec![n],
                _ => vec![n, k],
            };
            dims.splice(0..0, experts(all));
            return Some(TensorType::new(DType::F32, dims));
        }
        let table = self.names.table().filter(|_| self.is_new_head(name));
        let source = self.own.get(name).or_else(|| self.base.get(table.unwrap_or(name)));
        let rows = self.rows.contains_key(name) || table.is_some_and(|t| self.rows.contains_key(t));
        if source.is_none() && table.is_none() && !rows {
            return None;
        }
        let own = source.and_then(|s| self.adapters[s.adapter].tensors.ty(&s.tensor));
        let ty = own.or_else(|| checkpoint.ty(table.unwrap_or(name)))?.clone();
        Some(if rows && !ty.dtype.is_float() { ty.with_dtype(DType::F32) } else { ty })
    }

    /// The matrix and the part of its addition that a graph's parameter is.
    fn part<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'static str)> {
        if let Some(matrix) = name.strip_suffix(suffix::SUM) {
            return Some((matrix, suffix::SUM));
        }
        let parts =
            [suffix::DOWN, suffix::UP, suffix::TABLE_ROWS, suffix::TABLE_UP, suffix::MAGNITUDE, suffix::BIAS];
        let (layer, part) = parts.iter().find_map(|p| Some((name.strip_suffix(p)?, *p)))?;
        Some((self.beside(layer)?.0, part))
    }

    /// Rows and columns of the matrix that an addition stands beside.
    fn extent(&self, one: &LowRank) -> Option<[usize; 2]> {
        if let Some(stack) = &one.stack {
            return Some(stack.extent);
        }
        let tensors = &self.adapters[one.adapter].tensors;
        let inputs = tensors.ty(&one.down)?.numel() / one.rank.max(1);
        let outputs = tensors.ty(&one.up)?.numel() / one.rank.max(1);
        Some(if one.table { [inputs, outputs] } else { [outputs, inputs] })
    }

    /// A tensor with what replaces it and its rows, and without what is added to it.
    pub fn raw(&self, checkpoint: &Checkpoint, name: &str) -> Result<Weight> {
        let table = self.names.table().filter(|_| self.is_new_head(name));
        let own = self.own.get(name);
        let weight = match own.or_else(|| self.base.get(table.unwrap_or(name))) {
            Some(source) => self.adapters[source.adapter].tensors.weight(&source.tensor)?,
            None => checkpoint.weight(table.unwrap_or(name))?,
        };
        let shared = table.filter(|_| own.is_none()).and_then(|t| self.rows.get(t)).filter(|r| r.shared);
        let rows: Vec<_> = shared.into_iter().chain(self.rows.get(name)).collect();
        if rows.is_empty() {
            return Ok(weight);
        }
        let dtype = if weight.ty.dtype.is_float() { weight.ty.dtype } else { DType::F32 };
        let mut bytes = if dtype == weight.ty.dtype { weight.bytes().to_vec() } else { widened(&weight) };
        let width = bytes.len() / weight.ty.dims.first().copied().unwrap_or(1).max(1);
        for rows in rows {
            let new = floats(&self.adapters[rows.source.adapter].tensors.weight(&rows.source.tensor)?);
            let new = new.chunks_exact((new.len() / rows.ids.len().max(1)).max(1));
            for (id, values) in rows.ids.iter().zip(new) {
                let encoded: Vec<u8> = values.iter().flat_map(|v| encode(dtype, *v as f64)).collect();
                if let Some(row) =
                    bytes.get_mut(id * width..(id + 1) * width).filter(|r| r.len() == encoded.len())
                {
                    row.copy_from_slice(&encoded);
                }
            }
        }
        Ok(Weight::new(weight.ty.with_dtype(dtype), Arc::new(bytes))?)
    }

    /// All that is added to a matrix. What had to be derived from the base is kept.
    fn folded(&self, checkpoint: &Checkpoint, matrix: &str, all: &[LowRank]) -> Result<Arc<Folded>> {
        let lock = || self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(matrix) {
            return Ok(known.clone());
        }
        let folded = Arc::new(self.fold(checkpoint, matrix, all)?);
        if all.iter().any(|l| l.magnitude.is_some() || l.initial != Initial::Plain) {
            lock().insert(matrix.to_string(), folded.clone());
        }
        Ok(folded)
    }

    fn fold(&self, checkpoint: &Checkpoint, matrix: &str, all: &[LowRank]) -> Result<Folded> {
        if let Some(count) = experts(all) {
            return self.fold_stack(all, count);
        }
        let wrong = |why: String| Error::Content { file: format!("adapters of '{matrix}'"), why };
        let extent = all.first().and_then(|one| self.extent(one)).unwrap_or_default();
        let [n, k] = extent;
        let needs_base = all.iter().any(|l| l.magnitude.is_some() || l.initial != Initial::Plain);
        let mut base = if needs_base { floats(&self.raw(checkpoint, matrix)?) } else { Vec::new() };
        if needs_base && base.len() != n * k {
            return Err(wrong(format!("the matrix has {} elements instead of {n} x {k}", base.len())));
        }
        let mut terms: Vec<Term> = Vec::new();
        for one in all.iter().filter(|l| l.initial != Initial::Plain) {
            let [up, down] = taken_out(one.initial, &base, extent, one.rank, one.scale).map_err(wrong)?;
            let up = up.iter().map(|v| -v as f32).collect();
            let term = Term { rank: one.rank, down: down.iter().map(|v| *v as f32).collect(), up };
            term.add_to(&mut base, k, 1.0);
            terms.push(term);
        }
        let (mut magnitude, mut bias): (Option<Vec<f32>>, Option<Vec<f32>>) = (None, None);
        for one in all {
            let tensors = &self.adapters[one.adapter].tensors;
            let read = |name: &str| Ok::<_, Error>(floats(&tensors.weight(name)?));
            let factor = self.factor(one, all);
            let (down, up) = (read(&one.down)?, read(&one.up)?);
            let (down, up) = match one.table {
                true => (transposed(&up, one.rank), transposed(&down, n)),
                false => (down, up),
            };
            let up = up.iter().map(|v| v * factor).collect();
            terms.push(Term { rank: one.rank, down, up });
            if let Some(name) = &one.bias {
                let added = read(name)?;
                let so_far = bias.get_or_insert_with(|| vec![0.0; n]);
                let factor = (one.scale * self.adapters[one.adapter].weight) as f32;
                so_far.iter_mut().zip(added).for_each(|(b, a)| *b += factor * a);
            }
            let Some(name) = &one.magnitude else { continue };
            let norms = match terms.last() {
                Some(last) => last.norms(&base, k, one.table),
                None => Vec::new(),
            };
            let scales: Vec<f32> =
                read(name)?.iter().zip(norms).map(|(m, norm)| (*m as f64 / norm) as f32).collect();
            for term in &mut terms {
                term.scale(&scales, k, one.table);
            }
            if let Some(bias) = &mut bias {
                bias.iter_mut().zip(&scales).for_each(|(b, s)| *b *= s);
            }
            magnitude = Some(match magnitude {
                Some(before) => before.iter().zip(&scales).map(|(a, b)| a * b).collect(),
                None => scales,
            });
        }
        let down = terms.iter().flat_map(|t| t.down.iter().copied()).collect();
        let up = (0..n)
            .flat_map(|row| terms.iter().flat_map(move |t| &t.up[row * t.rank..(row + 1) * t.rank]))
            .copied();
        let by_column = all.iter().any(|l| l.table);
        if all.iter().any(|l| l.bias.is_some()) {
            bias.get_or_insert_with(|| vec![0.0; n]);
        }
        Ok(Folded { count: 1, extent, down, up: up.collect(), magnitude, by_column, bias })
    }

    /// What B of an addition is multiplied by where all to its matrix are put together.
    fn factor(&self, one: &LowRank, all: &[LowRank]) -> f32 {
        match self.single(all) {
            // The graph multiplies by it.
            Some(_) => 1.0,
            None => (one.scale * self.adapters[one.adapter].weight) as f32,
        }
    }

    /// All that is added to a stack of experts: of each, the rows of A of all adapters one below the other.
    fn fold_stack(&self, all: &[LowRank], count: usize) -> Result<Folded> {
        let extent = all.first().and_then(|one| self.extent(one)).unwrap_or_default();
        let ([n, k], total) = (extent, height(all));
        let (mut down, mut up) = (vec![0.0; count * total * k], vec![0.0; count * n * total]);
        let mut first = 0;
        for one in all {
            let Some(stack) = &one.stack else { continue };
            let tensors = &self.adapters[one.adapter].tensors;
            let (rank, factor) = (one.rank, self.factor(one, all));
            let [own_down, own_up] = stack.halves(one, |name| Ok(floats(&tensors.weight(name)?)))?;
            for (expert, rows) in own_down.chunks_exact((rank * k).max(1)).enumerate() {
                let at = (expert * total + first) * k;
                down[at..at + rows.len()].copy_from_slice(rows);
            }
            for (row, values) in own_up.chunks_exact(rank.max(1)).enumerate() {
                let to = &mut up[row * total + first..][..rank];
                to.iter_mut().zip(values).for_each(|(to, v)| *to = v * factor);
            }
            first += rank;
        }
        Ok(Folded { count, extent, down, up, magnitude: None, by_column: false, bias: None })
    }
}

/// How many experts the matrices of a stack are of; `None` beside a single matrix.
fn experts(all: &[LowRank]) -> Option<usize> {
    all.first()?.stack.as_ref().map(|stack| stack.experts)
}

impl Folded {
    /// The matrix f32[n,k], or the stack of them, with all that changes it; `scale` multiplies what is added.
    fn sum(&self, matrix: &[f32], scale: f32) -> Vec<f32> {
        let [n, k] = self.extent;
        let mut values = matrix.to_vec();
        if let Some(scales) = &self.magnitude {
            for (row, values) in values.chunks_exact_mut(k.max(1)).enumerate() {
                match self.by_column {
                    true => values.iter_mut().zip(scales).for_each(|(v, s)| *v *= s),
                    false => values.iter_mut().for_each(|v| *v *= scales[row]),
                }
            }
        }
        let rank = self.up.len() / (self.count * n).max(1);
        let matrices = values.chunks_exact_mut((n * k).max(1));
        let halves = self.down.chunks_exact((rank * k).max(1)).zip(self.up.chunks_exact((n * rank).max(1)));
        for (matrix, (down, up)) in matrices.zip(halves) {
            add(matrix, k, rank, down, up, scale);
        }
        values
    }
}

/// One product that is added.
struct Term {
    rank: usize,
    /// f32[r,k].
    down: Vec<f32>,
    /// f32[n,r].
    up: Vec<f32>,
}

impl Term {
    fn add_to(&self, matrix: &mut [f32], k: usize, scale: f32) {
        add(matrix, k, self.rank, &self.down, &self.up, scale);
    }

    /// The lengths of the rows of `base` with this added, or of its columns.
    fn norms(&self, base: &[f32], k: usize, by_column: bool) -> Vec<f64> {
        let row = |(base, up): (&[f32], &[f32])| -> Vec<f64> {
            let mut sum: Vec<f64> = base.iter().map(|v| *v as f64).collect();
            for (u, down) in up.iter().zip(self.down.chunks_exact(k.max(1))) {
                sum.iter_mut().zip(down).for_each(|(s, d)| *s += *u as f64 * *d as f64);
            }
            sum
        };
        let rows = base.par_chunks_exact(k.max(1)).zip(self.up.par_chunks_exact(self.rank.max(1)));
        if !by_column {
            return rows.map(|r| row(r).iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
        }
        let squares = |mut total: Vec<f64>, r: (&[f32], &[f32])| {
            total.iter_mut().zip(row(r)).for_each(|(t, v)| *t += v * v);
            total
        };
        // Rows in order, so that the sum is the same for any number of threads.
        let both = base.chunks_exact(k.max(1)).zip(self.up.chunks_exact(self.rank.max(1)));
        both.fold(vec![0.0; k], squares).into_iter().map(f64::sqrt).collect()
    }

    fn scale(&mut self, scales: &[f32], k: usize, by_column: bool) {
        match by_column {
            true => self.down.chunks_exact_mut(k.max(1)).for_each(|row| {
                row.iter_mut().zip(scales).for_each(|(v, s)| *v *= s);
            }),
            false => self.up.chunks_exact_mut(self.rank.max(1)).zip(scales).for_each(|(row, s)| {
                row.iter_mut().for_each(|v| *v *= s);
            }),
        }
    }
}

/// matrix += scale up down.
fn add(matrix: &mut [f32], k: usize, rank: usize, down: &[f32], up: &[f32], scale: f32) {
    let rows = matrix.par_chunks_exact_mut(k.max(1)).zip(up.par_chunks_exact(rank.max(1)));
    rows.for_each(|(row, up)| {
        for (u, down) in up.iter().zip(down.chunks_exact(k.max(1))) {
            row.iter_mut().zip(down).for_each(|(w, d)| *w += scale * u * d);
        }
    });
}

/// Rows of `width` as columns.
fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    let height = values.len() / width.max(1);
    (0..values.len()).map(|at| values[at % height * width + at / height]).collect()
}

/// The elements as f32.
pub(crate) fn floats(weight: &Weight) -> Vec<f32> {
    widened(weight).chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
