//! From graph operations to programs.

use percept_graph::{
    Activation, Binary, Composite, DType, Graph, Literal, Node, Op, OpDesc, TensorType, Unary,
};

use super::instruction::{Class, Instruction};
use super::{Access, FusedProgram, FusedStep, STREAM_BYTES, Source};

fn class(dtype: DType) -> Class {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Class::Float,
        DType::I32 => Class::Signed,
        _ => Class::Unsigned,
    }
}

/// The instructions, in order, of an elementwise operation on operands of dtype `from` with results of dtype `to`.
fn instructions(op: &Op, from: DType, to: DType) -> Option<Vec<Instruction>> {
    let class_from = class(from);
    Some(vec![match op {
        Op::Unary(Unary::Not) if from == DType::Bool => Instruction::LogicalNot,
        Op::Unary(kind) => Instruction::Unary(*kind, class_from),
        Op::Binary(kind) => Instruction::Binary(*kind, class_from),
        Op::Compare(kind) => Instruction::Compare(*kind, class_from),
        Op::Select => Instruction::Select,
        Op::Clamp => Instruction::Clamp(class_from),
        Op::Bitcast { .. } => Instruction::Convert(class_from, class_from),
        Op::Cast { .. } => {
            let convert = Instruction::Convert(class_from, class(to));
            match to {
                DType::Bool => Instruction::ToBool(class_from),
                DType::U8 => Instruction::ToByte(class_from),
                DType::F16 if from != DType::F16 => return Some(vec![convert, Instruction::RoundToHalf]),
                DType::BF16 if from != DType::BF16 => return Some(vec![convert, Instruction::RoundToBfloat]),
                _ => convert,
            }
        }
        Op::Composite(Composite::Activate(kind)) => Instruction::Activate(*kind),
        _ => return None,
    }])
}

/// Merges neighbouring dimensions that the strides let count as one, and drops those of extent 1.
fn collapse(dims: &[usize], strides: &[usize]) -> Access {
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (&d, &s) in dims.iter().zip(strides) {
        if d == 1 {
            continue;
        }
        match merged.last_mut() {
            Some((extent, stride)) if *stride == d * s => (*extent, *stride) = (*extent * d, s),
            _ => merged.push((d, s)),
        }
    }
    match merged[..] {
        [] | [(_, 0)] => Access::Splat,
        [(_, 1)] => Access::Dense,
        _ => {
            let (dims, strides) = merged.into_iter().unzip();
            Access::Strided { dims, strides }
        }
    }
}

/// A value while building.
#[derive(Clone)]
enum Bound {
    /// Memory that is not loaded yet, with its own shape.
    Memory { source: Source, ty: TensorType, strides: Vec<usize> },
    /// A value of the program.
    Value(usize),
}

struct Builder {
    dims: Vec<usize>,
    steps: Vec<FusedStep>,
    values: usize,
}

impl Builder {
    fn new(dims: &[usize]) -> Builder {
        Builder { dims: dims.to_vec(), steps: Vec::new(), values: 0 }
    }

    fn fresh(&mut self) -> usize {
        self.values += 1;
        self.values - 1
    }

    /// The program's value for `bound`, loading it if need be.
    fn value(&mut self, bound: &mut Bound) -> Option<usize> {
        let (source, ty, strides) = match bound {
            Bound::Value(value) => return Some(*value),
            Bound::Memory { source, ty, strides } => (source.clone(), ty, strides),
        };
        if ty.dims != self.dims {
            return None;
        }
        let access = collapse(&ty.dims, strides);
        let to = self.fresh();
        self.steps.push(FusedStep::Load { source, dtype: ty.dtype, access, to });
        *bound = Bound::Value(to);
        Some(to)
    }

    fn compute(&mut self, instruction: Instruction, args: [usize; 3]) -> usize {
        let to = self.fresh();
        self.steps.push(FusedStep::Compute { instruction, to, args });
        to
    }

    fn operation(&mut self, op: &Op, from: DType, to: DType, args: &[usize]) -> Option<usize> {
        let first = *args.first()?;
        let args = [first, args.get(1).copied().unwrap_or(first), args.get(2).copied().unwrap_or(first)];
        let mut args = args;
        for instruction in instructions(op, from, to)? {
            if !instruction.keeps_bits() {
                args = [self.compute(instruction, args); 3];
            }
        }
        Some(args[0])
    }

    /// Orders stores behind what they store and gives registers by last use.
    fn finish(mut self, stores: &[(usize, DType)]) -> FusedProgram {
        for (output, (from, dtype)) in stores.iter().enumerate() {
            let store = FusedStep::Store { from: *from, dtype: *dtype, output };
            let made = self.steps.iter().position(|s| s.made() == Some(*from)).map_or(0, |i| i + 1);
            self.steps.insert(made, store);
        }
        let len = self.dims.iter().product::<usize>();
        let mut home = vec![None; self.values];
        for (output, (from, dtype)) in stores.iter().enumerate() {
            let made = self.steps.iter().any(|s| matches!(s, FusedStep::Compute { to, .. } if to == from));
            if made && dtype.block_bytes() == 4 && len * 4 < STREAM_BYTES {
                home[*from] = Some(output);
            }
        }
        let mut last = vec![0; self.values];
        for (i, step) in self.steps.iter().enumerate() {
            step.reads().into_iter().for_each(|v| last[v] = i);
        }
        for step in &self.steps {
            if let FusedStep::Load { access: Access::Splat, to, .. } = step {
                last[*to] = usize::MAX;
            }
        }
        let (register, registers) = assign(&self.steps, &last, self.values);
        FusedProgram { len, steps: self.steps, register, registers, home }
    }
}

/// A register for each value; a register is free again after its value's last use. Splats come first and keep theirs.
fn assign(steps: &[FusedStep], last: &[usize], values: usize) -> (Vec<usize>, usize) {
    let mut register = vec![0; values];
    let mut count = 0;
    let mut free = Vec::new();
    for step in steps {
        if let FusedStep::Load { access: Access::Splat, to, .. } = step {
            register[*to] = count;
            count += 1;
        }
    }
    for (i, step) in steps.iter().enumerate() {
        match step {
            FusedStep::Load { access: Access::Splat, .. } => {}
            _ => {
                if let Some(to) = step.made() {
                    register[to] = free.pop().unwrap_or_else(|| {
                        count += 1;
                        count - 1
                    });
                }
            }
        }
        let mut ended: Vec<usize> = step.reads().into_iter().chain(step.made()).collect();
        ended.sort_unstable();
        ended.dedup();
        free.extend(ended.into_iter().filter(|v| last[*v] <= i).map(|v| register[v]));
    }
    (register, count)
}

impl FusedStep {
    fn made(&self) -> Option<usize> {
        match self {
            FusedStep::Load { to, .. } | FusedStep::Compute { to, .. } => Some(*to),
            FusedStep::Store { .. } => None,
        }
    }

    fn reads(&self) -> Vec<usize> {
        match self {
            FusedStep::Load { .. } => Vec::new(),
            FusedStep::Compute { args, .. } => args.to_vec(),
            FusedStep::Store { from, .. } => vec![*from],
        }
    }
}

fn literal(l: &Literal) -> Bound {
    let strides = match l.as_splat() {
        Some(_) => vec![0; l.ty.rank()],
        None => l.ty.strides(),
    };
    let bytes = match l.as_splat() {
        Some(value) => percept_graph::encode(l.ty.dtype, value),
        None => l.to_bytes(),
    };
    Bound::Memory { source: Source::Literal(bytes), ty: l.ty.clone(), strides }
}

fn broadcast(bound: &Bound, to: &TensorType, axes: &[usize]) -> Option<Bound> {
    let Bound::Memory { source, ty, strides } = bound else { return None };
    let mut wide = vec![0; to.rank()];
    for ((&axis, &extent), &stride) in axes.iter().zip(&ty.dims).zip(strides) {
        wide[axis] = if extent == 1 { 0 } else { stride };
    }
    Some(Bound::Memory { source: source.clone(), ty: to.clone(), strides: wide })
}

/// The program of an elementwise operation, broadcast, constant, activation or fused region; `None` for the rest.
pub(crate) fn program(desc: &OpDesc<'_>) -> Option<FusedProgram> {
    if desc.inputs.iter().chain(desc.outputs).any(|ty| ty.dtype.is_quantized()) {
        return None;
    }
    let mut bounds: Vec<Bound> = desc
        .inputs
        .iter()
        .enumerate()
        .map(|(i, ty)| Bound::Memory { source: Source::Operand(i), ty: ty.clone(), strides: ty.strides() })
        .collect();
    let result = desc.outputs.first()?;
    let mut builder = Builder::new(&result.dims);
    match desc.op {
        Op::Fused(body) => return region(body, builder, &bounds),
        Op::Broadcast { axes, .. } => bounds[0] = broadcast(&bounds[0], result, axes)?,
        Op::Constant(l) => bounds = vec![literal(l)],
        Op::Reshape { .. } => {
            let (source, strides) = (Source::Operand(0), result.strides());
            bounds = vec![Bound::Memory { source, ty: result.clone(), strides }];
        }
        Op::Composite(Composite::GatedActivate(kind)) => return gated(*kind, builder, bounds, result.dtype),
        _ => {
            let from = desc.inputs.get(usize::from(*desc.op == Op::Select))?.dtype;
            let mut args = Vec::new();
            for bound in &mut bounds {
                args.push(builder.value(bound)?);
            }
            let value = builder.operation(desc.op, from, result.dtype, &args)?;
            return Some(builder.finish(&[(value, result.dtype)]));
        }
    }
    let value = builder.value(&mut bounds[0])?;
    Some(builder.finish(&[(value, result.dtype)]))
}

fn gated(
    kind: Activation,
    mut builder: Builder,
    mut bounds: Vec<Bound>,
    dtype: DType,
) -> Option<FusedProgram> {
    let gate = builder.value(&mut bounds[0])?;
    let up = builder.value(&mut bounds[1])?;
    let active = builder.compute(Instruction::Activate(kind), [gate; 3]);
    let product = Instruction::Binary(Binary::Mul, Class::Float);
    let value = builder.compute(product, [active, up, up]);
    Some(builder.finish(&[(value, dtype)]))
}

fn region(body: &Graph, mut builder: Builder, operands: &[Bound]) -> Option<FusedProgram> {
    let mut bounds: Vec<Option<Bound>> = vec![None; body.values().len()];
    for (input, bound) in body.inputs().iter().zip(operands) {
        bounds[input.value.index()] = Some(bound.clone());
    }
    for node in body.nodes() {
        let bound = body_node(body, node, &mut builder, &mut bounds)?;
        bounds[node.outputs.first()?.index()] = Some(bound);
    }
    let mut stores = Vec::new();
    for output in body.outputs() {
        let value = builder.value(bounds[output.value.index()].as_mut()?)?;
        stores.push((value, body.ty(output.value).dtype));
    }
    Some(builder.finish(&stores))
}

fn body_node(
    body: &Graph,
    node: &Node,
    builder: &mut Builder,
    bounds: &mut [Option<Bound>],
) -> Option<Bound> {
    let result = body.ty(*node.outputs.first()?);
    let operand = |i: usize| node.inputs.get(i).copied();
    match &node.op {
        Op::Constant(l) => Some(literal(l)),
        Op::Broadcast { axes, .. } => broadcast(bounds[operand(0)?.index()].as_ref()?, result, axes),
        op => {
            let from = body.ty(operand(usize::from(*op == Op::Select))?).dtype;
            let mut args = Vec::new();
            for input in &node.inputs {
                args.push(builder.value(bounds[input.index()].as_mut()?)?);
            }
            builder.operation(op, from, result.dtype, &args).map(Bound::Value)
        }
    }
}
