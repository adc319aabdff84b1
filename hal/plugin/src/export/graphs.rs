//! A compiler of graphs as a table of C functions.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use percept_graph::{Graph, OpDesc};
use percept_hal::{DeviceInfo, Region, Result};

use super::{Export, Refusal, answer, bare_entry, devices, items, operation, region};
use crate::abi::{self, Entry, GraphSource, Handle, Message, RawDevices, RawGraphs, Span, Status};

/// A chip's compiler of graphs, with its memory and its one stream of work.
pub trait GraphCompiler: Send + Sync + 'static {
    /// A block of the device's memory.
    type Memory: Send + Sync + 'static;
    /// A compiled graph.
    type Program: Send + Sync + 'static;

    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// Memory of a size in bytes.
    ///
    /// # Errors
    /// When there is no such memory left.
    fn alloc(&self, bytes: usize) -> Result<Self::Memory>;

    /// Copy bytes to a region, which is as long as they are.
    ///
    /// # Errors
    /// When the device fails.
    fn write(&self, to: Region<'_, Self::Memory>, bytes: &[u8]) -> Result<()>;

    /// Copy a region to the host, after all that was put in before.
    ///
    /// # Errors
    /// When the device fails.
    fn read(&self, from: Region<'_, Self::Memory>, out: &mut [u8]) -> Result<()>;

    /// Whether a graph may have an operation, or why not: then it is taken apart or runs on the host.
    ///
    /// # Errors
    /// The reason.
    fn supports(&self, op: &OpDesc<'_>) -> std::result::Result<(), String>;

    /// Compile a graph of such operations, and of constants, reshapes, bitcasts and barriers, which are never asked about.
    ///
    /// # Errors
    /// When the compiler refuses it.
    fn compile(&self, graph: &Graph) -> Result<Self::Program>;

    /// Put a run in. An output has memory of its own, or lies where the input that it replaces did, which all other reads of
    /// that input must still see as it was.
    ///
    /// # Errors
    /// When the device fails.
    fn run(
        &self,
        program: &Self::Program,
        inputs: &[Region<'_, Self::Memory>],
        outputs: &[Region<'_, Self::Memory>],
    ) -> Result<()>;

    /// Wait for everything that was put in.
    ///
    /// # Errors
    /// What failed since the last call.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}

/// A compiler that is exported.
pub trait Compiler: GraphCompiler + Export<Block = <Self as GraphCompiler>::Memory> {}

impl<C: GraphCompiler + Export<Block = <C as GraphCompiler>::Memory>> Compiler for C {}

/// What a plug-in of this compiler gives its host.
pub fn entry<C: Compiler>() -> *const Entry {
    &Tables::<C>::ENTRY
}

struct Tables<C>(PhantomData<C>);

impl<C: Compiler> Tables<C> {
    const DEVICES: RawDevices = devices::<C>();
    const GRAPHS: RawGraphs = RawGraphs {
        struct_size: RawGraphs::SIZE,
        format: abi::TEXT_FORM,
        supports: Some(supports::<C>),
        compile: Some(compile::<C>),
        executable_free: Some(executable_free::<C>),
        run: Some(run::<C>),
        ..RawGraphs::zeroed()
    };
    const ENTRY: Entry = Entry { graphs: &Self::GRAPHS, ..bare_entry::<C>(&Self::DEVICES) };
}

// SAFETY, for all functions below: as in the module above.

unsafe extern "C" fn supports<C: Compiler>(
    device: Handle,
    op: *const abi::Op,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let (op, inputs, outputs) = operation(&*op)?;
            let desc = OpDesc { op: &op, inputs: &inputs, outputs: &outputs };
            (*device.cast::<C>()).supports(&desc).map_err(|why| Refusal(abi::UNSUPPORTED, why))
        })
    }
}

unsafe extern "C" fn compile<C: Compiler>(
    device: Handle,
    graph: *const GraphSource,
    executable: *mut Handle,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let text = items((*graph).source.cast::<u8>(), (*graph).source_bytes);
            let unread = |why: String| Refusal(abi::FAILED, format!("the graph is not read: {why}"));
            let text = str::from_utf8(text).map_err(|e| unread(e.to_string()))?;
            let graph: Graph = text.parse().map_err(|e: percept_graph::ParseError| unread(e.to_string()))?;
            let program = (*device.cast::<C>()).compile(&graph)?;
            *executable = Box::into_raw(Box::new(program)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn executable_free<C: Compiler>(_device: Handle, executable: Handle) {
    // SAFETY: see above.
    let _ =
        catch_unwind(AssertUnwindSafe(|| unsafe { drop(Box::from_raw(executable.cast::<C::Program>())) }));
}

unsafe extern "C" fn run<C: Compiler>(
    queue: Handle,
    executable: Handle,
    inputs: *const Span,
    input_count: u64,
    outputs: *const Span,
    output_count: u64,
    message: *mut Message,
) -> Status {
    // SAFETY: see above.
    unsafe {
        answer(message, || {
            let inputs: Vec<Region<'_, C::Block>> =
                items(inputs, input_count).iter().map(|span| region::<C>(span)).collect();
            let outputs: Vec<Region<'_, C::Block>> =
                items(outputs, output_count).iter().map(|span| region::<C>(span)).collect();
            Ok((*queue.cast::<C>()).run(&*executable.cast::<C::Program>(), &inputs, &outputs)?)
        })
    }
}
