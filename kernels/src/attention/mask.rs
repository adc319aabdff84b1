//! Which keys a query attends to, as WGSL.

use percept_graph::AttentionSpec;

/// The optional operands in order.
pub(super) fn operand_names(spec: &AttentionSpec) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut add = |there: bool, operands: &[&'static str]| {
        if there {
            names.extend_from_slice(operands);
        }
    };
    add(spec.segments, &["q_segments", "k_segments"]);
    add(spec.blocks, &["q_blocks", "k_blocks"]);
    add(spec.offset, &["offset"]);
    add(spec.kv_len, &["kv_len"]);
    add(spec.paged, &["page_table"]);
    names
}

/// Absolute position of a batch entry's first query.
pub(super) fn offset(spec: &AttentionSpec) -> &'static str {
    if spec.offset { "load_offset(batch)" } else { "0" }
}

/// Keys that are there.
pub(super) fn live(spec: &AttentionSpec) -> &'static str {
    if spec.kv_len { "u32(clamp(load_kv_len(batch), 0, i32(p.s)))" } else { "p.s" }
}

/// A function `allowed(position, key, q_segment, k_segment, q_block, k_block) -> bool` of what the rules
/// need.
pub(super) fn function(spec: &AttentionSpec) -> String {
    let mut rules = vec!["true".to_string()];
    let within = |rule: &str, lifted: bool| match spec.causal && spec.blocks && lifted {
        true => format!("({rule} || (q_block == k_block && q_block >= 0))"),
        false => rule.to_string(),
    };
    if spec.causal {
        rules.push(within("key <= position", true));
    }
    if spec.window.is_some() {
        rules.push(within("position - key < p.window", spec.wide_blocks));
        if !spec.causal {
            rules.push("key - position < p.window".into());
        }
    }
    if spec.segments {
        rules.push("q_segment == k_segment".into());
    }
    format!(
        "fn allowed(position: i32, key: i32, q_segment: i32, k_segment: i32, q_block: i32, k_block: i32) -> bool {{\n    return {};\n}}\n",
        rules.join(" && ")
    )
}

/// The call of `allowed` for query `i` and key `j` of a tile.
pub(super) fn call(i: usize, j: usize) -> String {
    format!("allowed(position{i}, key{j}, q_segment{i}, k_segment{j}, q_block{i}, k_block{j})")
}

/// Locals that [`call`] reads, for query `i` at row `row`.
pub(super) fn query_locals(spec: &AttentionSpec, i: usize, row: &str) -> String {
    let segment = if spec.segments { format!("load_q_segments(batch * p.t + {row})") } else { "0".into() };
    let block = if spec.blocks { format!("load_q_blocks(batch * p.t + {row})") } else { "0".into() };
    format!(
        "    let position{i} = i32({row}) + offset;\n    let q_segment{i} = {segment};\n    let q_block{i} = {block};\n"
    )
}

/// Locals that [`call`] reads, for key `j` at index `key`, whose data is read at `at`, an index that exists.
pub(super) fn key_locals(spec: &AttentionSpec, j: usize, key: &str, at: &str) -> String {
    let segment = if spec.segments { format!("load_k_segments(batch * p.s + {at})") } else { "0".into() };
    let block = if spec.blocks { format!("load_k_blocks(batch * p.s + {at})") } else { "0".into() };
    format!(
        "        let key{j} = i32({key});\n        let k_segment{j} = {segment};\n        let k_block{j} = {block};\n"
    )
}

/// The score of a raw product: scaled, capped.
pub(super) fn score(spec: &AttentionSpec, raw: &str) -> String {
    if spec.soft_cap.is_some() {
        format!("p.cap * tanh_f32({raw} * p.scale / p.cap)")
    } else {
        format!("{raw} * p.scale")
    }
}
