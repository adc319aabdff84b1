//! The gated delta rule and short convolutions, row by row, with states in pools that are updated in place.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};

/// Features of a key that an invocation's column may have, by module.
const CAPACITIES: [usize; 4] = [32, 64, 128, 256];

/// How many of an element's rows count, where there are states.
const COUNTED: &str = "min(u32(max(load_count(b), 0)), p.t)";

/// The operands behind the first `first` ones, all i32.
fn optional(k: &mut Kernel, names: &[(&'static str, usize)]) -> Result<(), Unsupported> {
    for (name, operand) in names {
        k.input(name, Slot::Input(*operand), DType::I32)?;
    }
    Ok(())
}

/// Refuses what is not f32.
fn check(desc: &OpDesc<'_>) -> Result<(), Unsupported> {
    desc.outputs.iter().try_for_each(|y| count(&y.dims).map(|_| ()))?;
    match desc.inputs[0].dtype {
        DType::F32 => Ok(()),
        d => Err(Unsupported::new(format!("a recurrence keeps its state in f32, and its rows are {d}"))),
    }
}

/// (q, k, v, g, beta, ..) -> out, pool?
pub(crate) fn delta(
    desc: &OpDesc<'_>,
    segments: bool,
    state: bool,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    check(desc)?;
    let (q, v) = (&desc.inputs[0].dims, &desc.inputs[2].dims);
    let (b, t, heads, dk, dv) = (v[0], v[1], v[2], q[3], v[3]);
    let in_place = if state { vec![(5, 1)] } else { Vec::new() };
    let mut program = KernelProgram { in_place, ..KernelProgram::default() };
    let n = count(&[b, heads, dv])?;
    if n == 0 {
        return Ok(program);
    }
    if dk == 0 || t == 0 {
        return Err(Unsupported::new("a step without rows or keys has none to bind"));
    }
    let Some(capacity) = CAPACITIES.into_iter().find(|capacity| dk <= *capacity) else {
        return Err(Unsupported::new(format!("keys of {dk} features; a column holds up to 256")));
    };
    let mut k = Kernel::new("gated_delta", include_str!("delta.wgsl"));
    k.tag(&capacity.to_string());
    k.set("CAPACITY", &capacity.to_string());
    k.set("COUNTED", if state { COUNTED } else { "p.t" });
    let place = "((slot * p.heads + head) * p.dk + c) * p.dv + j";
    let (mut start, mut finish, mut reset) = (String::new(), String::new(), "");
    if state {
        start = format!(
            "if load_src(b) >= 0 {{ let slot = min(u32(load_src(b)), p.slots - 1u); \
             for (var c = 0u; c < p.dk; c++) {{ column[c] = load_pool({place}); }} }}"
        );
        finish = format!(
            "if load_dst(b) >= 0 && u32(load_dst(b)) < p.slots {{ let slot = u32(load_dst(b)); \
             for (var c = 0u; c < p.dk; c++) {{ store_pool({place}, column[c]); }} }}"
        );
    }
    if segments {
        reset = "if row > 0u && load_segments(b * p.t + row) != load_segments(b * p.t + row - 1u) { \
                 for (var c = 0u; c < p.dk; c++) { column[c] = 0.0; } }";
    }
    k.set("START", &start).set("FINISH", &finish).set("RESET", reset);
    k.tag(if state { "state" } else { "whole" });
    for (i, name) in ["q", "k", "v", "g", "beta"].into_iter().enumerate() {
        k.input(name, Slot::Input(i), DType::F32)?;
    }
    if segments {
        optional(k.tag("segments"), &[("segments", 5)])?;
    }
    if state {
        optional(&mut k, &[("src", 6), ("dst", 7), ("count", 8)])?;
    }
    k.output("y", Slot::Output(0), DType::F32)?;
    if state {
        k.in_out("pool", Slot::Output(1), DType::F32)?;
        k.param("slots", desc.inputs[5].dims[0]);
    }
    k.param("n", n).param("t", t).param("heads", heads).param("group", heads / q[2].max(1));
    k.param("dk", dk).param("dv", dv);
    program.launches.push(k.launch(n.div_ceil(64), caps)?);
    Ok(program)
}

/// (x, w, ..) -> y, pool?
pub(crate) fn conv(
    desc: &OpDesc<'_>,
    segments: bool,
    state: bool,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    check(desc)?;
    let (x, taps) = (&desc.inputs[0].dims, desc.inputs[1].dims[1]);
    let (b, t, c) = (x[0], x[1], x[2]);
    let in_place = if state { vec![(2, 1)] } else { Vec::new() };
    let mut program = KernelProgram { in_place, ..KernelProgram::default() };
    let slots = if state { desc.inputs[2].dims[0] } else { 0 };
    let n = count(x)?;
    // A pool of no rows is nothing to bind.
    let kept = state && taps > 1;
    if n > 0 {
        let mut k = Kernel::new("short_conv", include_str!("conv.wgsl"));
        k.set("COUNTED", if state { COUNTED } else { "p.t" });
        let same = "load_segments(b * p.t + other) == load_segments(b * p.t + row)";
        k.set("SEEN", if segments { same } else { "true" });
        let past = "select(0.0, load_pool((min(u32(max(load_src(b), 0)), p.slots - 1u) * (p.taps - 1u) + at) * p.c + c), \
                    load_src(b) >= 0)";
        k.set("BEFORE", if kept { past } else { "0.0" });
        k.tag(if state { "state" } else { "whole" });
        k.input("x", Slot::Input(0), DType::F32)?.input("w", Slot::Input(1), DType::F32)?;
        if segments {
            optional(k.tag("segments"), &[("segments", 2)])?;
        }
        if state {
            optional(&mut k, &[("count", 5)])?;
        }
        if kept {
            optional(k.tag("kept"), &[("src", 3)])?;
            k.input("pool", Slot::Output(1), DType::F32)?;
            k.param("slots", slots);
        }
        k.output("y", Slot::Output(0), DType::F32)?;
        k.param("t", t).param("c", c).param("taps", taps);
        program.launches.push(k.map(DType::F32, n, caps)?);
    }
    if kept && n == 0 && b * c > 0 {
        return Err(Unsupported::new(
            "a step without rows has none to bind, and its states may move all the same",
        ));
    }
    if kept && n > 0 {
        let mut k = Kernel::new("short_conv_keep", include_str!("keep.wgsl"));
        k.input("x", Slot::Input(0), DType::F32)?;
        optional(&mut k, &[("src", 3), ("dst", 4), ("count", 5)])?;
        k.in_out("pool", Slot::Output(1), DType::F32)?;
        k.param("n", count(&[b, c])?).param("t", t).param("c", c).param("taps", taps).param("slots", slots);
        program.launches.push(k.launch((b * c).div_ceil(64), caps)?);
    }
    Ok(program)
}
