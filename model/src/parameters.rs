//! Parameters of a model while it is traced: declared once each, under their checkpoint names.

use std::borrow::Cow;
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

    /// What an adapter does to the products of the linear layer `name` beside its addition.
    fn extras(&self, name: &str) -> Extras {
        let _ = name;
        Extras::default()
    }

    /// Whether an adapter in a file adds something to the tensor `name`, so that it is `{name}.adapted` for whoever reads
    /// it whole. [`Parameters::linear`] and [`Parameters::embedding`] add it to what they compute.
    fn is_adapted(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

/// What an adapter does to a linear layer's products beside its addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extras {
    /// They are first multiplied by `{name}.lora_magnitude_vector` [n] (DoRA, Liu et al. 2024); rows of a table by as many
    /// values as it has columns.
    pub magnitude: bool,
    /// `{name}.lora_bias` [n] is added to them.
    pub bias: bool,
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
        let (name, dims) = (self.whole(name), dims.into());
        match self.stored.dtype(&name, &dims) {
            Ok(_) => self.declare(&name, DType::F32, dims),
            Err(e) => self.refuse(&name, e),
        }
    }

    /// A matrix or table in the dtype it is stored in. The checkpoint may hold the same elements under another shape.
    pub fn matrix(&self, name: &str, dims: [usize; 2]) -> Tensor {
        self.as_stored(&self.whole(name), dims)
    }

    /// The name of a tensor with what an adapter adds to it.
    fn whole<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.stored.is_adapted(name) { format!("{name}.adapted").into() } else { name.into() }
    }

    fn as_stored(&self, name: &str, dims: [usize; 2]) -> Tensor {
        match self.stored.dtype(name, &dims) {
            Ok(dtype) => self.declare(name, dtype, dims.to_vec()),
            Err(e) => self.refuse(name, e),
        }
    }

    /// act(x w^T + b) with `{name}.weight` [n,k] and, when there is one, `{name}.bias` [n], plus what an adapter adds.
    pub fn linear(&self, x: &Tensor, name: &str, n: usize, bias: bool, act: Option<Activation>) -> Tensor {
        let k = x.dim(x.rank().saturating_sub(1));
        let w = self.as_stored(&format!("{name}.weight"), [n, k]);
        let b = bias.then(|| self.get(&format!("{name}.bias"), [n]));
        let Some(Adapter { rank, scale }) = self.stored.adapter(name) else {
            return product(x, &w, b.as_ref(), act);
        };
        let down = self.as_stored(&format!("{name}.lora_A.weight"), [rank, k]);
        let up = self.as_stored(&format!("{name}.lora_B.weight"), [n, rank]);
        let added = product(&product(x, &down, None, None), &up, None, None) * scale as f64;
        let extras = self.stored.extras(name);
        let mut y = match extras.magnitude {
            false => product(x, &w, b.as_ref(), None) + added,
            true => {
                let scaled =
                    product(x, &w, None, None) * self.get(&format!("{name}.lora_magnitude_vector"), [n]);
                let y = scaled + added;
                b.map_or(y.clone(), |b| y + b)
            }
        };
        if extras.bias {
            y = y + self.get(&format!("{name}.lora_bias"), [n]);
        }
        act.map_or(y.clone(), |a| y.activate(a))
    }

    /// Rows of the table `name` [v,d] at i32 ids, as f32, plus those that an adapter adds.
    pub fn embedding(&self, ids: &Tensor, name: &str, dims: [usize; 2]) -> Tensor {
        let look = |table: &Tensor| {
            let out = if table.dtype().is_quantized() { DType::F32 } else { table.dtype() };
            table.embedding(ids, out).cast(DType::F32)
        };
        let rows = look(&self.as_stored(name, dims));
        let layer = name.strip_suffix(".weight").filter(|_| self.stored.is_adapted(name));
        let Some((layer, Adapter { rank, scale })) = layer.and_then(|l| Some((l, self.stored.adapter(l)?)))
        else {
            return rows;
        };
        let [v, d] = dims;
        let first = look(&self.as_stored(&format!("{layer}.lora_embedding_A.weight"), [v, rank]));
        let up = self.as_stored(&format!("{layer}.lora_embedding_B.weight"), [d, rank]);
        let added = product(&first, &up, None, None) * scale as f64;
        match self.stored.extras(layer).magnitude {
            true => rows * self.get(&format!("{layer}.lora_magnitude_vector"), [d]) + added,
            false => rows + added,
        }
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
