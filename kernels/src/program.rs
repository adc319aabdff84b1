//! What lowering produces: modules to load and launches to make, in order.

use std::sync::Arc;

use thiserror::Error;

/// The adapter features a module cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Needs {
    /// The source says `enable f16;`.
    pub f16: bool,
    /// The source uses subgroup built-ins.
    pub subgroups: bool,
    /// The source uses cooperative matrices.
    pub cooperative_matrix: bool,
}

/// One WGSL module with the entry point `main`.
///
/// Bindings are storage buffers at `@group(0) @binding(i)` in the order of [`Launch::bindings`], all
/// `read_write`, because many tensors share one arena buffer. Parameters are a uniform struct at `@group(1)
/// @binding(0)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Kernel, dtypes and tile, and a hash of the source: two modules with one key are the same program.
    pub key: String,
    /// The WGSL text.
    pub source: Arc<str>,
    /// Adapter features the text uses.
    pub needs: Needs,
}

/// The buffer behind a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The operand at this position.
    Input(usize),
    /// A part of the operand at this position, which is longer than a binding can show: `bytes` from `offset`
    /// on.
    InputPart {
        /// The position of the operand.
        input: usize,
        /// A multiple of [`crate::Caps::alignment`].
        offset: u64,
        /// At most [`crate::Caps::max_window`].
        bytes: u64,
    },
    /// The result at this position.
    Output(usize),
    /// Scratch memory at this position of [`KernelProgram::scratch`].
    Scratch(usize),
}

/// One dispatch of a compute module.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The module dispatched.
    pub module: Module,
    /// Workgroups per dimension, each at most [`crate::Caps::max_groups`].
    pub groups: [u32; 3],
    /// The uniform struct as 32-bit words, at most [`MAX_PARAM_WORDS`].
    pub params: Vec<u32>,
    /// The buffers of group 0, in binding order.
    pub bindings: Vec<Slot>,
}

/// Launches in order; each reads what the ones before it wrote. None at all when every result is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KernelProgram {
    /// The dispatches in order.
    pub launches: Vec<Launch>,
    /// Bytes of each scratch buffer, whose contents are undefined at the start.
    pub scratch: Vec<u64>,
    /// (input, output) pairs: the output must hold the input's contents when the program starts, either
    /// because both are the same memory (the input dies here) or because the device copied it. The launches
    /// bind only the output.
    pub in_place: Vec<(usize, usize)>,
}

/// Parameters are at most this many 32-bit words (256 bytes).
pub const MAX_PARAM_WORDS: usize = 64;

/// Why there is no kernel for an op with these types; the device then decomposes it or falls back.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Unsupported {
    /// The reason, in one sentence.
    pub reason: String,
}

impl Unsupported {
    /// An error with this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl KernelProgram {
    /// Reserve a scratch buffer.
    pub(crate) fn scratch(&mut self, bytes: u64) -> Slot {
        self.scratch.push(bytes.max(4).next_multiple_of(4));
        Slot::Scratch(self.scratch.len() - 1)
    }
}
