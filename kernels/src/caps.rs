//! What lowering may assume of the adapter, and the choices that tuning makes.

use percept_graph::DType;

/// A kind of cooperative matrices: `size` by `size`, with sums in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cooperative {
    /// Rows and columns of each matrix, 8 or 16.
    pub size: u32,
    /// f16 or f32.
    pub operand: DType,
}

/// Limits and features of the adapter, and the variant that tuning chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caps {
    /// `enable f16;` compiles and computes correctly.
    pub f16: bool,
    /// Lanes of a subgroup when subgroup operations work, the size is fixed, and a workgroup's invocations
    /// fill subgroups in order.
    pub subgroup_size: Option<u32>,
    /// Cooperative matrices that work (verified by a small product).
    pub cooperative_matrix: Option<Cooperative>,
    /// The adapter is a CPU: registers and caches matter, workgroup memory does not.
    pub software: bool,
    /// Bytes of workgroup memory.
    pub max_workgroup_storage: u32,
    /// Invocations in one workgroup.
    pub max_invocations: u32,
    /// Workgroups per dimension.
    pub max_groups: u32,
    /// Storage buffers one module may bind.
    pub max_bindings: u32,
    /// Bytes of the longest window that a binding can show.
    pub max_window: u64,
    /// Windows start at multiples of this many bytes.
    pub alignment: u64,
    /// Choose only among variants whose reduction order depends on nothing but dtype and reduced length.
    pub batch_invariant: bool,
    /// The variant to use where an op has several; see [`crate::variants`].
    pub variant: Option<u32>,
}

impl Default for Caps {
    /// The least that WebGPU promises.
    fn default() -> Self {
        Self {
            f16: false,
            subgroup_size: None,
            cooperative_matrix: None,
            software: false,
            max_workgroup_storage: 16384,
            max_invocations: 256,
            max_groups: 65535,
            max_bindings: 8,
            max_window: 128 << 20,
            alignment: 256,
            batch_invariant: false,
            variant: None,
        }
    }
}
