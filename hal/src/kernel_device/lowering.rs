//! From one operation to launches over windows: what the kernels give, held to the limits of the device.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::rc::Rc;

use percept_graph::{DType, Op, OpDesc, TensorType};
use percept_kernels::{Caps, Program, Unsupported};

use super::device::KernelLimits;
use super::layout::device_bytes;
use crate::device::Support;

/// Lowers the operations of one graph. Layers repeat the same operations on the same types, and each is lowered once.
pub(super) struct Lowering<'a> {
    limits: &'a KernelLimits,
    caps: Caps,
    known: RefCell<HashMap<Kind, Vec<Known>>>,
}

/// What two equal operations have in common and can be hashed.
type Kind = (Discriminant<Op>, Vec<TensorType>);

struct Known {
    op: Op,
    outputs: Vec<TensorType>,
    program: Result<Rc<Program>, Unsupported>,
}

impl<'a> Lowering<'a> {
    pub fn new(limits: &'a KernelLimits, batch_invariant: bool) -> Self {
        let caps = Caps { batch_invariant, ..limits.caps.clone() };
        Self { limits, caps, known: RefCell::default() }
    }

    /// The launches of an operation, or why there are none on this device.
    pub fn program(&self, op: &OpDesc<'_>) -> Result<Rc<Program>, Unsupported> {
        let mut known = self.known.borrow_mut();
        let alike = known.entry((discriminant(op.op), op.inputs.to_vec())).or_default();
        if let Some(k) = alike.iter().find(|k| k.op == *op.op && k.outputs == op.outputs) {
            return k.program.clone();
        }
        let program = self.lower(op).map(Rc::new);
        alike.push(Known { op: op.op.clone(), outputs: op.outputs.to_vec(), program: program.clone() });
        program
    }

    fn lower(&self, op: &OpDesc<'_>) -> Result<Program, Unsupported> {
        let program = percept_kernels::lower(op, &self.caps)?;
        let most = self.limits.max_window;
        let bound = |ty: &TensorType, role: &str, at: usize| {
            let bytes = device_bytes(ty);
            if bytes <= most {
                return Ok(());
            }
            Err(Unsupported::new(format!(
                "{role} {at} is {ty}, {bytes} bytes, and a kernel of this adapter sees at most {most} at once"
            )))
        };
        op.inputs.iter().enumerate().try_for_each(|(i, ty)| bound(ty, "operand", i))?;
        op.outputs.iter().enumerate().try_for_each(|(i, ty)| bound(ty, "result", i))?;
        if let Some(bytes) = program.scratch.iter().find(|&&b| b > most) {
            return Err(Unsupported::new(format!("its kernel needs {bytes} bytes of scratch in one piece")));
        }
        Ok(program)
    }

    /// Native when there are kernels, decomposed when there may be some for the parts.
    pub fn support(&self, op: &OpDesc<'_>) -> Support {
        match self.program(op) {
            Ok(_) => Support::Native,
            Err(_) if matches!(op.op, Op::Composite(_) | Op::Fused(_)) => Support::Decompose,
            Err(why) => Support::No(why.reason),
        }
    }

    /// The launches that copy a tensor, whatever its dtype.
    pub fn copy(&self, ty: &TensorType) -> Result<Rc<Program>, Unsupported> {
        let words = TensorType::new(DType::U32, [(device_bytes(ty) / 4) as usize]);
        let op = Op::Reshape { dims: words.dims.clone() };
        let types = [words];
        self.program(&OpDesc { op: &op, inputs: &types, outputs: &types })
    }
}
