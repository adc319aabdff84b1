//! Elementwise programs, run in chunks that stay in the first-level cache.
//!
//! Every single elementwise operation, activation, broadcast and cast is a program too: one implementation of
//! loading, computing and storing serves all of them. Values are 32-bit lanes in registers of [`CHUNK`] elements.

mod build;
pub(crate) mod instruction;
pub(crate) mod memory;

pub(crate) use self::build::program;

use percept_graph::DType;

use self::instruction::{Block, Instruction, execute};
use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, finish_streams};
use crate::pool::Team;
use crate::scratch::with_scratch;

/// Elements computed at a time.
pub(crate) const CHUNK: usize = 1024;
/// Results at least this long (in bytes) are stored past the caches, which they would only empty.
const STREAM_BYTES: usize = 8 << 20;

/// Where a loaded value's elements lie relative to the index space.
#[derive(Clone, Debug, PartialEq)]
enum Access {
    /// Elements lie in the order of the index space.
    Dense,
    /// One element is read for all positions.
    Splat,
    /// Row-major index space of `dims`, each with an operand stride in elements.
    Strided { dims: Vec<usize>, strides: Vec<usize> },
}

/// What a load instruction reads.
#[derive(Clone, Debug)]
enum Source {
    Operand(usize),
    Literal(Vec<u8>),
}

#[derive(Clone, Debug)]
enum FusedStep {
    Load { source: Source, dtype: DType, access: Access, to: usize },
    Compute { instruction: Instruction, to: usize, args: [usize; 3] },
    Store { from: usize, dtype: DType, output: usize },
}

/// A straight-line elementwise program over one index space.
#[derive(Clone, Debug)]
pub(crate) struct FusedProgram {
    len: usize,
    steps: Vec<FusedStep>,
    /// The register of each value.
    register: Vec<usize>,
    registers: usize,
    /// The result that a value may be computed into, when its memory form is its lanes.
    home: Vec<Option<usize>>,
}

impl FusedProgram {
    /// The program as a kernel.
    pub(crate) fn into_kernel(self) -> Kernel {
        let work = self.len / 16 * self.steps.iter().map(FusedStep::cost).sum::<usize>() / 4;
        Kernel::new(work, move |team, operands| self.run(team, operands))
    }

    fn run(&self, team: &Team<'_>, operands: &Operands<'_>) {
        let range = team.share(self.len, CHUNK);
        if range.is_empty() {
            return;
        }
        with_scratch(self.registers * CHUNK, |scratch| {
            let registers = scratch.as_mut_ptr().cast::<Block>();
            let own = |value: usize| {
                // SAFETY: every register index is below `registers`, so the chunk lies in the scratch.
                unsafe { registers.add(self.register[value] * (CHUNK / WIDTH)) }
            };
            let mut place: Vec<*mut Block> = (0..self.register.len()).map(own).collect();
            self.fill_splats(operands, &place);
            for base in range.clone().step_by(CHUNK) {
                self.chunk(operands, base, CHUNK.min(range.end - base), &own, &mut place);
            }
        });
        finish_streams();
    }

    /// Loads what is the same in every chunk; these registers are shared with nothing.
    fn fill_splats(&self, operands: &Operands<'_>, place: &[*mut Block]) {
        for step in &self.steps {
            if let FusedStep::Load { source, dtype, access: Access::Splat, to } = step {
                let lane = memory::first_lane(*dtype, bytes(source, operands));
                // SAFETY: the register is a chunk of scratch, and nothing else refers to it now.
                unsafe { blocks_mut(place[*to], CHUNK) }.fill([lane; WIDTH]);
            }
        }
    }

    fn chunk(
        &self,
        operands: &Operands<'_>,
        base: usize,
        n: usize,
        own: &impl Fn(usize) -> *mut Block,
        place: &mut [*mut Block],
    ) {
        let whole = n.is_multiple_of(WIDTH);
        for step in &self.steps {
            match step {
                FusedStep::Load { access: Access::Splat, .. } => {}
                FusedStep::Load { source, dtype, access, to } => {
                    let memory = bytes(source, operands);
                    if whole && *access == Access::Dense && dtype.block_bytes() == 4 {
                        // Read where it lies: instructions only read their operands.
                        place[*to] = memory[base * 4..].as_ptr().cast_mut().cast();
                        continue;
                    }
                    place[*to] = own(*to);
                    // SAFETY: the register is this value's until its last use.
                    let lanes = unsafe { blocks_mut(place[*to], n) }.as_flattened_mut();
                    match access {
                        Access::Dense => memory::widen(*dtype, memory, base, 1, &mut lanes[..n]),
                        Access::Strided { dims, strides } => {
                            memory::widen_strided(*dtype, memory, dims, strides, base, &mut lanes[..n]);
                        }
                        Access::Splat => {}
                    }
                }
                FusedStep::Compute { instruction, to, args } => {
                    place[*to] = match self.home[*to] {
                        Some(output) if whole => {
                            // SAFETY: chunks of different threads are disjoint parts of the result.
                            unsafe { operands.output::<u32>(output).part(base..base + n) }.as_mut_ptr().cast()
                        }
                        _ => own(*to),
                    };
                    // SAFETY: registers of live values differ, and results are not operands, so the written chunk
                    // overlaps none of the read ones; all are at least this long.
                    let (out, [a, b, c]) =
                        unsafe { (blocks_mut(place[*to], n), args.map(|arg| &*blocks_mut(place[arg], n))) };
                    execute(*instruction, out, a, b, c);
                }
                FusedStep::Store { from, dtype, output } => {
                    if whole && self.home[*from] == Some(*output) {
                        continue;
                    }
                    // SAFETY: the value's chunk is not written now.
                    let lanes = unsafe { &*blocks_mut(place[*from], n) };
                    let stream = self.len * dtype.block_bytes() >= STREAM_BYTES;
                    memory::narrow(*dtype, &lanes.as_flattened()[..n], operands, *output, base, stream);
                }
            }
        }
    }
}

impl FusedStep {
    /// Rough cost of a lane vector in quarters of a nanosecond.
    fn cost(&self) -> usize {
        use percept_graph::{Binary, Unary};
        match self {
            FusedStep::Compute { instruction, .. } => match instruction {
                Instruction::Unary(
                    Unary::Neg | Unary::Abs | Unary::Floor | Unary::Ceil | Unary::Round,
                    _,
                ) => 2,
                Instruction::Unary(..) | Instruction::Activate(_) => 20,
                Instruction::Binary(Binary::Pow | Binary::Rem, _) => 400,
                _ => 2,
            },
            _ => 4,
        }
    }
}

fn bytes<'a>(source: &'a Source, operands: &Operands<'a>) -> &'a [u8] {
    match source {
        Source::Operand(i) => operands.input(*i),
        Source::Literal(bytes) => bytes,
    }
}

/// The blocks of `n` elements from `start` on.
///
/// # Safety
/// `start` points to that many blocks, and what the slice is used for does not overlap other live references.
unsafe fn blocks_mut<'a>(start: *mut Block, n: usize) -> &'a mut [Block] {
    // SAFETY: the caller's promise; blocks have the alignment of u32.
    unsafe { std::slice::from_raw_parts_mut(start, n.div_ceil(WIDTH)) }
}

#[cfg(test)]
#[path = "fused_test.rs"]
mod tests;
