//! `percept device test ID --model PATH`: the operations of a model on a device, and which to write next.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use percept::hal::{Placement, walk};
use serde_json::{Value, json};

use super::subject::Subject;
use crate::cli::Failure;
use crate::cli::failure::write_file;
use crate::cli::table::table;

/// All uses of one kind of operation.
struct Kind {
    count: usize,
    placement: Placement,
    error: f64,
    ms: f64,
    failed: Option<String>,
}

/// Run every operation of a model beside the cpu and print what became of each kind, by the time it took.
pub fn test(id: &str, model: &Path, json_file: Option<&Path>, strict: bool) -> Result<(), Failure> {
    let registry = percept::registry();
    let (cpu, device) = (registry.open("cpu")?, registry.open(id)?);
    let subject = Subject::open(model, 0, &*device)?;
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    walk::<Failure>(&subject.graph, &subject.inputs, &*device, &cpu, None, |v| {
        let new = Kind { count: 0, placement: Placement::Native, error: 0.0, ms: 0.0, failed: None };
        let kind = kinds.entry(v.node.op.name()).or_insert(new);
        kind.count += 1;
        kind.placement = kind.placement.max(v.placement);
        kind.error = if v.error.is_nan() { f64::NAN } else { kind.error.max(v.error) };
        kind.ms += v.ms;
        if !v.agrees() {
            kind.failed.get_or_insert_with(|| v.node.path.to_string());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut rows: Vec<(String, Kind)> = kinds.into_iter().collect();
    rows.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    let failed: Vec<&(String, Kind)> = rows.iter().filter(|r| r.1.failed.is_some()).collect();
    let fallbacks = rows.iter().filter(|r| r.1.placement == Placement::Host).count();
    if let Some(file) = json_file {
        write_file(file, format!("{:#}\n", document(id, &rows, failed.len(), fallbacks)).as_bytes())?;
    }
    let mut t = table(&["OPERATION", "USES", "PLACEMENT", "NMSE", "MS"], &[1, 3, 4]);
    for (name, k) in &rows {
        let (error, ms) = (format!("{:.1e}", k.error), format!("{:.3}", k.ms));
        t.add_row([name.clone(), k.count.to_string(), k.placement.to_string(), error, ms]);
    }
    println!("{t}");
    match rows.iter().find(|r| r.1.placement != Placement::Native) {
        Some((name, k)) => println!("write next: {name}, {} now, {:.3} ms a step", k.placement, k.ms),
        None => println!("every operation of the model is native on {id}"),
    }
    if let Some((name, k)) = failed.first() {
        let place = k.failed.as_deref().unwrap_or("");
        let why =
            format!("{} of {} kinds of operation differ on {id}, first {name}", failed.len(), rows.len());
        return Err(Failure::Negative(format!("{why} in {place}; `percept device diff` isolates it")));
    }
    if strict && fallbacks > 0 {
        let why = format!("{fallbacks} kinds of operation ran on the host, which --strict forbids");
        return Err(Failure::Negative(why));
    }
    Ok(())
}

/// The ladder's document, with a case for each kind of operation.
fn document(id: &str, rows: &[(String, Kind)], failed: usize, fallbacks: usize) -> Value {
    let results: Vec<Value> = rows
        .iter()
        .map(|(name, k)| {
            json!({
                "case": name, "level": "model", "placement": k.placement, "error_ulp": Value::Null, "nmse": k.error,
                "ms": k.ms, "status": if k.failed.is_some() { "failed" } else { "passed" },
            })
        })
        .collect();
    json!({
        "device": id, "cases": rows.len(), "passed": rows.len() - failed, "failed": failed, "skipped": 0,
        "fallbacks": fallbacks, "levels": {}, "results": results,
    })
}
