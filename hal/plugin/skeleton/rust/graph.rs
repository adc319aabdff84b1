//! NAME: a plug-in for Percept. As it stands it computes on the processor, so that it loads and climbs the ladder's
//! first rung; put the chip's own calls in the places marked HERE, one after the other, and climb on.

use std::sync::{Mutex, PoisonError};

use percept_graph::{Binary, DType, Graph, HostTensor, Op, OpDesc, reference};
use percept_hal::{DeviceInfo, Error, Region, Result};
use percept_plugin::export::GraphCompiler;

percept_plugin::export_graphs! {
    compiler: Compiler,
    name: "NAME",
    options: ["index"],
    open: Compiler::open,
}

/// HERE: the chip's context.
pub struct Compiler {
    info: DeviceInfo,
}

/// HERE: a block of the chip's memory.
pub struct Memory(Mutex<Vec<u8>>);

/// HERE: what the chip's compiler made of a graph.
pub struct Program(Graph);

impl Compiler {
    fn open(options: &[(String, String)]) -> Result<Self> {
        let info = DeviceInfo {
            id: "NAME".into(),
            name: "NAME".into(),
            vendor: "you".into(),
            driver: env!("CARGO_PKG_VERSION").into(),
            software: true,
            dtypes: vec![DType::F32, DType::I32],
            features: Vec::new(),
            max_buffer_bytes: 1 << 32,
            memory_bytes: None,
            computes_in: DType::F32,
        };
        match options.iter().find(|(key, value)| key == "index" && value != "0") {
            Some((_, index)) => Err(Error::Open {
                id: info.id,
                why: format!("there is no device {index}; there is device 0"),
            }),
            None => Ok(Self { info }),
        }
    }
}

impl GraphCompiler for Compiler {
    type Memory = Memory;
    type Program = Program;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        Ok(Memory(Mutex::new(vec![0; bytes])))
    }

    fn write(&self, to: Region<'_, Memory>, bytes: &[u8]) -> Result<()> {
        let mut memory = to.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory[to.offset..to.offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, from: Region<'_, Memory>, out: &mut [u8]) -> Result<()> {
        let memory = from.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.copy_from_slice(&memory[from.offset..from.offset + out.len()]);
        Ok(())
    }

    fn supports(&self, op: &OpDesc<'_>) -> Result<(), String> {
        // HERE: one operation after the other. `percept device test` names the one to write next.
        match op.op {
            Op::Binary(Binary::Add | Binary::Mul) => Ok(()),
            other => Err(format!("{} is not written yet", other.name())),
        }
    }

    fn compile(&self, graph: &Graph) -> Result<Program> {
        // HERE: hand the graph to the chip's compiler.
        Ok(Program(graph.clone()))
    }

    fn run(
        &self,
        program: &Program,
        inputs: &[Region<'_, Memory>],
        outputs: &[Region<'_, Memory>],
    ) -> Result<()> {
        // HERE: start what was compiled. In its place the reference computes, in f64 and slowly.
        let graph = &program.0;
        let failed =
            |why: String| Error::Failed { device: self.info.id.clone(), op: graph.name().into(), why };
        let mut given = Vec::new();
        for (input, &region) in graph.inputs().iter().zip(inputs) {
            let ty = graph.ty(input.value).clone();
            let mut bytes = vec![0; ty.bytes()];
            self.read(region, &mut bytes)?;
            given.push(HostTensor::new(ty, bytes).map_err(|e| failed(e.to_string()))?);
        }
        // Outputs may lie where inputs were, so all are made before one is written.
        let made = reference::evaluate(graph, &given).map_err(|e| failed(e.to_string()))?;
        made.iter().zip(outputs).try_for_each(|(tensor, &region)| self.write(region, tensor.bytes()))
    }
}
