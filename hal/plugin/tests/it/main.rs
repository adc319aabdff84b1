//! Plug-ins from outside: they are built with the machine's compilers, loaded, and climb the ladder.

mod ascend;
mod build;
mod captures;
mod faults;
mod kernels;
#[path = "../../../../tests/needs/mod.rs"]
mod needs;
mod opencl;
mod skeletons;
mod worker;
