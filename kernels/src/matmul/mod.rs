//! Matrix products: dot_general, linear layers with bias and activation, and quantized weights, over strided
//! operands.
//!
//! Tiles, in registers alone or through workgroup memory, sum over k in order with one accumulator, so their
//! shape never changes a bit of the result and is tuned freely. Rows, split sums and cooperative matrices add
//! in orders of their own. They are chosen by shape, never by time, so that the same product has the same
//! bits in every run; and not under `batch_invariant`, where a row's order may not depend on how many others
//! there are.

mod cooperative;
mod finish;
mod operand;
mod product;
mod row;
mod shared;
mod tile;

use percept_graph::{Activation, DType, DotSpec, Literal, OpDesc, TensorType};

use crate::caps::Caps;
use crate::elementwise::{Operand, Region};
use crate::geometry::{Views, count, row_ranges, strides};
use crate::movement;
use crate::program::{KernelProgram, Launch, Slot, Unsupported};
use crate::storage::{per_word, row_bytes, rows_slot, storage_bytes};

use operand::Matrix;
use product::Product;
use tile::Tile;

/// The tiles worth timing for a product of `m` rows, the likeliest first. Few, because each costs a
/// compilation.
fn tiles(m: usize, caps: &Caps) -> &'static [Tile] {
    const ONE: [Tile; 1] = [Tile::new([1, 1, 32, 1])];
    const TWO: [Tile; 1] = [Tile::new([2, 1, 16, 4])];
    const FOUR: [Tile; 1] = [Tile::new([4, 1, 8, 8])];
    const SOFTWARE: [Tile; 2] = [Tile::new([8, 4, 8, 4]), Tile::new([8, 2, 8, 4])];
    const SPREADING: [Tile; 3] =
        [Tile::spread([32, 1, 8, 1]), Tile::spread([16, 2, 8, 2]), Tile::new([8, 4, 8, 4])];
    const HARDWARE: [Tile; 3] = [Tile::new([4, 1, 8, 8]), Tile::new([4, 2, 8, 8]), Tile::new([8, 2, 8, 8])];
    match m {
        0..=1 => &ONE,
        2..=3 => &TWO,
        4..=7 => &FOUR,
        _ if caps.software && caps.subgroup_size == Some(8) => &SPREADING,
        _ if caps.software => &SOFTWARE,
        _ => &HARDWARE,
    }
}

/// The tiles that pass through workgroup memory, timed after the others.
fn shared_tiles(m: usize, caps: &Caps) -> &'static [Tile] {
    const SHARED: [Tile; 2] = [Tile::new([4, 1, 16, 16]), Tile::new([8, 2, 16, 8])];
    if m < 16 || caps.software { &[] } else { &SHARED }
}

/// The most tiles there are to choose from.
pub(crate) const VARIANTS: u32 = 5;

/// The launch of a product by the tile that tuning chose.
fn tiled(product: &Product<'_>, caps: &Caps) -> Result<Launch, Unsupported> {
    let [m, _, k, _] = product.extents();
    let tiles = tiles(m, caps);
    let shared = if k % 4 == 0 { shared_tiles(m, caps) } else { &[] };
    let chosen = caps.variant.unwrap_or(0) as usize;
    match shared.get(chosen.wrapping_sub(tiles.len())) {
        Some(&tile) => product.shared(tile, caps),
        None => product.tiled(tiles[chosen.min(tiles.len() - 1)], caps),
    }
}

/// dot_general.
pub(crate) fn dot(desc: &OpDesc<'_>, spec: &DotSpec, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let mut program = KernelProgram::default();
    let y = &desc.outputs[0];
    if count(&y.dims)? == 0 {
        return Ok(program);
    }
    if count(&desc.inputs[0].dims)? == 0 {
        // Sums of no terms: there is nothing to bind.
        return movement::constant(&Literal::splat(y.clone(), 0.0), caps);
    }
    let a = side(&mut program, 0, &desc.inputs[0], &spec.lhs_batch, &spec.lhs_contract, caps)?;
    let b = side(&mut program, 1, &desc.inputs[1], &spec.rhs_batch, &spec.rhs_contract, caps)?;
    product(&mut program, a, vec![(0, b)], None, None, y, caps)?;
    Ok(program)
}

/// An operand as [batch, rows, k]; copied into that order when its dimensions do not collapse to three
/// strides.
fn side(
    program: &mut KernelProgram,
    at: usize,
    ty: &TensorType,
    batch: &[usize],
    contract: &[usize],
    caps: &Caps,
) -> Result<Matrix, Unsupported> {
    count(&ty.dims)?;
    let free: Vec<usize> = (0..ty.rank()).filter(|d| !batch.contains(d) && !contract.contains(d)).collect();
    let dense = strides(&ty.dims);
    let extents = |dims: &[usize]| dims.iter().map(|&d| ty.dims[d]).collect::<Vec<_>>();
    let collapsed = |dims: &[usize]| {
        let views = Views::new(&extents(dims), &[dims.iter().map(|&d| dense[d]).collect()]);
        let stride =
            if views.dims.len() > 1 { None } else { Some(views.strides[0].first().copied().unwrap_or(0)) };
        stride.map(|s| (views.dims.first().copied().unwrap_or(1), s as usize))
    };
    if let (Some(batch), Some(rows), Some(k)) = (collapsed(batch), collapsed(&free), collapsed(contract)) {
        return Ok(Matrix { slot: Slot::Input(at), dtype: ty.dtype, batch, rows, k });
    }
    let order = [batch, &free, contract].concat();
    let to = program.scratch(storage_bytes(ty.dtype, ty.numel()));
    let region = Region {
        name: "copy",
        dims: extents(&order),
        operands: vec![Operand {
            slot: Some(Slot::Input(at)),
            dtype: ty.dtype,
            strides: order.iter().map(|&d| dense[d]).collect(),
            offset: 0,
        }],
        constants: Vec::new(),
        statements: String::new(),
        results: vec![(to, ty.dtype, "a0".into())],
    };
    program.launches.extend(region.launch(caps)?);
    let size = |dims: &[usize]| count(&extents(dims));
    Ok(Matrix::dense(to, ty.dtype, size(batch)?, size(&free)?, size(contract)?))
}

/// x[.., k] w[n, k]^T with a bias and an activation; w may be quantized.
pub(crate) fn linear(
    desc: &OpDesc<'_>,
    bias: bool,
    act: Option<Activation>,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    if count(&y.dims)? == 0 {
        return Ok(program);
    }
    let (n, k) = (w.dims[0], w.dims[1]);
    if k == 0 {
        return Err(Unsupported::new("sums of no terms have no operands to bind"));
    }
    let m = count(&y.dims)? / n;
    count(&w.dims)?;
    count(&x.dims)?;
    let a = Matrix::dense(Slot::Input(0), x.dtype, 1, m, k);
    // A weight longer than a binding shows makes columns of y range by range.
    let ranges = row_ranges(n, row_bytes(w), caps)?;
    let part =
        |&range: &(usize, usize)| (range.0, Matrix::dense(rows_slot(1, w, range), w.dtype, 1, range.1, k));
    let bias = bias.then(|| (Slot::Input(2), desc.inputs[2].dtype));
    product(&mut program, a, ranges.iter().map(part).collect(), bias, act, y, caps)?;
    Ok(program)
}

/// x[.., k] w[n, k]^T, or g[.., n] w[n, k], with w quantized.
pub(crate) fn quantized(
    desc: &OpDesc<'_>,
    transposed: bool,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    if !transposed {
        return linear(desc, false, None, caps);
    }
    let (g, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    if count(&y.dims)? == 0 {
        return Ok(program);
    }
    let (n, k) = (w.dims[0], w.dims[1]);
    if n == 0 {
        return Err(Unsupported::new("sums of no terms have no operands to bind"));
    }
    let m = count(&y.dims)? / k;
    count(&w.dims)?;
    let a = Matrix::dense(Slot::Input(0), g.dtype, 1, m, n);
    let b = Matrix { slot: Slot::Input(1), dtype: w.dtype, batch: (1, 0), rows: (k, 1), k: (n, k) };
    product(&mut program, a, vec![(0, b)], None, None, y, caps)?;
    Ok(program)
}

/// The launches of one product, given b in ranges of columns of y, each with its first; 16-bit results whose
/// rows do not split into vectors go through f32.
fn product(
    program: &mut KernelProgram,
    a: Matrix,
    ranges: Vec<(usize, Matrix)>,
    bias: Option<(Slot, DType)>,
    act: Option<Activation>,
    y: &TensorType,
    caps: &Caps,
) -> Result<(), Unsupported> {
    let columns: usize = ranges.iter().map(|(_, b)| b.rows.0).sum();
    let narrow = per_word(y.dtype) == 2 && !columns.is_multiple_of(4);
    let elements = count(&y.dims)?;
    let (to, dtype) =
        if narrow { (program.scratch(elements as u64 * 4), DType::F32) } else { (Slot::Output(0), y.dtype) };
    for (first, b) in &ranges {
        let product = Product { a: &a, b, bias, act, to, dtype, columns: (*first, columns) };
        let own_order = !caps.batch_invariant && !caps.software && product.element()? == "f32";
        match product.cooperative_kind(caps).filter(|_| own_order) {
            Some(kind) => product.cooperative(program, kind, caps)?,
            None if own_order && product.is_row() => program.launches.push(product.row(caps)?),
            None if own_order && product.is_narrow() => {
                product.split(program, |part| tiled(part, caps), caps)?
            }
            None => program.launches.push(tiled(&product, caps)?),
        }
    }
    if narrow {
        program.launches.extend(movement::cast(to, DType::F32, Slot::Output(0), y.dtype, elements, caps)?);
    }
    Ok(())
}
