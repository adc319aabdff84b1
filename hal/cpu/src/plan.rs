//! From an operation and its shapes to the kernel that runs it.

use percept_graph::OpDesc;

use crate::fused;
use crate::kernel::Kernel;

/// The kernel for an operation; `None` where it has to be decomposed.
pub(crate) fn plan(desc: &OpDesc<'_>) -> Option<Kernel> {
    fused::program(desc).map(fused::Program::into_kernel)
}
