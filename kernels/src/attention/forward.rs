//! The forward kernel: tiles of queries by blocks of keys.

use std::fmt::Write;

use percept_graph::{AttentionSpec, DType, OpDesc};

use super::{Shape, bind, lanes, mask};
use crate::caps::Caps;
use crate::kernel::Kernel;
use crate::movement;
use crate::program::{KernelProgram, Slot, Unsupported};

/// Keys in a block. On a CPU queries and sums are read once per block, lane by lane, so it takes more keys at
/// a time than registers hold.
fn block(caps: &Caps) -> usize {
    if caps.software { 32 } else { 16 }
}

pub(super) fn program(
    desc: &OpDesc<'_>,
    spec: &AttentionSpec,
    shape: &Shape,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let mut program = KernelProgram::default();
    let out = &desc.outputs[0];
    let elements = out.numel();
    let sums = if out.dtype == DType::F32 { Slot::Output(0) } else { program.scratch(elements as u64 * 4) };
    let lanes = lanes(caps);
    // On a CPU a load costs as much for one address as for one per lane. So the lanes of a vector share a
    // head, each loads its part of the keys, and all get it by broadcast. Shorter queries would leave lanes
    // idle.
    let shared = caps.software && caps.subgroup_size == Some(lanes as u32) && shape.t >= 8 * lanes;
    let rows = match (shape.t, caps.software) {
        (t, true) if t >= 8 => 4,
        (t, true) if t >= 2 => 2,
        (_, true) => 1,
        (t, false) if t >= 64 => 2,
        (_, false) => 1,
    };
    let tiles = if shared { shape.t.div_ceil(rows).next_multiple_of(lanes) } else { shape.t.div_ceil(rows) };
    let mut k = Kernel::new("attention", include_str!("forward.wgsl"));
    k.tag(&format!("{rows}x{}", block(caps)));
    if shared {
        k.tag("shared").uses_subgroups();
    }
    k.declare(&mask::function(spec));
    bind(&mut k, desc, spec)?;
    k.array("sums", sums, "vec4<f32>").array("lse", Slot::Output(1), "f32");
    shape.params(&mut k, spec);
    k.param("tiles", tiles);
    k.set("LANES", &lanes.to_string());
    fill(&mut k, spec, rows, block(caps), shared.then_some(lanes));
    let owners = shape.b * shape.h * tiles;
    program.launches.push(k.launch(owners.div_ceil(lanes), caps)?);
    if sums != Slot::Output(0) {
        program.launches.extend(movement::cast(
            sums,
            DType::F32,
            Slot::Output(0),
            out.dtype,
            elements,
            caps,
        )?);
    }
    Ok(program)
}

/// Put the unrolled parts into the text. `shared` is the number of lanes that share keys.
fn fill(k: &mut Kernel, spec: &AttentionSpec, rows: usize, keys: usize, shared: Option<usize>) {
    let mut query_setup = String::new();
    let mut clear = String::new();
    for i in 0..rows {
        // Rows past the end compute the last row again and are not stored.
        let _ = writeln!(query_setup, "    let row{i} = min(first + {i}u, p.t - 1u);");
        let _ = writeln!(query_setup, "    let q_at{i} = (head * p.t + row{i}) * p.d;");
        let _ = writeln!(query_setup, "    let sum_at{i} = (head * p.t + row{i}) * p.e;");
        query_setup += &mask::query_locals(spec, i, &format!("row{i}"));
        let _ = writeln!(
            query_setup,
            "    var top{i} = -3.0e38;\n    var total{i} = 0.0;\n    var poisoned{i} = false;"
        );
        let _ = writeln!(clear, "        if first + {i}u < p.t {{ sums[sum_at{i} + x] = vec4<f32>(0.0); }}");
    }
    let mut range = String::new();
    if spec.causal && !spec.blocks {
        let _ = writeln!(range, "    end = u32(clamp(position{} + 1, 0, i32(live)));", rows - 1);
    }
    if spec.window.is_some() && !(spec.causal && spec.blocks && spec.wide_blocks) {
        range += "    start = u32(max(position0 - p.window + 1, 0));\n";
    }
    if shared.is_some() {
        // Every lane takes part in every broadcast; keys that a row does not attend to add exact zeros to it.
        range += "    start = subgroupMin(start);\n    end = subgroupMax(end);\n";
    }
    let row_of = |at: &str| {
        if spec.paged {
            format!(
                "(u32(clamp(load_page_table(batch * p.pages + {at} / p.page), 0, i32(p.pool) - 1)) * p.hk + kv_head) * p.page + {at} % p.page"
            )
        } else {
            format!("(batch * p.hk + kv_head) * p.s + {at}")
        }
    };
    let (mut key_setup, mut score_clear) = (String::new(), String::new());
    for j in 0..keys {
        let _ = writeln!(key_setup, "        let at{j} = min(block + {j}u, live - 1u);");
        key_setup += &mask::key_locals(spec, j, &format!("block + {j}u"), &format!("at{j}"));
        if shared.is_none() {
            let _ = writeln!(key_setup, "        let row_k{j} = {};", row_of(&format!("at{j}")));
        }
        for i in 0..rows {
            let _ = writeln!(score_clear, "        var s{i}_{j} = 0.0;");
        }
    }
    for part in 0..shared.map_or(0, |lanes| keys / lanes) {
        let first = part * shared.unwrap_or(1);
        let _ = writeln!(key_setup, "        let own_at{part} = min(block + {first}u + lane, live - 1u);");
        let _ = writeln!(key_setup, "        let own{part} = {};", row_of(&format!("own_at{part}")));
    }
    // Vectors `{name}{j}` of every key of the block, `width` vectors a row.
    let load = |name: &str, width: &str| {
        let mut text = String::new();
        for part in 0..shared.map_or(0, |lanes| keys / lanes) {
            let _ =
                writeln!(text, "            let {name}_own{part} = load4_{name}(own{part} * p.{width} + x);");
        }
        for j in 0..keys {
            let _ = match shared {
                Some(lanes) => writeln!(
                    text,
                    "            let {name}{j} = subgroupBroadcast({name}_own{}, {}u);",
                    j / lanes,
                    j % lanes
                ),
                None => writeln!(text, "            let {name}{j} = load4_{name}(row_k{j} * p.{width} + x);"),
            };
        }
        text
    };
    let mut score = load("k", "d");
    for i in 0..rows {
        let _ = writeln!(score, "            let q{i} = load4_q(q_at{i} + x);");
    }
    for (j, i) in (0..keys).flat_map(|j| (0..rows).map(move |i| (j, i))) {
        let _ = writeln!(score, "            s{i}_{j} += dot(q{i}, k{j});");
    }
    let mut softmax = String::new();
    for i in 0..rows {
        let _ = writeln!(softmax, "        var next{i} = top{i};");
        for j in 0..keys {
            let _ = writeln!(
                softmax,
                "        s{i}_{j} = select(nothing, {}, block + {j}u < end && {});\n        \
                 poisoned{i} = poisoned{i} || is_nan(s{i}_{j}) || s{i}_{j} > 3.4e38;\n        \
                 next{i} = max(next{i}, s{i}_{j});",
                mask::score(spec, &format!("s{i}_{j}")),
                mask::call(i, j)
            );
        }
        let _ = writeln!(softmax, "        let shrink{i} = exp_fast(top{i} - next{i});");
        let _ = writeln!(softmax, "        top{i} = next{i};\n        total{i} *= shrink{i};");
        for j in 0..keys {
            let _ = writeln!(
                softmax,
                "        s{i}_{j} = exp_fast(s{i}_{j} - top{i});\n        total{i} += s{i}_{j};"
            );
        }
    }
    let mut accumulate = load("v", "e");
    for i in 0..rows {
        let mut sum = format!("sums[sum_at{i} + x] * shrink{i}");
        for j in 0..keys {
            sum = format!("fma(vec4<f32>(s{i}_{j}), v{j}, {sum})");
        }
        // A row past the end is a copy of the last one, which must not be added to twice.
        let _ = writeln!(accumulate, "            if first + {i}u < p.t {{ sums[sum_at{i} + x] = {sum}; }}");
    }
    let mut finish = String::new();
    for i in 0..rows {
        let _ = writeln!(
            finish,
            "    if first + {i}u < p.t {{\n        let empty = total{i} == 0.0;\n        \
             let scale = select(select(1.0 / total{i}, 0.0, empty), not_a_number(), poisoned{i});\n        \
             for (var x = 0u; x < p.e; x++) {{\n            sums[sum_at{i} + x] *= scale;\n        }}\n        \
             let value = select(log_f32(total{i}) + top{i}, -infinity(), empty);\n        \
             lse[head * p.t + row{i}] = select(value, not_a_number(), poisoned{i});\n    }}"
        );
    }
    for (name, text) in [
        ("QUERY_SETUP", &query_setup),
        ("CLEAR", &clear),
        ("RANGE", &range),
        ("KEY_SETUP", &key_setup),
        ("SCORE_CLEAR", &score_clear),
        ("SCORE", &score),
        ("SOFTMAX", &softmax),
        ("ACCUMULATE", &accumulate),
        ("FINISH", &finish),
    ] {
        k.set(name, text);
    }
    k.set("ROWS", &rows.to_string())
        .set("KEYS", &keys.to_string())
        .set("OFFSET", mask::offset(spec))
        .set("LIVE", mask::live(spec));
}
