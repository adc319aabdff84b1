//! The conformance ladder on the plug-in under test.

use std::sync::Arc;

use percept_hal::conformance::{Case, Level, Outcome, Status, Subject, cases};
use percept_pjrt::open;

use crate::plugin;

/// Runs these cases, and gives those that neither passed nor are of a promise that is refused by name.
fn climb(is_chosen: impl Fn(usize, &Case) -> bool) -> Option<(usize, Vec<Outcome>)> {
    let mut subject = Subject::new(Arc::new(open(&plugin::id()?).unwrap()));
    // No host: everything runs on the device.
    subject.strict = false;
    let all = cases();
    let chosen = all.iter().enumerate().filter(|(i, c)| c.level <= Level::L3 && is_chosen(*i, c));
    let outcomes: Vec<Outcome> = chosen.map(|(_, case)| case.run(&subject)).collect();
    let ended = |o: &Outcome| {
        o.status == Status::Passed || o.status == Status::Skipped && o.note.contains("batch-invariant")
    };
    Some((outcomes.len(), outcomes.into_iter().filter(|o| !ended(o)).collect()))
}

fn named(faults: &[Outcome]) -> String {
    faults.iter().map(|o| format!("{}: {:?} {}\n", o.case, o.status, o.note)).collect()
}

/// A program is compiled for each case, which takes a tenth of a second: every eighth case stands for those around it,
/// which are the same operation on other shapes and dtypes.
#[test]
fn the_plugin_climbs_to_gradients() {
    let Some((run, faults)) = climb(|i, case| case.level == Level::L0 || i % 8 == 0) else { return };
    assert!(faults.is_empty(), "{} of {run}:\n{}", faults.len(), named(&faults));
    assert!(run > 600, "{run} cases");
}

#[test]
#[ignore = "all cases take many minutes; `cargo xtask vendors assets` runs them"]
fn the_plugin_climbs_the_whole_ladder() {
    let filter = std::env::var("PERCEPT_LADDER_FILTER").unwrap_or_default();
    let Some((run, faults)) = climb(|_, case| case.id.contains(&filter)) else { return };
    assert!(faults.is_empty(), "{} of {run}:\n{}", faults.len(), named(&faults));
    println!("{run} cases");
}
