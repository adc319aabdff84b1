//! A backend in one file, as docs/add-a-backend.md builds it up: a library of plain loops over f32.

use std::sync::{Arc, Mutex, PoisonError};

use percept::graph::{Binary, DType, Op, OpDesc, ReduceKind, TensorType, Unary};
use percept::hal::conformance::{Level, Options, Report, RunError, Runner, Subject, run};
use percept::hal::{
    Backend, Device, DeviceInfo, Error, LibraryDevice, OpLaunch, OpLibrary, Planned, Region, Result,
};

/// The library, and what it says of itself.
pub struct Loops {
    info: DeviceInfo,
}

/// A block of memory.
pub struct Memory(Mutex<Vec<u8>>);

/// What a launch calls: operands and the number of results in, results out.
type Function = Box<dyn Fn(&[Vec<f32>], usize) -> Vec<f32> + Send + Sync>;

/// What the library prepares for an operation.
pub enum LaunchPlan {
    /// Copy the bytes of the operand.
    Copy,
    /// Call a function on f32 values.
    Call(Function),
}

impl Loops {
    /// The library.
    pub fn new() -> Self {
        let info = DeviceInfo {
            id: "loops".into(),
            name: "plain loops".into(),
            vendor: "you".into(),
            driver: env!("CARGO_PKG_VERSION").into(),
            software: true,
            dtypes: vec![DType::F32],
            features: Vec::new(),
            max_buffer_bytes: 1 << 32,
            memory_bytes: None,
            computes_in: DType::F32,
        };
        Self { info }
    }
}

impl Default for Loops {
    fn default() -> Self {
        Self::new()
    }
}

impl OpLibrary for Loops {
    type Memory = Memory;
    type LaunchPlan = LaunchPlan;

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

    fn query(&self, op: &OpDesc<'_>) -> Result<Planned<LaunchPlan>, String> {
        Ok(Planned { plan: plan(op)?, workspace: 0 })
    }

    fn launch(&self, step: &OpLaunch<'_, Self>) -> Result<()> {
        let operands =
            step.inputs.iter().map(|&region| self.bytes(region)).collect::<Result<Vec<Vec<u8>>>>()?;
        match step.plan {
            LaunchPlan::Copy => self.write(step.outputs[0], &operands[0]),
            LaunchPlan::Call(function) => {
                let values: Vec<Vec<f32>> = operands.iter().map(|b| floats(b)).collect();
                let result = function(&values, step.outputs[0].bytes / 4);
                let bytes: Vec<u8> = result.iter().flat_map(|v| v.to_le_bytes()).collect();
                self.write(step.outputs[0], &bytes)
            }
        }
    }
}

impl Loops {
    fn bytes(&self, region: Region<'_, Memory>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; region.bytes];
        self.read(region, &mut bytes)?;
        Ok(bytes)
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect()
}

/// The operations the library has.
fn plan(op: &OpDesc<'_>) -> Result<LaunchPlan, String> {
    if let Op::Reshape { .. } | Op::Bitcast { .. } | Op::Barrier = op.op {
        return Ok(LaunchPlan::Copy);
    }
    if op.inputs.iter().chain(op.outputs).any(|t| t.dtype != DType::F32) {
        return Err("the library computes in f32 only".into());
    }
    let function: Function = match op.op {
        Op::Unary(kind) => each(unary(*kind)?),
        Op::Binary(kind) => pairs(binary(*kind)?),
        Op::Reduce { kind: ReduceKind::Sum, axes, .. } if rows(axes, &op.inputs[0]) => {
            let width = op.inputs[0].dims.last().copied().unwrap_or(1);
            Box::new(move |x, n| (0..n).map(|r| x[0][r * width..(r + 1) * width].iter().sum()).collect())
        }
        _ => return Err("not written yet".into()),
    };
    Ok(LaunchPlan::Call(function))
}

/// Whether a reduction runs over the last dimension alone.
fn rows(axes: &[usize], x: &TensorType) -> bool {
    axes == [x.rank() - 1]
}

fn each(f: fn(f32) -> f32) -> Function {
    Box::new(move |x, _| x[0].iter().map(|&v| f(v)).collect())
}

fn pairs(f: fn(f32, f32) -> f32) -> Function {
    Box::new(move |x, _| x[0].iter().zip(&x[1]).map(|(&a, &b)| f(a, b)).collect())
}

fn unary(kind: Unary) -> Result<fn(f32) -> f32, String> {
    Ok(match kind {
        Unary::Neg => |x| -x,
        Unary::Abs => f32::abs,
        Unary::Exp => f32::exp,
        Unary::Log => f32::ln,
        Unary::Sqrt => f32::sqrt,
        Unary::Tanh => f32::tanh,
        Unary::Floor => f32::floor,
        Unary::Ceil => f32::ceil,
        _ => return Err("not written yet".into()),
    })
}

fn binary(kind: Binary) -> Result<fn(f32, f32) -> f32, String> {
    Ok(match kind {
        Binary::Add => |a, b| a + b,
        Binary::Sub => |a, b| a - b,
        Binary::Mul => |a, b| a * b,
        Binary::Div => |a, b| a / b,
        Binary::Max => |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) },
        Binary::Min => |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) },
        _ => return Err("not written yet".into()),
    })
}

/// The entry in the registry.
pub struct LoopsBackend;

impl Backend for LoopsBackend {
    fn prefix(&self) -> &'static str {
        "loops"
    }

    fn list(&self) -> Vec<DeviceInfo> {
        vec![Loops::new().info]
    }

    fn open(&self, id: &str) -> Result<Arc<dyn Device>> {
        if id != "loops" {
            return Err(Error::UnknownDevice { id: id.to_string(), known: "loops".into() });
        }
        Ok(Arc::new(LibraryDevice::new(Loops::new())))
    }
}

/// Climb the ladder up to a rung, with the cpu as the host for what the library lacks.
pub fn climb(level: Level) -> std::result::Result<Report, RunError> {
    let failed = |e: Error| RunError::Worker(e.to_string());
    let mut subject = Subject::new(LoopsBackend.open("loops").map_err(failed)?);
    subject.host = Some(percept::registry().open("cpu").map_err(failed)?);
    let options = Options { level, ..Options::default() };
    run("loops", &Runner::InProcess(&subject), &options, &mut |_, _, _| {})
}

fn main() -> std::result::Result<(), RunError> {
    println!("{}", climb(Level::L4)?);
    Ok(())
}
