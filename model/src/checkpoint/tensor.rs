//! How a tensor lies in its file, and how it becomes a weight.

use std::sync::Arc;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use percept_graph::{DType, TensorType, dequantize, quantize};
use percept_hal::Weight;

use super::blocks::Packing;
use super::error::{Error, Result, damaged};
use super::quantized::{self, Packed, e4m3};
use super::regroup::Regroup;
use super::source::{Lent, Span};

/// The elements of a tensor as the file has them.
#[derive(Clone)]
pub(crate) enum Form {
    /// One of the graph's dtypes.
    Graph(DType),
    /// IEEE 754 binary64.
    F64,
    /// Signed integers of 8, 16 or 64 bits, or unsigned of 16 or 64.
    Integer {
        /// Bytes of one.
        bytes: usize,
        /// Two's complement.
        signed: bool,
    },
    /// Blocks of a format that no dtype of the graph has.
    Packed(Packing),
    /// A linear layer's weight, put together of several tensors.
    Layer(Arc<Packed>),
    /// Floats of eight bits, E4M3.
    F8,
    /// Several tensors that alternate in each of `runs` runs of values.
    Joined { parts: Arc<[StoredTensor]>, runs: usize },
    /// Signed integers of `bytes` bytes; element = integer / the row's scale. One scale (f32) for every row
    /// of the first dimension, or one for all.
    Scaled { bytes: usize, scales: Span },
}

impl Form {
    /// Bytes of one element or block.
    pub fn unit(&self) -> usize {
        match self {
            Form::Graph(dtype) => dtype.block_bytes(),
            Form::F64 => 8,
            Form::Packed(packing) => packing.block_bytes(),
            Form::Layer(_) | Form::F8 | Form::Joined { .. } => 1,
            Form::Integer { bytes, .. } | Form::Scaled { bytes, .. } => *bytes,
        }
    }

    /// Elements of one block: 1 unless the form is quantized.
    pub fn block_len(&self) -> usize {
        match self {
            Form::Graph(dtype) => dtype.block_len(),
            Form::Packed(packing) => packing.block_len(),
            _ => 1,
        }
    }

    /// The name of a format that no dtype of the graph is like.
    pub fn name(&self) -> Option<String> {
        match self {
            Form::Packed(packing) => Some(format!("{packing:?}")),
            Form::Layer(packed) => Some(packed.name()),
            Form::F8 => Some("F8_E4M3".into()),
            _ => None,
        }
    }

    /// The graph's dtype that holds such elements.
    pub fn natural(&self) -> DType {
        match self {
            Form::Graph(dtype) => *dtype,
            Form::Packed(packing) => packing.held_in(),
            Form::Layer(packed) => packed.held_in(),
            Form::F64 | Form::F8 | Form::Scaled { .. } => DType::F32,
            // Where the parts differ, in what all of them can become.
            Form::Joined { parts, .. } => match parts.first().map(|p| p.ty.dtype) {
                Some(dtype) if parts.iter().all(|p| p.ty.dtype == dtype) => dtype,
                _ => DType::F32,
            },
            Form::Integer { signed: false, .. } => DType::U32,
            Form::Integer { signed: true, .. } => DType::I32,
        }
    }
}

/// What has to be done to the stored values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Rows of the first dimension lie as llama.cpp wants them for interleaved rotary pairs, in this many
    /// heads.
    Unpermute { heads: usize },
    /// One was added to each value.
    MinusOne,
    /// Matrices [n,a,b] are [n,b,a] in the file.
    Turn,
    /// Runs of values lie in another order.
    Regroup(Regroup),
    /// The same, and each value v is -exp of the one wanted: the rates at which states decay.
    Rates(Regroup),
}

impl Change {
    /// The order of the values, where runs of them are moved.
    pub fn regroup(self) -> Option<Regroup> {
        match self {
            Change::Regroup(order) | Change::Rates(order) => Some(order),
            _ => None,
        }
    }

    /// Whether values become other values.
    fn is_of_values(self) -> bool {
        matches!(self, Change::MinusOne | Change::Rates(_))
    }
}

/// One tensor of a checkpoint.
#[derive(Clone)]
pub(crate) struct StoredTensor {
    /// As it is handed out.
    pub ty: TensorType,
    pub form: Form,
    pub span: Span,
    pub change: Change,
}

// The formats are little-endian, as is every machine this runs on: floats are cast to bytes where they lie.
const _: () = assert!(cfg!(target_endian = "little"));

/// Elements converted at a time: a scratch that stays in cache whatever the size of the tensor. A multiple of
/// every block length.
const CHUNK: usize = 1 << 15;

impl StoredTensor {
    /// A tensor as it lies in the file; an error unless its bytes are those of its shape.
    pub fn new(name: &str, form: Form, dims: Vec<usize>, span: Span) -> Result<StoredTensor> {
        let ty = TensorType::new(form.natural(), dims);
        let block = form.block_len();
        let last = ty.dims.last().copied().unwrap_or(1);
        if last % block != 0 {
            let why =
                format!("tensor '{name}' {ty} has rows of {last}, no whole number of blocks of {block}");
            return Err(damaged(span.path(), why));
        }
        let expected = (ty.numel() / block).checked_mul(form.unit());
        if expected != Some(span.as_ref().len()) || ty.numel() > isize::MAX as usize {
            let given = span.as_ref().len();
            return Err(damaged(span.path(), format!("tensor '{name}' {ty} cannot be {given} bytes")));
        }
        if let Form::Scaled { scales, .. } = &form {
            let (given, rows) = (scales.as_ref().len() / 4, ty.dims.first().copied().unwrap_or(1));
            if scales.as_ref().len() % 4 != 0 || given != 1 && given != rows {
                return Err(damaged(span.path(), format!("tensor '{name}' {ty} has {given} scales")));
            }
        }
        Ok(StoredTensor { ty, form, span, change: Change::None })
    }

    /// A tensor whose values are those of others, which alternate in each of `runs` runs of equal length.
    pub fn joined(
        name: &str,
        dims: Vec<usize>,
        parts: Vec<StoredTensor>,
        runs: usize,
    ) -> Result<StoredTensor> {
        let Some(span) = parts.first().map(|p| p.span.clone()) else {
            return Err(damaged(std::path::Path::new(name), "it is made of nothing".to_string()));
        };
        let numel: usize = parts.iter().map(|p| p.ty.numel()).sum();
        let form = Form::Joined { parts: parts.into(), runs };
        let ty = TensorType::new(form.natural(), dims);
        let whole = numel.is_multiple_of(runs.max(1)) && ty.numel() == numel;
        if !whole || !ty.dtype.is_float() && !ty.dtype.is_quantized() {
            return Err(damaged(
                span.path(),
                format!("tensor '{name}' {ty} cannot be put together of its parts"),
            ));
        }
        Ok(StoredTensor { ty, form, span, change: Change::None })
    }

    /// The tensors of the file that it is made of.
    pub fn parts(&self) -> &[StoredTensor] {
        match &self.form {
            Form::Joined { parts, .. } => parts,
            _ => std::slice::from_ref(self),
        }
    }

    /// The parts' values in this dtype, in the order of the whole.
    fn join(&self, name: &str, dtype: DType, out: &mut dyn FnMut(&[u8])) -> Result<()> {
        let Form::Joined { parts, runs } = &self.form else { return Ok(()) };
        let load = |part: &StoredTensor| {
            let mut part = part.clone();
            part.ty.dtype = dtype;
            part.load(name)
        };
        let loaded = parts.iter().map(load).collect::<Result<Vec<_>>>()?;
        for run in 0..*runs {
            for part in &loaded {
                let width = part.bytes().len() / runs;
                out(&part.bytes()[run * width..(run + 1) * width]);
            }
        }
        Ok(())
    }

    /// Matrices that lie the other way round in the file, each at a time, in this dtype.
    fn turned(&self, name: &str, dtype: DType, out: &mut dyn FnMut(&[u8])) -> Result<()> {
        let &[_, rows, columns] = &self.ty.dims[..] else {
            return Err(self.bad(name, "only a stack of matrices can be turned around".into()));
        };
        let size = rows * columns;
        if size == 0 {
            return Ok(());
        }
        let mut values = vec![0.0; size];
        let mut turned = vec![0.0; size];
        let bytes = size / self.form.block_len() * self.form.unit();
        for (i, matrix) in self.span.as_ref().chunks_exact(bytes).enumerate() {
            self.decode(matrix, i * size, size, &mut values);
            for (at, value) in turned.iter_mut().enumerate() {
                *value = values[at % columns * rows + at / columns];
            }
            out(&self.encode(name, dtype, &turned)?);
        }
        Ok(())
    }

    /// Cast floats to `dtype`; blocks too where `blocks` says so.
    pub fn cast(&mut self, dtype: Option<DType>, blocks: bool) {
        let own = self.ty.dtype;
        if own.is_float() {
            self.ty.dtype = dtype.unwrap_or(own);
        } else if own.is_quantized() && blocks {
            self.ty.dtype = dtype.unwrap_or(DType::F32);
        }
    }

    /// The tensor as a weight of its type, borrowed from the file where that is possible.
    pub fn load(&self, name: &str) -> Result<Weight> {
        self.span.check_whole()?;
        let dtype = self.ty.dtype;
        let lent = Lent(self.span.clone());
        let bytes = lent.as_ref();
        let same = matches!(self.form, Form::Graph(own) if own == dtype);
        if same && dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
            return Err(self.bad(name, "a bool is neither 0 nor 1".into()));
        }
        let alignment = if dtype.is_quantized() { 2 } else { dtype.block_bytes() };
        if same && self.change == Change::None && (bytes.as_ptr() as usize).is_multiple_of(alignment) {
            return self.weight(name, Arc::new(lent));
        }
        // Words rather than bytes, so that the copy is aligned for every dtype.
        let mut out = Aligned::with_capacity(self.ty.bytes());
        if let Form::Joined { .. } = &self.form {
            self.join(name, dtype, &mut |bytes| out.extend(bytes))?;
        } else if let Form::Layer(packed) = &self.form
            && dtype == DType::Q8X
        {
            let mut held = Vec::new();
            packed.rows(name, |values, scales| {
                held.clear();
                quantized::blocks(values, scales, &mut held);
                out.extend(&held);
                Ok(())
            })?;
        } else if let Form::Packed(packing) = self.form
            && packing.held_in() == dtype
        {
            let mut held = Vec::new();
            self.move_rows(|rows| {
                // A few blocks at a time, so that what is held twice is small.
                for blocks in rows.chunks(CHUNK / packing.block_len() * packing.block_bytes()) {
                    held.clear();
                    blocks.chunks_exact(packing.block_bytes()).for_each(|b| packing.hold(b, &mut held));
                    out.extend(&held);
                }
            });
        } else if self.change == Change::Turn {
            self.turned(name, dtype, &mut |bytes| out.extend(bytes))?;
        } else if same && !self.change.is_of_values() {
            self.move_rows(|row| out.extend(row));
        } else if dtype.is_int() {
            self.integers(name, |v| out.extend(&v))?;
        } else {
            self.convert(name, dtype, &mut |b| out.extend(b))?;
        }
        self.weight(name, Arc::new(out))
    }

    /// The tensor's bytes in another float or block dtype, in order and piece by piece.
    pub fn convert(&self, name: &str, dtype: DType, out: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.span.check_whole()?;
        let last = self.ty.dims.last().copied().unwrap_or(1);
        if !last.is_multiple_of(dtype.block_len()) {
            let why = format!("its rows of {last} are no whole blocks of {dtype}");
            return Err(self.bad(name, why));
        }
        if self.ty.numel() == 0 {
            return Ok(());
        }
        if let Form::Joined { .. } = &self.form {
            return self.join(name, dtype, out);
        }
        if self.change == Change::Turn {
            return self.turned(name, dtype, out);
        }
        if let Form::Layer(packed) = &self.form {
            return packed.rows(name, |values, scales| {
                let row: Vec<f32> = values.iter().zip(scales).map(|(value, scale)| value * scale).collect();
                out(&self.encode(name, dtype, &row)?);
                Ok(())
            });
        }
        let row = self.ty.numel() / self.ty.dims.first().copied().unwrap_or(1).max(1);
        let mut values = vec![0.0; CHUNK.min(self.ty.numel())];
        let mut piece = |bytes: &[u8], element: usize| -> Result<()> {
            let unit = CHUNK / self.form.block_len() * self.form.unit();
            for (i, bytes) in bytes.chunks(unit).enumerate() {
                let first = element + i * CHUNK;
                let values = &mut values[..bytes.len() / self.form.unit() * self.form.block_len()];
                self.decode(bytes, first, row, values);
                self.restore(name, values)?;
                out(&self.encode(name, dtype, values)?);
            }
            Ok(())
        };
        let bytes = self.span.as_ref();
        if let Some(order) = self.change.regroup() {
            if !order.is_whole(self.form.block_len()) || !order.is_whole(dtype.block_len()) {
                return self.regrouped(name, order, dtype, out);
            }
            let place = |at: usize| at / self.form.block_len() * self.form.unit();
            return (0..self.ty.numel()).step_by(order.period).try_for_each(|start| {
                order.runs().try_for_each(|run| {
                    let (from, to) = (start + run.start, start + run.end);
                    piece(&bytes[place(from)..place(to)], from)
                })
            });
        }
        let Change::Unpermute { .. } = self.change else { return piece(bytes, 0) };
        // Rows of blocks are whole, so each can be encoded alone.
        let rows = self.ty.dims[0];
        let width = bytes.len() / rows;
        (0..rows).try_for_each(|r| {
            let from = self.source_row(r);
            piece(&bytes[from * width..(from + 1) * width], from * row)
        })
    }

    /// Undoes in values what was done to each for itself.
    fn restore(&self, name: &str, values: &mut [f32]) -> Result<()> {
        match self.change {
            Change::MinusOne => values.iter_mut().for_each(|v| *v -= 1.0),
            Change::Rates(_) => {
                if let Some(v) = values.iter().find(|v| v.is_nan() || **v >= 0.0) {
                    return Err(self.bad(name, format!("holds {v}; rates of decay are negative")));
                }
                values.iter_mut().for_each(|v| *v = (-*v).ln());
            }
            _ => {}
        }
        Ok(())
    }

    /// Runs of values that are no whole blocks in another order, a period at a time, in this dtype.
    fn regrouped(&self, name: &str, order: Regroup, dtype: DType, out: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut values = vec![0.0; order.period];
        let bytes = order.period / self.form.block_len() * self.form.unit();
        for (i, period) in self.span.as_ref().chunks_exact(bytes).enumerate() {
            self.decode(period, i * order.period, order.period, &mut values);
            self.restore(name, &mut values)?;
            let moved: Vec<f32> = order.runs().flat_map(|run| &values[run]).copied().collect();
            out(&self.encode(name, dtype, &moved)?);
        }
        Ok(())
    }

    /// The row of the file that row `r` comes from.
    fn source_row(&self, r: usize) -> usize {
        let Change::Unpermute { heads } = self.change else { return r };
        let head = self.ty.dims[0] / heads;
        let (h, within) = (r / head, r % head);
        h * head + within % (head / 2) * 2 + within / (head / 2)
    }

    fn move_rows(&self, mut out: impl FnMut(&[u8])) {
        let bytes = self.span.as_ref();
        if self.change == Change::None || bytes.is_empty() {
            return out(bytes);
        }
        if let Some(order) = self.change.regroup() {
            let place = |at: usize| at / self.form.block_len() * self.form.unit();
            for start in (0..self.ty.numel()).step_by(order.period) {
                order.runs().for_each(|run| out(&bytes[place(start + run.start)..place(start + run.end)]));
            }
            return;
        }
        let rows = self.ty.dims[0];
        let width = bytes.len() / rows;
        (0..rows).map(|r| self.source_row(r) * width).for_each(|at| out(&bytes[at..at + width]));
    }

    /// Every integer as four bytes; an error for one that does not fit.
    fn integers(&self, name: &str, mut out: impl FnMut([u8; 4])) -> Result<()> {
        let Form::Integer { bytes, signed } = self.form else { return Ok(()) };
        for (i, stored) in self.span.as_ref().chunks_exact(bytes).enumerate() {
            let value = integer(stored, signed);
            let fits = match self.ty.dtype {
                DType::I32 => i32::try_from(value).map(i32::to_le_bytes),
                _ => u32::try_from(value).map(u32::to_le_bytes),
            };
            let why = || format!("element {i} is an integer beyond {}", self.ty.dtype);
            out(fits.map_err(|_| self.bad(name, why()))?);
        }
        Ok(())
    }

    /// Values of whole units that start at element `first`, in rows of `row` elements.
    fn decode(&self, bytes: &[u8], first: usize, row: usize, out: &mut [f32]) {
        let units = bytes.chunks_exact(self.form.unit()).zip(out.iter_mut());
        match &self.form {
            Form::Graph(DType::F32) => {
                units.for_each(|(b, v)| *v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            }
            Form::Graph(DType::F16) => {
                units.for_each(|(b, v)| *v = f16::from_le_bytes([b[0], b[1]]).to_f32())
            }
            Form::Graph(DType::BF16) => {
                units.for_each(|(b, v)| *v = bf16::from_le_bytes([b[0], b[1]]).to_f32())
            }
            Form::Graph(dtype) if dtype.is_quantized() => {
                let whole = dequantize(*dtype, bytes, out);
                debug_assert!(whole, "rows are whole blocks");
            }
            Form::Packed(packing) => {
                let (dtype, mut held) = (packing.held_in(), Vec::new());
                bytes.chunks_exact(packing.block_bytes()).for_each(|b| packing.hold(b, &mut held));
                let whole = dequantize(dtype, &held, out);
                debug_assert!(whole, "a block is held in whole blocks");
            }
            Form::Graph(dtype) => units.for_each(|(b, v)| *v = integer(b, *dtype == DType::I32) as f32),
            Form::Integer { signed, .. } => units.for_each(|(b, v)| *v = integer(b, *signed) as f32),
            Form::F8 => units.for_each(|(b, v)| *v = e4m3(b[0])),
            // Its rows are converted one by one, and the parts of a whole each for itself.
            Form::Layer(_) | Form::Joined { .. } => out.fill(f32::NAN),
            Form::F64 => units.for_each(|(b, v)| {
                *v = f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32;
            }),
            Form::Scaled { scales, .. } => {
                let scales: &[[u8; 4]] = bytemuck::cast_slice(scales.as_ref());
                for (i, (b, v)) in units.enumerate() {
                    let r = if scales.len() == 1 { 0 } else { (first + i) / row };
                    *v = integer(b, true) as f32 / f32::from_le_bytes(scales[r]);
                }
            }
        }
    }

    fn encode(&self, name: &str, dtype: DType, values: &[f32]) -> Result<Vec<u8>> {
        match dtype {
            DType::F32 => Ok(bytemuck::cast_slice(values).to_vec()),
            DType::BF16 => Ok(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()),
            DType::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                if let Some(v) = halves.iter().zip(values).find(|(h, v)| h.is_infinite() && v.is_finite()) {
                    return Err(self.bad(name, format!("{} is beyond f16; use bf16 or f32", v.1)));
                }
                Ok(bytemuck::cast_slice(&halves).to_vec())
            }
            _ => {
                if let Some(v) = values.iter().find(|v| !v.is_finite()) {
                    return Err(self.bad(name, format!("holds {v}, which has no place in {dtype}")));
                }
                quantize(dtype, values).ok_or_else(|| self.bad(name, format!("cannot be {dtype}")))
            }
        }
    }

    fn weight(&self, name: &str, bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Result<Weight> {
        Weight::new(self.ty.clone(), bytes).map_err(|e| self.bad(name, e.to_string()))
    }

    fn bad(&self, name: &str, why: String) -> Error {
        Error::Values { path: self.span.path().to_path_buf(), name: name.to_string(), why }
    }
}

fn integer(little_endian: &[u8], signed: bool) -> i64 {
    let negative = signed && little_endian.last().is_some_and(|b| b >> 7 == 1);
    let mut word = [if negative { 0xff } else { 0 }; 8];
    word[..little_endian.len()].copy_from_slice(little_endian);
    i64::from_le_bytes(word)
}

/// Bytes that begin at a multiple of eight.
struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    fn with_capacity(bytes: usize) -> Self {
        Self { words: vec![0; bytes.div_ceil(8)], len: 0 }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        bytemuck::cast_slice_mut(&mut self.words)[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}
