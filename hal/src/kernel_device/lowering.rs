//! From one operation to launches over windows: what the kernels give, held to the limits of the device.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::rc::Rc;

use percept_graph::{DType, Op, OpDesc, TensorType};
use percept_kernels::{Caps, KernelProgram, Module, Slot, Unsupported};

use super::device::{KernelLimits, Window};
use super::layout::device_bytes;
use super::split::split;
use crate::device::Support;

/// Lowers the operations of one graph. Layers repeat the same operations on the same types, and each is
/// lowered once.
pub(super) struct Lowering<'a> {
    limits: &'a KernelLimits,
    caps: Caps,
    tune: Tune<'a>,
    accepts: Accepts<'a>,
    known: RefCell<HashMap<Kind, Vec<Known>>>,
}

/// Picks the variant of an operation.
type Tune<'a> = &'a dyn Fn(&OpDesc<'_>, &Caps) -> Option<u32>;

/// Whether the device's compiler takes a module.
type Accepts<'a> = &'a dyn Fn(&Module) -> Result<(), String>;

/// What two equal operations have in common and can be hashed.
type Kind = (Discriminant<Op>, Vec<TensorType>);

struct Known {
    op: Op,
    outputs: Vec<TensorType>,
    lowered: Result<Rc<Lowered>, Unsupported>,
}

/// An operation as launches.
pub(super) struct Lowered {
    /// Programs in order, each over a part of the operands and results.
    pub parts: Vec<Part>,
    /// (operand, result) pairs where the result must hold the operand's contents at the start.
    pub in_place: Vec<(usize, usize)>,
}

/// A program over parts of operands and results: where each starts in the whole one, and its bytes.
pub(super) struct Part {
    pub program: KernelProgram,
    pub inputs: Vec<(u64, u64)>,
    pub outputs: Vec<(u64, u64)>,
}

impl Part {
    /// The window of a part of an operand or result.
    pub fn within(whole: &Window, (offset, bytes): (u64, u64)) -> Window {
        Window { offset: whole.offset + offset, bytes, ..*whole }
    }
}

impl<'a> Lowering<'a> {
    pub fn new(
        limits: &'a KernelLimits,
        batch_invariant: bool,
        tune: Tune<'a>,
        accepts: Accepts<'a>,
    ) -> Self {
        let (max_window, alignment) = (limits.max_window, limits.alignment);
        let caps = Caps { batch_invariant, max_window, alignment, ..limits.caps.clone() };
        Self { limits, caps, tune, accepts, known: RefCell::default() }
    }

    /// The launches of an operation, or why there are none on this device.
    pub fn lower(&self, op: &OpDesc<'_>) -> Result<Rc<Lowered>, Unsupported> {
        let kind = (discriminant(op.op), op.inputs.to_vec());
        let same = |k: &&Known| k.op == *op.op && k.outputs == op.outputs;
        if let Some(k) = self.known.borrow().get(&kind).and_then(|alike| alike.iter().find(same)) {
            return k.lowered.clone();
        }
        let lowered = self.parts(op).map(Rc::new);
        let entry = Known { op: op.op.clone(), outputs: op.outputs.to_vec(), lowered: lowered.clone() };
        self.known.borrow_mut().entry(kind).or_default().push(entry);
        lowered
    }

    fn parts(&self, op: &OpDesc<'_>) -> Result<Lowered, Unsupported> {
        let whole = |ty: &TensorType| (0, device_bytes(ty));
        // Where only an operand is too long, its kernel may read it part by part.
        let pieces = if self.too_long(op).is_some() { split(op, self.limits) } else { None };
        let Some(pieces) = pieces else {
            let program = self.program(op)?;
            return Ok(Lowered {
                in_place: program.in_place.clone(),
                parts: vec![Part {
                    program,
                    inputs: op.inputs.iter().map(whole).collect(),
                    outputs: op.outputs.iter().map(whole).collect(),
                }],
            });
        };
        let ranges = |offsets: &[u64], types: &[TensorType]| {
            offsets.iter().zip(types).map(|(&at, ty)| (at, device_bytes(ty))).collect()
        };
        let mut parts = Vec::new();
        for p in pieces {
            let program = self.program(&OpDesc { op: &p.op, inputs: &p.inputs, outputs: &p.outputs })?;
            if !program.in_place.is_empty() {
                return Err(Unsupported::new("a kernel that works in place cannot be cut into pieces"));
            }
            parts.push(Part {
                inputs: ranges(&p.input_offsets, &p.inputs),
                outputs: ranges(&p.output_offsets, &p.outputs),
                program,
            });
        }
        Ok(Lowered { parts, in_place: Vec::new() })
    }

    /// The operand or result that is longer than a kernel can bind, in words.
    fn too_long(&self, op: &OpDesc<'_>) -> Option<String> {
        let most = self.limits.max_window;
        let long = |role: &str, types: &[TensorType]| {
            let at = types.iter().position(|ty| device_bytes(ty) > most)?;
            let (ty, bytes) = (&types[at], device_bytes(&types[at]));
            Some(format!(
                "{role} {at} is {ty}, {bytes} bytes, and a kernel of this adapter binds at most {most}"
            ))
        };
        long("operand", op.inputs).or_else(|| long("result", op.outputs))
    }

    fn program(&self, op: &OpDesc<'_>) -> Result<KernelProgram, Unsupported> {
        let variant = (self.tune)(op, &self.caps);
        let program = percept_kernels::lower(op, &Caps { variant, ..self.caps.clone() })?;
        let bound = |slot: Slot| program.launches.iter().any(|l| l.bindings.contains(&slot));
        let whole = |slot: fn(usize) -> Slot, types: &[TensorType]| {
            let long = |i: &usize| device_bytes(&types[*i]) > self.limits.max_window && bound(slot(*i));
            (0..types.len()).any(|i| long(&i))
        };
        if whole(Slot::Input, op.inputs) || whole(Slot::Output, op.outputs) {
            return Err(Unsupported::new(self.too_long(op).unwrap_or_default()));
        }
        if let Some(bytes) = program.scratch.iter().find(|&&b| b > self.limits.max_window) {
            return Err(Unsupported::new(format!("its kernel needs {bytes} bytes of scratch in one piece")));
        }
        program.launches.iter().try_for_each(|l| (self.accepts)(&l.module)).map_err(Unsupported::new)?;
        Ok(program)
    }

    /// Native when there are kernels, decomposed when there may be some for the parts.
    pub fn support(&self, op: &OpDesc<'_>) -> Support {
        match self.lower(op) {
            Ok(_) => Support::Native,
            Err(_) if matches!(op.op, Op::Composite(_) | Op::Fused(_)) => Support::Decompose,
            Err(why) => Support::No(why.reason),
        }
    }

    /// The launches that copy a tensor, whatever its dtype.
    pub fn copy(&self, ty: &TensorType) -> Result<Rc<Lowered>, Unsupported> {
        let words = TensorType::new(DType::U32, [(device_bytes(ty) / 4) as usize]);
        // Elementwise, so that it can be cut.
        let op = Op::Bitcast { to: DType::I32 };
        let outputs = [words.with_dtype(DType::I32)];
        self.lower(&OpDesc { op: &op, inputs: &[words], outputs: &outputs })
    }
}
