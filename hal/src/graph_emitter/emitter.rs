//! What a graph compiler implements.

use percept_graph::{Graph, OpDesc, TensorType};

use crate::device::{CompileOptions, DeviceInfo, MemoryUse, Weight};
use crate::error::Result;
use crate::report::Placed;

/// A compiler of whole graphs, with the runtime of what it makes: PJRT, ONNX Runtime.
///
/// [`EmitterDevice`](crate::EmitterDevice) makes a [`Device`](crate::Device) of it, which lowers a graph, cuts it
/// where operations go to the host, and runs the pieces in order.
pub trait GraphEmitter: Send + Sync + 'static {
    /// One value in device memory, owned by the runtime and freed on drop.
    type Memory: Send + Sync + 'static;
    /// A compiled graph.
    type Program: Send + Sync + 'static;

    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// Whether an operation can be emitted for these types, or why not. A composite that cannot is decomposed.
    ///
    /// Constants, reshapes, bitcasts and barriers are never asked for: every emitter has them.
    fn supports(&self, op: &OpDesc<'_>) -> Result<(), String>;

    /// Copy dense little-endian bytes (quantized: ggml blocks, row after row) to the device; the count is checked.
    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Self::Memory>;

    /// Copy a weight to the device. Every program of the device takes it as an operand.
    fn load_weight(&self, weight: &Weight) -> Result<Self::Memory> {
        self.upload(&weight.ty, weight.bytes())
    }

    /// The bytes of a value of this type, as `upload` takes them, once everything it is made from has run.
    fn read(&self, memory: &Self::Memory, ty: &TensorType) -> Result<Vec<u8>>;

    /// Compile a graph whose every operation [`supports`](Self::supports) takes, or is one that it is never asked for.
    ///
    /// Inputs keep their roles. An output with an alias may be written over that input, whose other readers in the
    /// graph still see the old contents. No output is an input or a constant, and none is there twice.
    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Self::Program>;

    /// Operations of a program that the runtime gave to the host by itself, for the report.
    fn fallbacks(&self, _program: &Self::Program) -> Vec<Placed> {
        Vec::new()
    }

    /// Run a program on one operand per input, giving one value per output, in order.
    ///
    /// Exactly the operands of inputs that outputs alias are donated. A failed run may have consumed them.
    fn run(
        &self,
        program: &Self::Program,
        operands: Vec<Operand<'_, Self::Memory>>,
    ) -> Result<Vec<Self::Memory>>;

    /// Wait for everything that runs.
    fn synchronize(&self) -> Result<()>;

    /// Device memory in use.
    fn memory(&self) -> MemoryUse;
}

/// An operand of a run.
#[derive(Debug)]
pub enum Operand<'a, M> {
    /// It is read and stays as it is.
    Borrowed(&'a M),
    /// It is given up: the output that aliases it may take its memory over.
    Donated(M),
}

impl<M> Operand<'_, M> {
    /// The value, given up or not.
    pub fn memory(&self) -> &M {
        match self {
            Operand::Borrowed(memory) => memory,
            Operand::Donated(memory) => memory,
        }
    }
}
