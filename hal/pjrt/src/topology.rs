//! Compiling for devices that are not there.

use std::path::Path;

use percept_graph::{DType, Graph, OpDesc, TensorType};
use percept_hal::{
    CompileOptions, DeviceInfo, EmitterDevice, Error, GraphEmitter, MemoryUse, Operand, Result,
};

use crate::backend::{dtypes, load, parse};
use crate::client::Topology;
use crate::emitter::{emit, not_compiled};
use crate::stablehlo;

/// What a process that compiles with libtpu should find in its environment: the library looks for a cloud machine
/// otherwise, and lets one process at a time load it. It may end the process, so that one should be a child.
pub const ENVIRONMENT: [(&str, &str); 2] = [("TPU_SKIP_MDS_QUERY", "1"), ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")];

/// Compiles graphs for the devices that a name such as `v5e:2x2` describes. Nothing runs: only the plug-in's compiler
/// is needed, and no hardware.
pub struct TopologyEmitter {
    info: DeviceInfo,
    topology: Topology,
}

/// A device that compiles and does not run: executables are made and reported on, and running one is an error.
pub type TopologyDevice = EmitterDevice<TopologyEmitter>;

impl TopologyEmitter {
    /// A compiler for a topology of the plug-in that an id `pjrt:/path/plugin.so` names.
    ///
    /// # Errors
    /// When the path leads to no plug-in, or the plug-in does not know the topology; the message has its words.
    pub fn open(id: &str, topology: &str) -> Result<TopologyDevice> {
        let (path, _) = parse(id)?;
        Self::load(id, &path, topology)
    }

    fn load(id: &str, path: &Path, name: &str) -> Result<TopologyDevice> {
        let plugin = load(id, path)?;
        let topology = Topology::create(plugin, name)
            .map_err(|e| Error::Open { id: format!("{id} for {name}"), why: e.to_string() })?;
        let (major, minor) = plugin.version();
        let info = DeviceInfo {
            id: format!("{id} for {name}"),
            name: topology.kind().to_string(),
            vendor: format!("{} devices, compiled for only", topology.len()),
            driver: format!("PJRT C API {major}.{minor}"),
            software: true,
            dtypes: dtypes(),
            features: Vec::new(),
            max_buffer_bytes: 1 << 40,
            memory_bytes: None,
            computes_in: DType::F32,
        };
        Ok(EmitterDevice::new(Self { info, topology }))
    }

    fn nothing_runs(&self) -> Error {
        let why = "its devices are compiled for, and are not here".to_string();
        Error::Failed { device: self.info.id.clone(), op: "a run".into(), why }
    }
}

impl GraphEmitter for TopologyEmitter {
    /// Uploaded bytes stay on the host, so that what is uploaded can be read back.
    type Memory = Vec<u8>;
    type Program = ();

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, op: &OpDesc<'_>) -> std::result::Result<(), String> {
        stablehlo::supports(op)
    }

    fn upload(&self, _ty: &TensorType, bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(bytes.to_vec())
    }

    fn read(&self, memory: &Vec<u8>, _ty: &TensorType) -> Result<Vec<u8>> {
        Ok(memory.clone())
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<()> {
        let module = emit(&self.info.id, graph, options)?;
        self.topology.compile(&module).map_err(|e| not_compiled(&self.info.id, graph, e))
    }

    fn run(&self, _program: &(), _operands: Vec<Operand<'_, Vec<u8>>>) -> Result<Vec<Vec<u8>>> {
        Err(self.nothing_runs())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse::default()
    }
}
