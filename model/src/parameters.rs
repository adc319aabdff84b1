//! Parameters of a model while it is traced: declared once each, under their checkpoint names.

use std::cell::RefCell;
use std::collections::HashMap;

use percept_graph::{Activation, DType, Tensor, TensorType, Trace};

use crate::error::Error;

/// The dtype that parameters have on the device.
pub trait Stored {
    /// The dtype of a matrix or table of this shape.
    ///
    /// # Errors
    /// When there is no such parameter, or it has another number of elements.
    fn dtype(&self, name: &str, dims: &[usize]) -> Result<DType, Error>;

    /// What is trained beside the linear layer `name` (without `.weight`), if anything is.
    fn adapter(&self, name: &str) -> Option<Adapter> {
        let _ = name;
        None
    }
}

/// A low-rank addition to a linear layer (Hu et al. 2021): y + scale x A^T B^T, with the parameters
/// `{name}.lora_A.weight` [rank,k] and `{name}.lora_B.weight` [n,rank].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adapter {
    /// Rows of A.
    pub rank: usize,
    /// Multiplies the addition.
    pub scale: f32,
}

/// Every parameter in f32, as training has them.
pub struct Masters;

impl Stored for Masters {
    fn dtype(&self, _name: &str, _dims: &[usize]) -> Result<DType, Error> {
        Ok(DType::F32)
    }
}

/// The parameters of one trace. A parameter that is used twice, like a tied table, is one input.
pub struct Parameters<'a> {
    trace: Trace,
    stored: &'a dyn Stored,
    declared: RefCell<HashMap<String, Tensor>>,
}

impl<'a> Parameters<'a> {
    /// Parameters as inputs of `trace`.
    pub fn new(trace: &Trace, stored: &'a dyn Stored) -> Self {
        Self { trace: trace.clone(), stored, declared: RefCell::default() }
    }

    /// The trace they are inputs of.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// A vector or other small parameter, as f32 whatever the checkpoint holds.
    pub fn get(&self, name: &str, dims: impl Into<Vec<usize>>) -> Tensor {
        let dims = dims.into();
        match self.stored.dtype(name, &dims) {
            Ok(_) => self.declare(name, DType::F32, dims),
            Err(e) => self.refuse(name, e),
        }
    }

    /// A matrix or table in the dtype it is stored in. The checkpoint may hold the same elements under another shape.
    pub fn matrix(&self, name: &str, dims: [usize; 2]) -> Tensor {
        match self.stored.dtype(name, &dims) {
            Ok(dtype) => self.declare(name, dtype, dims.to_vec()),
            Err(e) => self.refuse(name, e),
        }
    }

    /// act(x w^T + b) with `{name}.weight` [n,k] and, when there is one, `{name}.bias` [n], plus what an adapter adds.
    pub fn linear(&self, x: &Tensor, name: &str, n: usize, bias: bool, act: Option<Activation>) -> Tensor {
        let k = x.dim(x.rank().saturating_sub(1));
        let w = self.matrix(&format!("{name}.weight"), [n, k]);
        let b = bias.then(|| self.get(&format!("{name}.bias"), [n]));
        let Some(Adapter { rank, scale }) = self.stored.adapter(name) else {
            return product(x, &w, b.as_ref(), act);
        };
        let down = self.matrix(&format!("{name}.lora_A.weight"), [rank, k]);
        let up = self.matrix(&format!("{name}.lora_B.weight"), [n, rank]);
        let added = product(&product(x, &down, None, None), &up, None, None) * scale as f64;
        let y = product(x, &w, b.as_ref(), None) + added;
        act.map_or(y.clone(), |a| y.activate(a))
    }

    /// Rows of the table `name` [v,d] at i32 ids, as f32.
    pub fn embedding(&self, ids: &Tensor, name: &str, dims: [usize; 2]) -> Tensor {
        let table = self.matrix(name, dims);
        let out = if table.dtype().is_quantized() { DType::F32 } else { table.dtype() };
        table.embedding(ids, out).cast(DType::F32)
    }

    /// The parameter `name` of another graph that is recorded on this trace too, in the type that it has there.
    pub fn shared(&self, name: &str, ty: &TensorType) -> Tensor {
        self.declare(name, ty.dtype, ty.dims.clone())
    }

    fn declare(&self, name: &str, dtype: DType, dims: Vec<usize>) -> Tensor {
        let mut declared = self.declared.borrow_mut();
        declared
            .entry(name.to_string())
            .or_insert_with(|| self.trace.parameter(name, dtype, dims.clone()))
            .clone()
    }

    /// Keeps the error in the trace; what is made of the handle is ignored.
    fn refuse(&self, name: &str, e: Error) -> Tensor {
        self.trace.fail(format!("parameter '{name}'"), Vec::new(), e.to_string());
        self.trace.full(DType::F32, [], 0.0)
    }
}

/// act(x w^T + b) of f32 x and w [n,k] in any dtype. With a half-precision w the products are of halves, summed in f32;
/// a quantized one is dequantized exactly.
pub fn product(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, act: Option<Activation>) -> Tensor {
    if !matches!(w.dtype(), DType::F16 | DType::BF16) {
        return x.linear(w, bias, act);
    }
    let y = x.cast(w.dtype()).linear(w, None, None).cast(DType::F32);
    let y = bias.map_or(y.clone(), |b| &y + b);
    act.map_or(y.clone(), |a| y.activate(a))
}
