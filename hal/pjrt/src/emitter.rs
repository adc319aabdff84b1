//! A plug-in's device as a [`GraphEmitter`].

use std::sync::Arc;

use percept_graph::{Graph, OpDesc, TensorType};
use percept_hal::{
    CompileOptions, DeviceInfo, EmitterDevice, Error, GraphEmitter, MemoryUse, Operand, Result,
};

use crate::api::{RESOURCE_EXHAUSTED, UNIMPLEMENTED};
use crate::client::{Client, DeviceBuffer, Program};
use crate::plugin::Failure;
use crate::stablehlo;

/// Compiles graphs for one device of a client and runs them.
pub struct PjrtEmitter {
    info: DeviceInfo,
    client: Arc<Client>,
    device: usize,
}

/// A device of a PJRT plug-in.
pub type PjrtDevice = EmitterDevice<PjrtEmitter>;

/// A compiled graph with the sizes of its outputs.
pub struct Compiled {
    program: Program,
    output_bytes: Vec<usize>,
    name: String,
}

impl PjrtEmitter {
    /// The emitter of a client's device.
    pub(crate) fn new(info: DeviceInfo, client: Arc<Client>, device: usize) -> Self {
        Self { info, client, device }
    }

    /// The client whose device this is.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    fn failed(&self, op: &str, failure: Failure) -> Error {
        failed(&self.info.id, op, failure)
    }
}

/// A plug-in's failure as an error of a device.
pub(crate) fn failed(device: &str, op: &str, failure: Failure) -> Error {
    Error::Failed { device: device.to_string(), op: op.to_string(), why: failure.to_string() }
}

/// A compiler's failure as an error of a device.
pub(crate) fn not_compiled(device: &str, graph: &Graph, failure: Failure) -> Error {
    let op = format!("compiling '{}'", graph.name());
    if failure.code == UNIMPLEMENTED {
        let (device, path) = (device.to_string(), String::new());
        return Error::Unsupported { device, op, path, why: failure.to_string() };
    }
    failed(device, &op, failure)
}

/// The graph as a module, or the operation that cannot be emitted.
pub(crate) fn emit(device: &str, graph: &Graph, options: &CompileOptions) -> Result<String> {
    let unsupported = |op: &str, path: &str, why: String| Error::Unsupported {
        device: device.to_string(),
        op: op.to_string(),
        path: path.to_string(),
        why,
    };
    if options.batch_invariant {
        let why = "the plug-in's compiler chooses the order of sums by itself, so results of a row may depend on the rows \
                   beside it; compile without batch invariance (`--batch-variant`), or use cpu or wgpu";
        return Err(unsupported("a batch-invariant program", "", why.into()));
    }
    stablehlo::emit(graph).map_err(|e| unsupported(&e.op, &e.path, e.why))
}

impl GraphEmitter for PjrtEmitter {
    type Memory = DeviceBuffer;
    type Program = Compiled;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, op: &OpDesc<'_>) -> std::result::Result<(), String> {
        stablehlo::supports(op)
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<DeviceBuffer> {
        let copied = self.client.upload(self.device, ty, bytes);
        copied.map_err(|e| match e.code {
            RESOURCE_EXHAUSTED => Error::OutOfMemory {
                device: self.info.id.clone(),
                what: ty.to_string(),
                bytes: bytes.len() as u64,
                why: e.message,
            },
            _ => self.failed(&format!("an upload of {ty}"), e),
        })
    }

    fn read(&self, memory: &DeviceBuffer, ty: &TensorType) -> Result<Vec<u8>> {
        let mut bytes = vec![0; ty.bytes()];
        memory.read(ty.rank(), &mut bytes).map_err(|e| self.failed(&format!("a read of {ty}"), e))?;
        Ok(bytes)
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Compiled> {
        let module = emit(&self.info.id, graph, options)?;
        let program = self.client.compile(&module, &[self.device]);
        let program = program.map_err(|e| not_compiled(&self.info.id, graph, e))?;
        let output_bytes = graph.outputs().iter().map(|o| graph.ty(o.value).bytes()).collect();
        Ok(Compiled { program, output_bytes, name: graph.name().to_string() })
    }

    fn run(
        &self,
        compiled: &Compiled,
        operands: Vec<Operand<'_, DeviceBuffer>>,
    ) -> Result<Vec<DeviceBuffer>> {
        let list = operands.iter().map(Operand::memory).collect();
        let made = compiled.program.run(&[list], &compiled.output_bytes);
        let made = made.map_err(|e| self.failed(&format!("a run of '{}'", compiled.name), e))?;
        Ok(made.into_iter().next().unwrap_or_default())
    }

    fn synchronize(&self) -> Result<()> {
        self.client.synchronize().map_err(|e| self.failed("", e))
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse { buffers: self.client.live_bytes(), scratch: 0 }
    }
}
