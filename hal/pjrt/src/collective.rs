//! Programs that several devices of one client run together.

use std::sync::Arc;

use percept_graph::{DType, TensorType};

use crate::client::{Client, DeviceBuffer, Program};
use crate::plugin::Failure;
use crate::stablehlo;

/// The sum of a tensor over devices: each gives its own and gets the sum of all.
pub struct AllReduce {
    program: Program,
    bytes: usize,
}

impl AllReduce {
    /// Make it for a dtype that has sums (a float or i32, u32) and these devices of a client.
    ///
    /// # Errors
    /// When the dtype has no sums, or the compiler refuses the program.
    pub fn compile(client: &Arc<Client>, devices: &[usize], ty: &TensorType) -> Result<Self, Failure> {
        if ty.dtype.is_quantized() || matches!(ty.dtype, DType::U8 | DType::Bool) {
            let message = format!("{} has no sums", ty.dtype);
            return Err(Failure { function: "all-reduce", code: 3, message });
        }
        let program = client.compile(&stablehlo::all_reduce(ty, devices.len()), devices)?;
        Ok(Self { program, bytes: ty.bytes() })
    }

    /// The sums, in the order of the devices, from each device's part.
    ///
    /// # Errors
    /// When there is not one part for each device, on it, or the runtime fails.
    pub fn run(&self, parts: &[&DeviceBuffer]) -> Result<Vec<DeviceBuffer>, Failure> {
        let operands: Vec<Vec<&DeviceBuffer>> = parts.iter().map(|part| vec![*part]).collect();
        Ok(self.program.run(&operands, &[self.bytes])?.into_iter().flatten().collect())
    }
}
