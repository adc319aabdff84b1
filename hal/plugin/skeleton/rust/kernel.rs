//! NAME: a plug-in for Percept. As it stands it computes on the processor, so that it loads and climbs the ladder's
//! first rung; put the chip's own calls in the places marked HERE, one after the other, and climb on.

use std::sync::{Mutex, PoisonError};

use percept_graph::DType;
use percept_hal::{DeviceInfo, Error, Region, Result};
use percept_plugin::abi;
use percept_plugin::export::{KernelCompiler, Launch, Limits, Module};

percept_plugin::export_kernels! {
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

/// HERE: the chip's handle of a compiled kernel.
pub struct Kernel;

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

impl KernelCompiler for Compiler {
    type Memory = Memory;
    type Kernel = Kernel;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn limits(&self, limits: &mut Limits) {
        // HERE: the language that the chip's compiler takes.
        limits.language = abi::WGSL;
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

    fn compile(&self, module: &Module<'_>) -> Result<Kernel, String> {
        // HERE: hand module.source to the chip's compiler. What it does not take goes another way.
        Err(format!("{}: there is no compiler here yet", module.key))
    }

    fn launch(&self, launch: &Launch<'_, Self>) -> Result<()> {
        // HERE: bind the buffers and the parameters, and start the kernel.
        Err(Error::Failed {
            device: self.info.id.clone(),
            op: launch.path.clone(),
            why: "no kernel was compiled".into(),
        })
    }
}
