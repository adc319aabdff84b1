//! Matrix products: dot_general, linear layers with bias and activation, and quantized weights, by one family of
//! register-tiled kernels over strided operands.
//!
//! Every tile sums over k in order with one accumulator, so the tile shape never changes a bit of the result and may
//! be tuned freely, under `batch_invariant` too.

mod operand;
mod tile;

use percept_graph::{Activation, DType, DotSpec, Literal, OpDesc, TensorType};

use crate::caps::Caps;
use crate::elementwise::{Operand, Region};
use crate::geometry::{Views, count, strides};
use crate::movement;
use crate::program::{Program, Slot, Unsupported};
use crate::storage::{per_word, storage_bytes};

use operand::Matrix;
use tile::Product;

/// A tile: rows, vectors of columns, tiles across and down a workgroup.
type Tile = [usize; 4];

/// The tiles worth timing for a product of `m` rows, the likeliest first. Few, because each costs a compilation.
fn tiles(m: usize, software: bool) -> &'static [Tile] {
    match (m, software) {
        (0..=1, _) => &[[1, 1, 32, 1]],
        (2..=3, _) => &[[2, 1, 16, 4]],
        (4..=7, _) => &[[4, 1, 8, 8]],
        (_, true) => &[[8, 4, 8, 4], [8, 2, 8, 4], [4, 2, 8, 8]],
        (_, false) => &[[4, 1, 8, 8], [4, 2, 8, 8], [8, 2, 8, 8]],
    }
}

/// The most tiles there are to choose from.
pub(crate) const VARIANTS: u32 = 3;

fn tile(m: usize, caps: &Caps) -> Tile {
    let tiles = tiles(m, caps.software);
    tiles[(caps.variant.unwrap_or(0) as usize).min(tiles.len() - 1)]
}

/// dot_general.
pub(crate) fn dot(desc: &OpDesc<'_>, spec: &DotSpec, caps: &Caps) -> Result<Program, Unsupported> {
    let mut program = Program::default();
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
    product(&mut program, a, b, None, None, y, caps)?;
    Ok(program)
}

/// An operand as [batch, rows, k]; copied into that order when its dimensions do not collapse to three strides.
fn side(
    program: &mut Program,
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
) -> Result<Program, Unsupported> {
    let (x, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let mut program = Program::default();
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
    let b = Matrix::dense(Slot::Input(1), w.dtype, 1, n, k);
    let bias = bias.then(|| (Slot::Input(2), desc.inputs[2].dtype));
    product(&mut program, a, b, bias, act, y, caps)?;
    Ok(program)
}

/// x[.., k] w[n, k]^T, or g[.., n] w[n, k], with w quantized.
pub(crate) fn quantized(desc: &OpDesc<'_>, transposed: bool, caps: &Caps) -> Result<Program, Unsupported> {
    if !transposed {
        return linear(desc, false, None, caps);
    }
    let (g, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let mut program = Program::default();
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
    product(&mut program, a, b, None, None, y, caps)?;
    Ok(program)
}

/// The launches of one product; 16-bit results whose rows do not split into vectors go through f32.
fn product(
    program: &mut Program,
    a: Matrix,
    b: Matrix,
    bias: Option<(Slot, DType)>,
    act: Option<Activation>,
    y: &TensorType,
    caps: &Caps,
) -> Result<(), Unsupported> {
    let (m, n) = (a.rows.0, b.rows.0);
    let narrow = per_word(y.dtype) == 2 && n % 4 != 0;
    let elements = count(&y.dims)?;
    let (to, dtype) =
        if narrow { (program.scratch(elements as u64 * 4), DType::F32) } else { (Slot::Output(0), y.dtype) };
    let product = Product { a: &a, b: &b, bias, act, to, dtype };
    program.launches.push(product.launch(tile(m, caps), caps)?);
    if narrow {
        program.launches.extend(crate::movement::cast(
            to,
            DType::F32,
            Slot::Output(0),
            y.dtype,
            elements,
            caps,
        )?);
    }
    Ok(())
}
