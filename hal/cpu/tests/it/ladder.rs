//! The conformance ladder on the CPU.

use std::sync::Arc;
use std::time::Instant;

use percept_hal::conformance::{Level, Options, Runner, Subject, run};

use crate::alone::alone;

#[test]
fn the_cpu_climbs_every_rung() {
    alone(climb);
}

fn climb() {
    let device = percept_cpu::open(0).expect("the CPU opens");
    let mut subject = Subject::new(Arc::new(device));
    subject.strict = true;
    let start = Instant::now();
    let report =
        run("cpu", &Runner::InProcess(&subject), &Options::default(), &mut |_, _, _| {}).expect("cases");
    println!("{report}\n{:.1} s", start.elapsed().as_secs_f64());
    let counts = report.counts(None);
    assert_eq!((counts.failed, counts.skipped, report.fallbacks()), (0, 0, 0), "{report}");
    let graded: usize =
        [Level::L1, Level::L2, Level::L3].iter().map(|&l| report.counts(Some(l)).passed).sum();
    assert!(graded >= 1500, "{graded} cases in L1 to L3");
}
