//! The backward kernels: one that owns queries and gives dq, one that owns keys and gives dk and dv.

use std::fmt::Write;

use percept_graph::{AttentionSpec, DType, OpDesc};

use super::{Shape, bind, lanes, mask};
use crate::caps::Caps;
use crate::kernel::Kernel;
use crate::movement;
use crate::program::{KernelProgram, Slot, Unsupported};

const OWNED: usize = 4;
const BLOCK: usize = 8;

pub(super) fn program(
    desc: &OpDesc<'_>,
    spec: &AttentionSpec,
    shape: &Shape,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let mut program = KernelProgram::default();
    let n = 3 + spec.optional_operands();
    let rows = shape.b * shape.h * shape.t;
    let delta = program.scratch(rows as u64 * 4);
    let mut k = Kernel::new("attention_delta", include_str!("delta.wgsl"));
    k.vectors("out", Slot::Input(n), desc.inputs[n].dtype)?;
    k.vectors("dout", Slot::Input(n + 2), desc.inputs[n + 2].dtype)?;
    k.output("y", delta, DType::F32)?.param("e", shape.e / 4);
    program.launches.push(k.map(DType::F32, rows, caps)?);

    // Gradients are summed in f32, in the results themselves where those are f32.
    let sums: Vec<Slot> = (0..3)
        .map(|i| match desc.outputs[i].dtype {
            DType::F32 => Slot::Output(i),
            _ => program.scratch(desc.outputs[i].numel() as u64 * 4),
        })
        .collect();
    let queries = (shape.b * shape.h).saturating_mul(shape.t.div_ceil(OWNED));
    let keys = (shape.b * shape.hk).saturating_mul(shape.s.div_ceil(OWNED));
    for (owners, count) in [(Owners::Queries, queries), (Owners::Keys, keys)] {
        let mut k = Kernel::new("attention_grad", include_str!("backward.wgsl"));
        k.tag(owners.name());
        k.declare(&mask::function(spec));
        bind(&mut k, desc, spec)?;
        k.vectors("dout", Slot::Input(n + 2), desc.inputs[n + 2].dtype)?;
        k.array("lse", Slot::Input(n + 1), "f32").array("delta", delta, "f32");
        match owners {
            Owners::Queries => k.array("dq", sums[0], "vec4<f32>"),
            Owners::Keys => k.array("dk", sums[1], "vec4<f32>").array("dv", sums[2], "vec4<f32>"),
        };
        shape.params(&mut k, spec);
        k.set("LANES", &lanes(caps).to_string());
        owners.fill(&mut k, spec);
        program.launches.push(k.launch(count.div_ceil(lanes(caps)), caps)?);
    }
    for (i, (&from, to)) in sums.iter().zip(desc.outputs).enumerate() {
        if from != Slot::Output(i) {
            program.launches.extend(movement::cast(
                from,
                DType::F32,
                Slot::Output(i),
                to.dtype,
                to.numel(),
                caps,
            )?);
        }
    }
    Ok(program)
}

#[derive(Clone, Copy, PartialEq)]
enum Owners {
    Queries,
    Keys,
}

impl Owners {
    fn name(self) -> &'static str {
        if self == Owners::Queries { "queries" } else { "keys" }
    }

    /// Put the unrolled parts into the text.
    fn fill(self, k: &mut Kernel, spec: &AttentionSpec) {
        let (queries, keys) = if self == Owners::Queries { (OWNED, BLOCK) } else { (BLOCK, OWNED) };
        let mut query_locals = String::new();
        for i in 0..queries {
            let _ = writeln!(query_locals, "    let query{i} = first_query + {i}u;");
            let _ = writeln!(query_locals, "    let row{i} = min(query{i}, p.t - 1u);");
            let _ = writeln!(query_locals, "    let line{i} = head * p.t + row{i};");
            query_locals += &mask::query_locals(spec, i, &format!("row{i}"));
            let _ =
                writeln!(query_locals, "    let lse{i} = select(lse[line{i}], 0.0, lse[line{i}] < -3.4e38);");
        }
        let mut key_locals = String::new();
        for j in 0..keys {
            let _ = writeln!(key_locals, "    let at{j} = min(first_key + {j}u, p.s - 1u);");
            key_locals += &mask::key_locals(spec, j, &format!("first_key + {j}u"), &format!("at{j}"));
            let _ = writeln!(key_locals, "    let row_k{j} = (batch * p.hk + kv_head) * p.s + at{j};");
        }
        let (setup, loops, end) = match self {
            Owners::Queries => self.query_side(&query_locals, &key_locals),
            Owners::Keys => self.key_side(&query_locals, &key_locals),
        };
        k.set("SETUP", &setup)
            .set("LOOPS", &loops)
            .set("TILE", &self.tile(spec, queries, keys))
            .set("END", end);
        k.set("OWNERS", self.name()).set("OFFSET", mask::offset(spec)).set("LIVE", mask::live(spec));
    }

    fn query_side(self, query_locals: &str, key_locals: &str) -> (String, String, &'static str) {
        let mut setup = format!(
            "    let tiles = (p.t + {OWNED}u - 1u) / {OWNED}u;\n    let head = owner / tiles;\n    \
             if head >= p.b * p.h {{\n        return;\n    }}\n    let batch = head / p.h;\n    \
             let kv_head = (head % p.h) / p.group;\n    let first_query = (owner % tiles) * {OWNED}u;\n    \
             let offset = $OFFSET;\n    let live = $LIVE;\n{query_locals}    \
             for (var x = 0u; x < p.d; x++) {{\n"
        );
        for i in 0..OWNED {
            let _ = writeln!(setup, "        dq[line{i} * p.d + x] = vec4<f32>(0.0);");
        }
        setup += "    }\n";
        let loops =
            format!("    for (var first_key = 0u; first_key < live; first_key += {BLOCK}u) {{\n{key_locals}");
        (setup, loops, "    }")
    }

    fn key_side(self, query_locals: &str, key_locals: &str) -> (String, String, &'static str) {
        let mut setup = format!(
            "    let tiles = (p.s + {OWNED}u - 1u) / {OWNED}u;\n    let batch = owner / tiles / p.hk;\n    \
             if batch >= p.b {{\n        return;\n    }}\n    let kv_head = (owner / tiles) % p.hk;\n    \
             let first_key = (owner % tiles) * {OWNED}u;\n    let offset = $OFFSET;\n    let live = $LIVE;\n{key_locals}    \
             for (var x = 0u; x < max(p.d, p.e); x++) {{\n"
        );
        for j in 0..OWNED {
            let _ = writeln!(setup, "        if x < p.d {{ dk[row_k{j} * p.d + x] = vec4<f32>(0.0); }}");
            let _ = writeln!(setup, "        if x < p.e {{ dv[row_k{j} * p.e + x] = vec4<f32>(0.0); }}");
        }
        setup += "    }\n";
        let loops = format!(
            "    for (var member = 0u; member < p.group; member++) {{\n    \
             let head = batch * p.h + kv_head * p.group + member;\n    \
             for (var first_query = 0u; first_query < p.t; first_query += {BLOCK}u) {{\n{query_locals}"
        );
        (setup, loops, "    }\n    }")
    }

    /// Scores, their probabilities and gradients of one tile, and what they add to the owners' gradients.
    fn tile(self, spec: &AttentionSpec, queries: usize, keys: usize) -> String {
        let mut text = String::new();
        let pairs: Vec<(usize, usize)> = (0..queries).flat_map(|i| (0..keys).map(move |j| (i, j))).collect();
        for &(i, j) in &pairs {
            let _ = writeln!(text, "    var s{i}_{j} = 0.0;\n    var g{i}_{j} = 0.0;");
        }
        for (extent, left, right, total) in [("d", "q", "k", "s"), ("e", "dout", "v", "g")] {
            let _ = writeln!(text, "    for (var x = 0u; x < p.{extent}; x++) {{");
            for i in 0..queries {
                let _ = writeln!(text, "        let left{i} = load4_{left}(line{i} * p.{extent} + x);");
            }
            for j in 0..keys {
                let _ = writeln!(text, "        let right{j} = load4_{right}(row_k{j} * p.{extent} + x);");
            }
            for &(i, j) in &pairs {
                let _ = writeln!(text, "        {total}{i}_{j} += dot(left{i}, right{j});");
            }
            text += "    }\n";
        }
        for &(i, j) in &pairs {
            let cap = if spec.soft_cap.is_some() {
                format!(" * (1.0 - (score{i}_{j} / p.cap) * (score{i}_{j} / p.cap))")
            } else {
                String::new()
            };
            let _ = writeln!(
                text,
                "    let seen{i}_{j} = query{i} < p.t && first_key + {j}u < live && {};\n    \
                 let score{i}_{j} = {};\n    \
                 s{i}_{j} = select(0.0, exp_f32(score{i}_{j} - lse{i}), seen{i}_{j});\n    \
                 g{i}_{j} = select(0.0, s{i}_{j} * (g{i}_{j} - delta[line{i}]){cap} * p.scale, seen{i}_{j});",
                mask::call(i, j),
                mask::score(spec, &format!("s{i}_{j}"))
            );
        }
        match self {
            Owners::Queries => {
                text += &add("dq", "d", "g", "k", "line", "row_k", "first_query", "t", (queries, keys, true))
            }
            Owners::Keys => {
                text += &add("dk", "d", "g", "q", "row_k", "line", "first_key", "s", (keys, queries, false));
                text +=
                    &add("dv", "e", "s", "dout", "row_k", "line", "first_key", "s", (keys, queries, false));
            }
        }
        text
    }
}

/// `{to}[owner] += sum over others of {factor} * {from}[other]`, skipping owners past the end.
#[allow(clippy::too_many_arguments)]
fn add(
    to: &str,
    extent: &str,
    factor: &str,
    from: &str,
    owner_row: &str,
    other_row: &str,
    first: &str,
    bound: &str,
    (owners, others, by_query): (usize, usize, bool),
) -> String {
    let mut text = format!("    for (var x = 0u; x < p.{extent}; x++) {{\n");
    for o in 0..others {
        let _ = writeln!(text, "        let other{o} = load4_{from}({other_row}{o} * p.{extent} + x);");
    }
    for w in 0..owners {
        let mut sum = format!("{to}[{owner_row}{w} * p.{extent} + x]");
        for o in 0..others {
            let (i, j) = if by_query { (w, o) } else { (o, w) };
            sum = format!("fma(vec4<f32>({factor}{i}_{j}), other{o}, {sum})");
        }
        let _ = writeln!(
            text,
            "        if {first} + {w}u < p.{bound} {{ {to}[{owner_row}{w} * p.{extent} + x] = {sum}; }}"
        );
    }
    text + "    }\n"
}
