//! L5 of the ladder: the tiny model of every family, part by part, on a device and beside it on the cpu, which is itself
//! held to the f64 reference. What differs is put down to the operation that does.

mod passes;
#[cfg(test)]
mod tests;
mod tiny;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use percept::graph::{Role, TensorType};
use percept::hal::conformance::{Case, Fault, Level, Outcome, ReferenceDevice, Subject as Tested};
use percept::hal::{Arg, CompileOptions, Device, Weight, numbers, walk};

use super::subject::Subject;
use crate::cli::Failure;
use passes::{Part, subjects};
use tiny::Family;

/// The largest normalized mean square error of an output. A model's sums are long and follow one another: rounding alone
/// takes it to about 1e-12, a wrong bit of any consequence beyond 1e-8.
const FORWARD: f64 = 1e-8;
/// The same of gradients, which go through the model twice.
const BACKWARD: f64 = 1e-7;

/// A case for each part of each family.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::all() {
        let name = family.name;
        // A file that cannot be read fails in each of its cases.
        let (writes, media) = family.read().map_or((true, true), |d| (d.writes(), d.has_media()));
        let parts = Part::ALL.into_iter().filter(|part| match part {
            Part::Encoders => media || !writes,
            Part::Prefill | Part::Decode => writes,
            Part::Backward | Part::Step => true,
        });
        for part in parts {
            let check = move |tested: &Tested, outcome: &mut Outcome| {
                let Some(family) = Family::all().find(|f| f.name == name) else {
                    return Err(Fault::Inapplicable(format!("there is no family '{name}'")));
                };
                check(&family, part, tested, outcome)
            };
            cases.push(Case::of_program(Level::L5, name, part.name(), check));
        }
    }
    cases
}

/// One part of a family's model on the device.
fn check(family: &Family, part: Part, tested: &Tested, outcome: &mut Outcome) -> Result<(), Fault> {
    let broken = |e: Failure| Fault::Wrong(e.message());
    let cpu = percept::registry().open("cpu")?;
    let folder = tempfile::tempdir().map_err(|e| Fault::Wrong(format!("no temporary folder: {e}")))?;
    let description = family.read().map_err(broken)?;
    let model = description.make(folder.path()).map_err(broken)?;
    let runs = subjects(model, &description, part, &cpu).map_err(broken)?;
    let judge: Arc<dyn Device> =
        if tested.device.info().id == "cpu" { Arc::new(ReferenceDevice::new()) } else { cpu };
    let allowed = if matches!(part, Part::Backward | Part::Step) { BACKWARD } else { FORWARD };
    runs.iter().try_for_each(|run| beside(run, tested, &judge, allowed, outcome))
}

/// One graph on the device and beside it on the judge.
fn beside(
    run: &Subject,
    tested: &Tested,
    judge: &Arc<dyn Device>,
    allowed: f64,
    outcome: &mut Outcome,
) -> Result<(), Fault> {
    let graph = &run.graph;
    let executable = tested.device.compile(graph, &tested.options())?;
    let report = executable.report();
    outcome.placement = outcome.placement.max(report.placed.iter().map(|p| p.placement).max());
    outcome.fallbacks.extend(report.fallbacks().map(|p| p.op.clone()));
    let arguments = arguments(run, &*tested.device)?;
    let start = Instant::now();
    let given = executable.run(arguments).and_then(|all| all.iter().map(|b| tested.device.read(b)).collect());
    outcome.ms += start.elapsed().as_secs_f64() * 1e3;
    let given: Vec<Vec<u8>> = match given {
        Ok(given) => given,
        Err(e) => return Err(culprit(run, tested, judge, &format!("{}: {e}", graph.name()))),
    };
    let expected = judge.compile(graph, &CompileOptions::default())?.run(self::arguments(run, &**judge)?)?;
    let mut pairs = Vec::new();
    for ((output, given), expected) in graph.outputs().iter().zip(&given).zip(&expected) {
        // Pools of the cache hold rows that nothing reads; the step that reads the others is a case too.
        if output.alias.is_some() {
            continue;
        }
        let ty = graph.ty(output.value);
        pairs.push((&output.name, numbers(ty, &judge.read(expected)?), numbers(ty, given)));
    }
    let power = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64;
    let greatest = pairs.iter().map(|(_, expected, _)| power(expected)).fold(0.0, f64::max);
    for (name, expected, given) in &pairs {
        let off = expected.iter().zip(given).map(|(e, g)| if e == g { 0.0 } else { (e - g).powi(2) });
        let off = off.sum::<f64>() / expected.len().max(1) as f64;
        // What should be zero, as gradients of a bias before a softmax are, is held to the size of the others.
        let error =
            if off == 0.0 { 0.0 } else { off / power(expected).max(1e-6 * greatest).max(f64::MIN_POSITIVE) };
        outcome.nmse = Some(outcome.nmse.unwrap_or(0.0).max(error)).filter(|e| e.is_finite());
        if error.is_nan() || error > allowed {
            let what =
                format!("{}: output '{name}' is off by {error:.1e}, {allowed:.0e} is allowed", graph.name());
            return Err(culprit(run, tested, judge, &what));
        }
    }
    Ok(())
}

/// The inputs of a graph on a device; those that outputs replace are donated.
fn arguments(run: &Subject, device: &dyn Device) -> Result<Vec<Arg>, percept::hal::Error> {
    let donated = run.graph.donated();
    let inputs = run.graph.inputs().iter().zip(&run.inputs).enumerate();
    inputs
        .map(|(i, (input, bytes))| {
            let ty: &TensorType = run.graph.ty(input.value);
            let is_weight = input.role == Role::Parameter && !donated.contains(&i);
            let buffer = match is_weight {
                true => device.load_weight(&Weight::new(ty.clone(), Arc::new(bytes.clone()))?)?,
                false => device.upload(ty, bytes)?,
            };
            Ok(if donated.contains(&i) { Arg::Donate(buffer) } else { Arg::Borrow(buffer) })
        })
        .collect()
}

/// The fault, with the first operation that differs when each is run by itself.
fn culprit(run: &Subject, tested: &Tested, judge: &Arc<dyn Device>, what: &str) -> Fault {
    let mut found = None;
    let walked = walk::<Failure>(&run.graph, &run.inputs, &*tested.device, judge, None, |v| {
        if v.agrees() {
            return Ok(ControlFlow::Continue(()));
        }
        let place = if v.node.path.is_empty() { String::new() } else { format!(" in {}", v.node.path) };
        let of = format!("operation {}, {}{place}", v.index, v.node.op.name());
        found = Some(format!("{of}, is off by {:.1e}, {:.0e} is allowed", v.error, v.allowed));
        Ok(ControlFlow::Break(()))
    });
    Fault::Wrong(match (walked, found) {
        (Ok(()), Some(operation)) => format!("{what}; {operation}"),
        (Ok(()), None) => {
            format!("{what}; every operation alone is right, so it is how they are put together")
        }
        (Err(e), _) => format!("{what}; one by one: {}", e.message()),
    })
}
