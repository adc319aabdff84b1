//! The table in support mode: what a device says about every operation and dtype of the table, as Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use percept_graph::{DType, GraphError, OpDesc, decompose};

use super::case::{Check, Level};
use super::cases::all;
use super::problem::build;
use crate::device::{Device, Support};
use crate::lower::is_structural;
use crate::report::Placement;

/// Where an operation would run, its decomposition followed down to primitives.
fn placement(device: &dyn Device, op: &OpDesc<'_>) -> Result<Placement, GraphError> {
    if is_structural(op.op) || device.supports(op) == Support::Native {
        return Ok(Placement::Native);
    }
    let Some(body) = decompose(op)? else { return Ok(Placement::Host) };
    let mut worst = Placement::Decomposed;
    for node in body.nodes() {
        worst = worst.max(body.describe(node, |d| placement(device, d))?);
    }
    Ok(worst)
}

/// A Markdown section on a device under a title: operations by dtype of their first operand.
///
/// # Errors
/// When a case does not build.
pub fn section(title: &str, device: &dyn Device) -> Result<String, GraphError> {
    let mut cells: BTreeMap<(Level, String), BTreeMap<DType, BTreeSet<Placement>>> = BTreeMap::new();
    for case in all() {
        let Check::Values(recipe) = &case.check else { continue };
        let graph = build(&case.id, recipe)?.graph;
        for node in graph.nodes().iter().filter(|n| !is_structural(&n.op) && n.op.name() == case.op) {
            let where_to = graph.describe(node, |d| placement(device, d))?;
            let dtype =
                graph.types(&node.inputs).first().or(graph.types(&node.outputs).first()).map(|t| t.dtype);
            if let Some(dtype) = dtype {
                let row = cells.entry((case.level, case.op.clone())).or_default();
                row.entry(dtype).or_default().insert(where_to);
            }
        }
    }
    let mut text = format!("## {title}\n\n| operation |");
    for d in DType::ALL {
        let _ = write!(text, " {d} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(DType::ALL.len()));
    for ((_, op), row) in &cells {
        let _ = write!(text, "| {op} |");
        for d in DType::ALL {
            let names = row.get(&d).map(|p| p.iter().map(|p| p.to_string()).collect::<Vec<_>>().join(", "));
            let _ = write!(text, " {} |", names.unwrap_or_default());
        }
        text.push('\n');
    }
    Ok(text)
}

/// The document with the section of the same heading replaced, or added at the end.
pub fn replace_section(document: &str, section: &str) -> String {
    let heading = section.lines().next().unwrap_or_default();
    let mut parts: Vec<String> = Vec::new();
    for line in document.lines() {
        if line.starts_with("## ") || parts.is_empty() {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let ours = format!("{}\n", section.trim_end());
    match parts.iter_mut().find(|p| p.lines().next() == Some(heading)) {
        Some(part) => *part = ours,
        None => parts.push(ours),
    }
    parts.iter().map(|p| p.trim_end()).collect::<Vec<_>>().join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::ReferenceDevice;

    #[test]
    fn sections_are_replaced_or_added() {
        let doc = "# Support\n\nIntro.\n\n## a\n\nold\n\n## b\n\nkept\n";
        let with = replace_section(doc, "## a\n\nnew\n");
        assert_eq!(with, "# Support\n\nIntro.\n\n## a\n\nnew\n\n## b\n\nkept\n");
        assert_eq!(replace_section(&with, "## a\n\nnew\n"), with);
        assert!(replace_section(doc, "## c\n\nmore").ends_with("kept\n\n## c\n\nmore\n"));
    }

    #[test]
    fn the_reference_has_every_primitive_and_decomposes_the_rest() {
        let text = section("reference", &ReferenceDevice::new()).unwrap();
        let line = |op: &str| text.lines().find(|l| l.starts_with(&format!("| {op} |"))).map(str::to_string);
        assert!(line("exp").unwrap().starts_with("| exp | native | native | native |"), "{text}");
        assert!(line("softmax").unwrap().contains("decomposed"), "{text}");
        assert!(
            line("dequantize").unwrap().ends_with("native | native | native | native | native |"),
            "{text}"
        );
    }
}
