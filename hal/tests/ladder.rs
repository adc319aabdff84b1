//! The ladder on the reference itself: every case must build, and the judge must pass its own examination.

use std::collections::HashSet;
use std::sync::Arc;

use percept_hal::conformance::{Level, ReferenceDevice, Status, Subject, cases};

#[test]
fn the_reference_climbs_every_rung() {
    let mut subject = Subject::new(Arc::new(ReferenceDevice::new()));
    subject.soak_runs = 200;
    let mut faults = Vec::new();
    for case in cases() {
        let outcome = case.run(&subject);
        if outcome.status != Status::Passed {
            faults.push(format!("{}: {:?} {}", outcome.case, outcome.status, outcome.note));
        }
    }
    assert!(faults.is_empty(), "{} cases do not pass:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_table_is_large_and_its_ids_differ() {
    let all = cases();
    let graded = all.iter().filter(|c| (Level::L1..=Level::L3).contains(&c.level)).count();
    assert!(graded >= 1500, "{graded} cases in L1 to L3");
    let ids: HashSet<&str> = all.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids.len(), all.len());
    assert!(all.iter().all(|c| !c.id.contains(char::is_whitespace)));
}

#[test]
fn a_compiler_alone_is_held_to_every_graph_and_to_no_run() {
    let mut subject = Subject::new(Arc::new(ReferenceDevice::new()));
    (subject.compile_only, subject.strict) = (true, true);
    for case in cases().iter().filter(|c| c.id.contains("softmax") || c.level == Level::L0) {
        let outcome = case.run(&subject);
        // A promise holds of runs.
        let promise = case.level == Level::L0 || case.op == "rows_alone";
        let (status, placed) = if promise { (Status::Skipped, false) } else { (Status::Passed, true) };
        assert_eq!(
            (outcome.status, outcome.placement.is_some()),
            (status, placed),
            "{}: {}",
            case.id,
            outcome.note
        );
        assert_eq!(outcome.error_ulp, None, "{}: nothing ran", case.id);
    }
}
