//! Products of rows with the matrices of their groups. Of the matrices only those are read that a row asks for.

use percept_graph::{DType, Literal, OpDesc, TensorType};

use crate::caps::Caps;
use crate::geometry::{count, row_ranges};
use crate::kernel::Kernel;
use crate::movement;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::storage::{per_word, row_bytes, rows_slot};

/// (x[m,k], w[g,n,k], groups i32[m,c]) -> [m,c,n], or transposed (x[m,n], w, groups) -> [m,c,k].
pub(crate) fn dot(desc: &OpDesc<'_>, transposed: bool, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let elements = count(&y.dims)?;
    if elements == 0 {
        return Ok(KernelProgram::default());
    }
    count(&x.dims)?;
    count(&w.dims)?;
    let [g, n, k] = [w.dims[0], w.dims[1], w.dims[2]];
    if w.numel() == 0 {
        return Err(Unsupported::new("sums of no terms have no operands to bind"));
    }
    // Matrices as rows: those that a binding is too short for come range by range.
    let rows = TensorType::new(w.dtype, [g, n * k]);
    let ranges = row_ranges(g, row_bytes(&rows), caps)?;
    if transposed {
        if ranges.len() > 1 {
            return Err(Unsupported::new("transposed products with matrices longer than a binding shows"));
        }
        return transposed_dot(desc, caps);
    }
    let whole = n.is_multiple_of(4);
    let quads = k.is_multiple_of(4);
    let mut program = KernelProgram::default();
    // Words of two elements may be two workgroups', and then go through f32.
    let narrow = per_word(y.dtype) == 2 && !whole;
    let (to, dtype) = match narrow {
        true => (program.scratch(elements as u64 * 4), DType::F32),
        false => (Slot::Output(0), y.dtype),
    };
    let across = n.div_ceil(4);
    let pairs = elements / n;
    for (first, held) in ranges {
        let mut kernel = Kernel::new("ragged_dot", include_str!("dot.wgsl"));
        kernel.set("SUM", &sum(quads)).set("STORE", if whole { WHOLE } else { SINGLES });
        let slot = rows_slot(1, &rows, (first, held));
        if quads {
            kernel.tag("quads").vectors("x", Slot::Input(0), x.dtype)?.vectors("w", slot, w.dtype)?;
        } else {
            kernel.input("x", Slot::Input(0), x.dtype)?.input("w", slot, w.dtype)?;
        }
        kernel.input("numbers", Slot::Input(2), DType::I32)?;
        if whole {
            kernel.tag("whole").vectors("y", to, dtype)?
        } else {
            kernel.output("y", to, dtype)?
        };
        kernel.param("n", n).param("terms", if quads { k / 4 } else { k }).param("groups", g);
        kernel.param("choices", y.dims[1]).param("pairs", pairs).param("across", across);
        kernel.param("first", first).param("held", held);
        program.launches.push(kernel.launch(across.saturating_mul(pairs), caps)?);
    }
    if narrow {
        program.launches.extend(movement::cast(to, DType::F32, Slot::Output(0), y.dtype, elements, caps)?);
    }
    Ok(program)
}

const WHOLE: &str = "        store4_y(at / 4u, sum);";
const SINGLES: &str = "        for (var e = 0u; e < min(4u, p.n - column); e++) {\n            \
                       store_y(at + e, sum[e]);\n        }";

/// A lane's share of four sums, over vectors of terms or over terms.
fn sum(quads: bool) -> String {
    let (zero, load) = if quads { ("vec4<f32>()", "load4") } else { ("0.0", "load") };
    let mut text = String::new();
    for c in 0..4 {
        text += &format!("    var s{c} = {zero};\n");
    }
    text += &format!("    for (var q = lane; q < terms; q += 64u) {{\n        let a = {load}_x(a_at + q);\n");
    for c in 0..4 {
        text += &format!("        s{c} = fma(a, {load}_w(b_at{c} + q), s{c});\n");
    }
    let own: Vec<String> =
        (0..4).map(|c| if quads { format!("across(s{c})") } else { format!("s{c}") }).collect();
    text + &format!("    }}\n    let own = vec4<f32>({});", own.join(", "))
}

fn transposed_dot(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let mut kernel = Kernel::new("ragged_dot_transposed", include_str!("transposed.wgsl"));
    kernel.input("x", Slot::Input(0), x.dtype)?;
    if w.dtype.is_quantized() {
        kernel.vectors("w", Slot::Input(1), w.dtype)?;
    } else {
        kernel.input("w", Slot::Input(1), w.dtype)?;
    }
    kernel.input("numbers", Slot::Input(2), DType::I32)?.output("y", Slot::Output(0), y.dtype)?;
    kernel.param("terms", w.dims[1]).param("width", w.dims[2]).param("groups", w.dims[0]);
    kernel.param("choices", y.dims[1]);
    Ok(KernelProgram { launches: vec![kernel.map(y.dtype, y.numel(), caps)?], ..KernelProgram::default() })
}

/// (x[m,k], v[m,c,n], groups i32[m,c]) -> [g,n,k].
pub(crate) fn outer(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, v, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let elements = count(&y.dims)?;
    count(&x.dims)?;
    count(&v.dims)?;
    let pairs = count(&desc.inputs[2].dims)?;
    if elements == 0 {
        return Ok(KernelProgram::default());
    }
    if pairs == 0 {
        // Sums of no terms: there is nothing to bind.
        return movement::constant(&Literal::splat(y.clone(), 0.0), caps);
    }
    let [g, n, k] = [y.dims[0], y.dims[1], y.dims[2]];
    let mut program = KernelProgram::default();
    let order = program.scratch((g + 1 + pairs) as u64 * 4);
    let mut sort = Kernel::new("ragged_order", include_str!("order.wgsl"));
    sort.input("numbers", Slot::Input(2), DType::I32)?.words("order", order);
    sort.param("pairs", pairs).param("groups", g);
    let mut sums = Kernel::new("ragged_outer", include_str!("outer.wgsl"));
    sums.input("x", Slot::Input(0), x.dtype)?.input("v", Slot::Input(1), v.dtype)?.words("order", order);
    sums.output("y", Slot::Output(0), y.dtype)?;
    sums.param("width", k).param("rows", n).param("groups", g).param("choices", v.dims[1]);
    program.launches = vec![sort.launch(1, caps)?, sums.map(y.dtype, elements, caps)?];
    Ok(program)
}
