//! Stable sorting: a bitonic network over (key, index) pairs, whose order is total because indices differ.
//!
//! Keys are 32-bit words in the order of the values; chunks of 1024 pairs are sorted in workgroup memory,
//! longer rows by exchanges in global memory between merges of chunks.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::{Views, count, strides};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::storage::{per_word, scalar};

const CHUNK: usize = 1024;

/// Pairs sorted by key: `keys` and `indices` are u32 of [rows, width].
pub(crate) struct Sorted {
    pub keys: Slot,
    pub indices: Slot,
    pub width: usize,
}

/// What the rows to sort are read from.
pub(crate) struct Rows<'a> {
    pub slot: Slot,
    pub dtype: DType,
    pub count: usize,
    pub length: usize,
    /// `row(r)` is where row r starts.
    pub kept: &'a Views,
    /// Distance between a row's elements.
    pub step: usize,
    /// WGSL of the key of the value `x`.
    pub key: &'a str,
}

/// The key of a value: unsigned order of keys is the order of values, NaN greatest, the zeros equal.
fn key_of(dtype: DType, descending: bool) -> Result<String, Unsupported> {
    let ascending = match scalar(dtype)? {
        "f32" => "float_key(x)",
        "i32" => "(bitcast<u32>(x) ^ 0x80000000u)",
        _ => "x",
    };
    Ok(if descending { format!("~{ascending}") } else { ascending.to_string() })
}

/// Add the launches that sort each row.
pub(crate) fn sort_rows(
    program: &mut KernelProgram,
    rows: &Rows<'_>,
    caps: &Caps,
) -> Result<Sorted, Unsupported> {
    let width = rows.length.next_power_of_two().max(CHUNK);
    let total = count(&[rows.count, width])?;
    let keys = program.scratch(total as u64 * 4);
    let indices = program.scratch(total as u64 * 4);
    let chunks = total / CHUNK;
    let mut first = Kernel::new("sort_chunk", include_str!("chunk.wgsl"));
    first.set("KEY", rows.key).set("T", scalar(rows.dtype)?);
    first.input("x", rows.slot, rows.dtype)?.words("keys", keys).words("indices", indices);
    first.views(&["row"], rows.kept);
    first.param("length", rows.length).param("width", width).param("step", rows.step).param("chunks", chunks);
    program.launches.push(first.launch(chunks, caps)?);
    let mut size = 2 * CHUNK;
    while size <= width {
        let mut distance = size / 2;
        while distance >= CHUNK {
            let mut k = Kernel::new("sort_exchange", include_str!("exchange.wgsl"));
            k.words("keys", keys).words("indices", indices);
            k.param("width", width).param("size", size).param("distance", distance).param("pairs", total / 2);
            program.launches.push(k.launch((total / 2).div_ceil(64), caps)?);
            distance /= 2;
        }
        let mut k = Kernel::new("sort_merge", include_str!("merge.wgsl"));
        k.words("keys", keys).words("indices", indices);
        k.param("width", width).param("size", size).param("chunks", chunks);
        program.launches.push(k.launch(chunks, caps)?);
        size *= 2;
    }
    Ok(Sorted { keys, indices, width })
}

/// Sort along an axis -> (values, source indices), cut to the first `limit`.
pub(crate) fn lower(
    desc: &OpDesc<'_>,
    axis: usize,
    descending: bool,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, values) = (&desc.inputs[0], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    let n = count(&values.dims)?;
    count(&x.dims)?;
    if n == 0 {
        return Ok(program);
    }
    let others = |dims: &[usize]| -> Vec<usize> {
        dims.iter().enumerate().filter(|(d, _)| *d != axis).map(|(_, &e)| e).collect()
    };
    let dense = strides(&x.dims);
    let kept_strides = dense.iter().enumerate().filter(|(d, _)| *d != axis).map(|(_, &s)| s).collect();
    let extents = others(&x.dims);
    let kept = Views::new(&extents, &[kept_strides]);
    let rows = Rows {
        slot: Slot::Input(0),
        dtype: x.dtype,
        count: count(&extents)?,
        length: x.dims[axis],
        kept: &kept,
        step: dense[axis] as usize,
        key: &key_of(x.dtype, descending)?,
    };
    let sorted = sort_rows(&mut program, &rows, caps)?;
    // Element i of the results, in their own order, is position `place` of row `row_of`.
    let inner = count(&values.dims[axis + 1..])?;
    for output in 0..2 {
        let dtype = desc.outputs[output].dtype;
        let mut k = Kernel::new("sort_emit", include_str!("emit.wgsl"));
        let value = if output == 0 { "load_x(row(r) + at * p.step)" } else { "i32(at)" };
        k.set("VALUE", value).set("T", scalar(dtype)?);
        k.tag(if output == 0 { "values" } else { "indices" });
        if output == 0 {
            k.input("x", Slot::Input(0), x.dtype)?;
            k.views(&["row"], &kept).param("step", rows.step);
        }
        k.words("indices", sorted.indices);
        k.param("width", sorted.width).param("inner", inner).param("limit", values.dims[axis]);
        k.output("y", Slot::Output(output), dtype)?;
        debug_assert!(per_word(dtype) <= 2);
        program.launches.push(k.map(dtype, n, caps)?);
    }
    Ok(program)
}
