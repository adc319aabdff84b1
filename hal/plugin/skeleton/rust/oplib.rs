//! NAME: a plug-in for Percept. As it stands it computes on the processor, so that it loads and climbs the ladder's
//! first rung; put the chip's own calls in the places marked HERE, one after the other, and climb on.

use std::sync::{Mutex, PoisonError};

use percept_graph::{Binary, DType, Op, OpDesc};
use percept_hal::{DeviceInfo, Error, OpLaunch, OpLibrary, Planned, Region, Result};

percept_plugin::export_plugin! {
    library: Library,
    name: "NAME",
    options: ["index"],
    open: Library::open,
}

/// HERE: the chip's context.
pub struct Library {
    info: DeviceInfo,
}

/// HERE: a block of the chip's memory.
pub struct Memory(Mutex<Vec<u8>>);

/// HERE: what the chip's library wants to know at a launch.
pub struct Plan(fn(f32, f32) -> f32);

impl Library {
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

impl OpLibrary for Library {
    type Memory = Memory;
    type LaunchPlan = Plan;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        Ok(Memory(Mutex::new(vec![0; bytes])))
    }

    fn write(&self, dst: Region<'_, Memory>, bytes: &[u8]) -> Result<()> {
        let mut memory = dst.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory[dst.offset..dst.offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, src: Region<'_, Memory>, out: &mut [u8]) -> Result<()> {
        let memory = src.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.copy_from_slice(&memory[src.offset..src.offset + out.len()]);
        Ok(())
    }

    fn query(&self, op: &OpDesc<'_>) -> Result<Planned<Plan>, String> {
        // HERE: one operation after the other. `percept device test` names the one to write next.
        let plan = match op.op {
            Op::Binary(Binary::Add) => Plan(|a, b| a + b),
            Op::Binary(Binary::Mul) => Plan(|a, b| a * b),
            other => return Err(format!("{} is not written yet", other.name())),
        };
        if op.inputs[0].dtype != DType::F32 {
            return Err("it is there for f32 only".into());
        }
        Ok(Planned { plan, workspace: 0 })
    }

    fn launch(&self, step: &OpLaunch<'_, Self>) -> Result<()> {
        let operands: Vec<Vec<f32>> =
            step.inputs.iter().map(|&region| self.floats(region)).collect::<Result<_>>()?;
        let results = operands[0].iter().zip(&operands[1]).map(|(a, b)| (step.plan.0)(*a, *b));
        let bytes: Vec<u8> = results.flat_map(f32::to_le_bytes).collect();
        self.write(step.outputs[0], &bytes)
    }
}

impl Library {
    fn floats(&self, region: Region<'_, Memory>) -> Result<Vec<f32>> {
        let mut bytes = vec![0; region.bytes];
        self.read(region, &mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
    }
}
