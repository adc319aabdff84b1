//! A planned operation and the memory it works on.

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::pool::{SharedSlice, Team};

/// Memory of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawTensor {
    /// First byte, aligned for the element type.
    pub start: *mut u8,
    /// Length in bytes.
    pub bytes: usize,
}

impl RawTensor {
    /// Whether a byte of one is a byte of the other.
    pub fn overlaps(&self, other: &RawTensor) -> bool {
        let (a, b) = (self.start.addr(), other.start.addr());
        a < b + other.bytes && b < a + self.bytes
    }
}

// SAFETY: a raw tensor is an address; who may use it is the caller's promise to `Operands::new`.
unsafe impl Send for RawTensor {}
// SAFETY: as above.
unsafe impl Sync for RawTensor {}

/// The operands, results and workspace of one launch.
pub(crate) struct Operands<'a> {
    inputs: &'a [RawTensor],
    outputs: &'a [RawTensor],
    workspace: RawTensor,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Operands<'a> {
    /// # Safety
    /// For `'a`, every tensor's memory is valid, initialized and aligned to 16 bytes; nothing else writes the
    /// inputs; nothing else touches the outputs and workspace, and these overlap nothing, except that an output may
    /// be exactly the input its operation updates in place.
    pub(crate) unsafe fn new(
        inputs: &'a [RawTensor],
        outputs: &'a [RawTensor],
        workspace: RawTensor,
    ) -> Operands<'a> {
        Operands { inputs, outputs, workspace, memory: PhantomData }
    }

    /// The elements of operand `i`. Operands that the operation updates in place are read through the output.
    pub(crate) fn input<T: Pod>(&self, i: usize) -> &'a [T] {
        let tensor = self.inputs[i];
        if tensor.bytes == 0 {
            return &[];
        }
        debug_assert!(tensor.start.cast::<T>().is_aligned());
        // SAFETY: valid, initialized and unwritten by the promise to `new`; `T` is plain data.
        unsafe { std::slice::from_raw_parts(tensor.start.cast(), tensor.bytes / size_of::<T>()) }
    }

    /// The elements of result `i`, for the team to write in disjoint parts.
    pub(crate) fn output<T: Pod>(&self, i: usize) -> SharedSlice<'a, T> {
        shared(self.outputs[i])
    }

    /// Whether result `i` lies where operand `j` lies.
    pub(crate) fn in_place(&self, i: usize, j: usize) -> bool {
        std::ptr::eq(self.outputs[i].start, self.inputs[j].start)
    }

    /// The workspace, for the team to write in disjoint parts.
    pub(crate) fn workspace<T: Pod>(&self) -> SharedSlice<'a, T> {
        shared(self.workspace)
    }
}

fn shared<'a, T: Pod>(tensor: RawTensor) -> SharedSlice<'a, T> {
    debug_assert!(tensor.start.cast::<T>().is_aligned());
    // SAFETY: the promise to `Operands::new`, and `T` is plain data.
    unsafe { SharedSlice::from_raw(tensor.start.cast(), tensor.bytes / size_of::<T>()) }
}

/// What every thread of a team runs for one operation.
pub(crate) type Body = Box<dyn Fn(&Team<'_>, &Operands<'_>) + Send + Sync>;

/// An operation planned for its shapes.
pub(crate) struct Kernel {
    /// Runs on every thread of the team; ends without a barrier.
    pub body: Body,
    /// Bytes of workspace that the kernel needs.
    pub workspace: usize,
    /// Estimated time on one thread in nanoseconds.
    pub work: usize,
    /// The same where result 0 lies in operand 0, which then need not be copied.
    pub work_in_place: usize,
}

impl Kernel {
    /// A kernel without workspace.
    pub(crate) fn new(
        work: usize,
        body: impl Fn(&Team<'_>, &Operands<'_>) + Send + Sync + 'static,
    ) -> Kernel {
        Kernel::with_workspace(0, work, body)
    }

    /// A kernel with `workspace` bytes of workspace.
    pub(crate) fn with_workspace(
        workspace: usize,
        work: usize,
        body: impl Fn(&Team<'_>, &Operands<'_>) + Send + Sync + 'static,
    ) -> Kernel {
        Kernel { body: Box::new(body), workspace, work, work_in_place: work }
    }
}
