//! The conformance ladder on the first adapter, lavapipe where there is no GPU.

use std::sync::Arc;
use std::time::Instant;

use percept_hal::Device;
use percept_hal::conformance::{Level, Options, Runner, Subject, run};

use crate::adapter;
use crate::alone::alone;

/// Runs of the endurance case.
const SOAK_RUNS: usize = 2000;

#[test]
fn the_first_adapter_climbs_every_rung() {
    alone(climb);
}

fn climb() {
    let Some(device) = adapter::device() else { return };
    println!("{:?}", device.info());
    let mut subject = Subject::new(Arc::new(device));
    (subject.strict, subject.soak_runs) = (true, SOAK_RUNS);
    let start = Instant::now();
    let options = Options { filter: std::env::var("PERCEPT_LADDER_FILTER").ok(), ..Options::default() };
    let report = run("wgpu:0", &Runner::InProcess(&subject), &options, &mut |o, i, n| {
        if o.ms > 3000.0 {
            eprintln!("{i}/{n} {} took {:.0} ms", o.case, o.ms);
        }
    });
    let report = report.expect("cases");
    println!("{report}\n{:.1} s", start.elapsed().as_secs_f64());
    let counts = report.counts(None);
    assert_eq!((counts.failed, counts.skipped, report.fallbacks()), (0, 0, 0), "{report}");
    let graded: usize =
        [Level::L1, Level::L2, Level::L3].iter().map(|&l| report.counts(Some(l)).passed).sum();
    assert!(graded >= 1500 || options.filter.is_some(), "{graded} cases in L1 to L3");
}
