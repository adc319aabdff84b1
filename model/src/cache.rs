//! The cache of keys and values that a decoder's steps carry from run to run.

use std::cell::RefCell;

use percept_graph::{DType, Role, Tensor, TensorType, Trace};

/// The caches of a traced step: inputs `cache.{layer}.{k,v}` of `capacity` rows, updated in place, with `pos` i32[b],
/// the position of the step's first row, and `kv_len` i32[b], the rows that hold something after it.
pub struct Cache {
    pos: Tensor,
    kv_len: Tensor,
    capacity: usize,
    dtype: DType,
    layers: RefCell<Vec<(String, [Tensor; 2])>>,
}

impl Cache {
    /// Caches of `capacity` rows in f32 or f16, for `batch` sequences.
    pub fn new(trace: &Trace, batch: usize, capacity: usize, dtype: DType) -> Self {
        let pos = trace.input("pos", Role::Scalar, TensorType::new(DType::I32, [batch]));
        let kv_len = trace.input("kv_len", Role::Scalar, TensorType::new(DType::I32, [batch]));
        Self { pos, kv_len, capacity, dtype, layers: RefCell::default() }
    }

    /// Position of the first row of the step.
    pub fn position(&self) -> &Tensor {
        &self.pos
    }

    /// Rows that hold something after the step.
    pub fn length(&self) -> &Tensor {
        &self.kv_len
    }

    /// All keys and values of a layer, [b,h,t,d] new ones among them.
    pub fn append(&self, layer: usize, k: &Tensor, v: &Tensor) -> [Tensor; 2] {
        [("k", k), ("v", v)].map(|(which, new)| {
            let name = format!("cache.{layer}.{which}");
            let dims = [new.dim(0), new.dim(1), self.capacity, new.dim(3)];
            let cache = new.trace().input(&name, Role::State, TensorType::new(self.dtype, dims));
            let all = cache.kv_append(&new.cast(self.dtype), &self.pos, None);
            self.layers.borrow_mut().push((name, [cache, all.clone()]));
            all
        })
    }

    /// Name the updated caches as outputs that replace the given ones.
    pub fn finish(&self) {
        for (name, [cache, all]) in self.layers.borrow().iter() {
            all.trace().output_in_place(name, all, cache);
        }
    }
}
