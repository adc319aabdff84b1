//! Reductions and arg-reductions over any axes.
//!
//! Order of a sum of k elements, a function of k alone: blocks of 65 536; in a block, lane l of 64 takes
//! elements l, l + 64, .. in turn, then the lanes are added pairwise (l and l + 32, then l + 16, ..); the
//! blocks' sums are reduced likewise. Up to 32 elements are taken one after another.

use percept_graph::{ArgKind, DType, OpDesc, ReduceKind, TensorType};

use crate::caps::Caps;
use crate::geometry::{Views, count, strides};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Launch, Slot, Unsupported};
use crate::storage::{per_word, scalar, storage_bytes};

const SERIAL: usize = 32;
const BLOCK: usize = 65536;

/// The extents and strides of the kept and of the reduced dimensions.
fn split(x: &TensorType, axes: &[usize]) -> (Views, Views) {
    let dense = strides(&x.dims);
    let pick = |keep: bool| {
        let dims: Vec<usize> = (0..x.rank()).filter(|d| axes.contains(d) != keep).collect();
        let extents: Vec<usize> = dims.iter().map(|&d| x.dims[d]).collect();
        Views::new(&extents, &[dims.iter().map(|&d| dense[d]).collect()])
    };
    (pick(true), pick(false))
}

/// Identity and combination of a reduction in the dtype's scalar type.
fn functions(kind: ReduceKind, dtype: DType) -> Result<(&'static str, &'static str), Unsupported> {
    Ok(match (kind, scalar(dtype)?) {
        (ReduceKind::Sum, "f32") => ("0.0", "a + b"),
        (ReduceKind::Prod, "f32") => ("1.0", "a * b"),
        (ReduceKind::Max, "f32") => ("-infinity()", "max_nan(a, b)"),
        (ReduceKind::Min, "f32") => ("infinity()", "min_nan(a, b)"),
        (ReduceKind::Max, "i32") => ("bitcast<i32>(0x80000000u)", "max(a, b)"),
        (ReduceKind::Min, "i32") => ("2147483647", "min(a, b)"),
        (ReduceKind::Sum, "i32") => ("0", "a + b"),
        (ReduceKind::Prod, "i32") => ("1", "a * b"),
        (ReduceKind::Sum | ReduceKind::Or, "u32") => {
            ("0u", if kind == ReduceKind::Or { "a | b" } else { "a + b" })
        }
        (ReduceKind::Prod, "u32") => ("1u", "a * b"),
        (ReduceKind::And, "u32") if dtype == DType::Bool => ("1u", "a & b"),
        (ReduceKind::Max, "u32") => ("0u", "max(a, b)"),
        (ReduceKind::Min, "u32") => (
            if dtype == DType::U8 {
                "255u"
            } else if dtype == DType::Bool {
                "1u"
            } else {
                "0xffffffffu"
            },
            "min(a, b)",
        ),
        _ => return Err(Unsupported::new(format!("{kind:?} is not defined on {dtype}"))),
    })
}

/// Reduce over axes; the result keeps the operand's dtype, sums are taken in f32 or 32-bit integers.
pub(crate) fn lower(
    desc: &OpDesc<'_>,
    kind: ReduceKind,
    axes: &[usize],
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    let outputs = count(&y.dims)?;
    count(&x.dims)?;
    if outputs == 0 {
        return Ok(program);
    }
    let (kept, reduced) = split(x, axes);
    let k = count(&reduced.dims)?;
    let (identity, combine) = functions(kind, x.dtype)?;
    let step = Reduce { identity, combine, kept: &kept, reduced: &reduced, outputs };
    if k <= BLOCK {
        program.launches.push(step.launch(
            (Slot::Input(0), x.dtype),
            (Slot::Output(0), y.dtype),
            k,
            1,
            caps,
        )?);
        return Ok(program);
    }
    let blocks = k.div_ceil(BLOCK);
    let wide = match scalar(x.dtype)? {
        "f32" => DType::F32,
        "i32" => DType::I32,
        _ => DType::U32,
    };
    let partial = program.scratch(storage_bytes(wide, outputs * blocks));
    program.launches.push(step.launch((Slot::Input(0), x.dtype), (partial, wide), k, blocks, caps)?);
    let rows = Views::new(&[outputs], &[vec![blocks as i64]]);
    let columns = Views::new(&[blocks], &[vec![1]]);
    let last = Reduce { kept: &rows, reduced: &columns, ..step };
    if blocks > BLOCK {
        return Err(Unsupported::new(format!("a reduction of {k} elements")));
    }
    program.launches.push(last.launch((partial, wide), (Slot::Output(0), y.dtype), blocks, 1, caps)?);
    Ok(program)
}

struct Reduce<'a> {
    identity: &'a str,
    combine: &'a str,
    kept: &'a Views,
    reduced: &'a Views,
    outputs: usize,
}

impl Reduce<'_> {
    /// One level: `blocks` results for each of the outputs, each over at most [`BLOCK`] of k elements.
    fn launch(
        &self,
        (from, x): (Slot, DType),
        (to, y): (Slot, DType),
        k: usize,
        blocks: usize,
        caps: &Caps,
    ) -> Result<Launch, Unsupported> {
        let serial = k <= SERIAL;
        let text = if serial { include_str!("serial.wgsl") } else { include_str!("lanes.wgsl") };
        let mut kernel = Kernel::new(if serial { "reduce_serial" } else { "reduce_lanes" }, text);
        kernel.set("IDENTITY", self.identity).set("COMBINE", self.combine).set("T", scalar(x)?);
        kernel.set("PER_WORD", &format!("{}u", per_word(y)));
        kernel.input("x", from, x)?.output("y", to, y)?;
        kernel.views(&["kept"], self.kept).views(&["reduced"], self.reduced);
        kernel.param("k", k);
        let n = self.outputs * blocks;
        if serial {
            return kernel.map(y, n, caps);
        }
        kernel.param("n", n).param("blocks", blocks).param("block", BLOCK);
        kernel.launch(n.div_ceil(per_word(y)), caps)
    }
}

/// Index of an extreme along one axis.
pub(crate) fn lower_arg(
    desc: &OpDesc<'_>,
    kind: ArgKind,
    axis: usize,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let n = count(&y.dims)?;
    count(&x.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    let (kept, reduced) = split(x, &[axis]);
    // Keys order as the values do, with NaN on top: `beats(a, b)` is strict, so that the first of equals
    // stays.
    let beats = match (scalar(x.dtype)?, kind) {
        ("f32", ArgKind::Max) => "(less_f32(b, a) || (is_nan(a) && !is_nan(b)))",
        ("f32", ArgKind::Min) => "(less_f32(a, b) || (is_nan(a) && !is_nan(b)))",
        (_, ArgKind::Max) => "a > b",
        (_, ArgKind::Min) => "a < b",
    };
    let mut k = Kernel::new("arg_reduce", include_str!("arg.wgsl"));
    k.set("BEATS", beats).set("T", scalar(x.dtype)?);
    k.input("x", Slot::Input(0), x.dtype)?.output("y", Slot::Output(0), DType::I32)?;
    k.views(&["kept"], &kept).views(&["reduced"], &reduced);
    k.param("k", x.dims[axis]).param("n", n);
    Ok(KernelProgram { launches: vec![k.launch(n, caps)?], ..KernelProgram::default() })
}
