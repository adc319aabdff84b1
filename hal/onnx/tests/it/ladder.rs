//! The conformance ladder on the processor's execution provider.

use std::sync::Arc;
use std::time::Instant;

use percept_hal::Placement;
use percept_hal::conformance::{Level, Options, ReferenceDevice, Report, Runner, Status, Subject, run};

use crate::support::open;

fn climb(options: &str, filter: Option<String>) -> Option<Report> {
    let mut subject = Subject::new(open(options)?);
    subject.host = Some(Arc::new(ReferenceDevice::new()));
    let start = Instant::now();
    let options = Options { level: Level::L3, filter, ..Options::default() };
    let report = run("onnx", &Runner::InProcess(&subject), &options, &mut |_, _, _| {}).expect("cases");
    println!("{report}\n{:.1} s", start.elapsed().as_secs_f64());
    for placement in [Placement::Native, Placement::Decomposed, Placement::Host] {
        let count = |level| {
            report.outcomes.iter().filter(|o| o.level == level && o.placement == Some(placement)).count()
        };
        println!("{placement}: {:?}", Level::ALL.map(count));
    }
    Some(report)
}

#[test]
fn the_processors_provider_climbs_to_training() {
    let Some(report) = climb("", None) else { return };
    let failures: Vec<String> = report.failures().map(|o| format!("{}: {}", o.case, o.note)).collect();
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(report.fallbacks(), 0, "{report}");
    // What is not promised is refused and not run: rows that do not depend on those beside them.
    let skipped = report.outcomes.iter().filter(|o| o.status == Status::Skipped);
    for o in skipped {
        assert!(o.note.contains("batch-invariant"), "{}: {}", o.case, o.note);
    }
    let graded: usize =
        [Level::L0, Level::L1, Level::L2, Level::L3].iter().map(|&l| report.counts(Some(l)).passed).sum();
    assert!(graded >= 4600, "{graded} cases");
}

#[test]
fn plain_operators_mean_the_same() {
    // Composites, in which the styles differ.
    let Some(report) = climb("style=plain&opset=22", Some("L2/".into())) else { return };
    let failures: Vec<String> = report.failures().map(|o| format!("{}: {}", o.case, o.note)).collect();
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    assert!(report.counts(None).passed >= 1300, "{report}");
}

#[test]
#[ignore = "by hand: PERCEPT_ONNX_OPTIONS has the options of an id, PERCEPT_ONNX_FILTER part of the cases' ids"]
fn another_provider_climbs() {
    let options = std::env::var("PERCEPT_ONNX_OPTIONS").unwrap_or_default();
    let Some(report) = climb(&options, std::env::var("PERCEPT_ONNX_FILTER").ok()) else { return };
    for o in report.failures() {
        println!("{}: {}", o.case, o.note);
    }
}
