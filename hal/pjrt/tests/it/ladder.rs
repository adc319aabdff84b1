//! The conformance ladder on the plug-in under test.

use std::sync::Arc;
use std::time::Instant;

use percept_hal::conformance::{Level, Options, Runner, Status, Subject, run};
use percept_pjrt::open;

use crate::plugin;

#[test]
fn the_plugin_climbs_to_gradients() {
    let Some(id) = plugin::id() else { return };
    let mut subject = Subject::new(Arc::new(open(&id).unwrap()));
    // No host: everything runs on the device.
    subject.strict = false;
    let level: usize = std::env::var("PERCEPT_LADDER_LEVEL").map_or(3, |l| l.parse().unwrap());
    let options = Options {
        level: Level::ALL[level],
        filter: std::env::var("PERCEPT_LADDER_FILTER").ok(),
        ..Options::default()
    };
    let start = Instant::now();
    let report = run(&id, &Runner::InProcess(&subject), &options, &mut |o, i, n| {
        if o.status != Status::Passed || o.ms > 3000.0 {
            eprintln!("{i}/{n} {} {:?} {:.0} ms: {}", o.case, o.status, o.ms, o.note);
        }
        if i % 250 == 0 {
            eprintln!("{i} of {n}");
        }
    });
    let report = report.expect("cases");
    println!("{report}\n{:.1} s", start.elapsed().as_secs_f64());
    let counts = report.counts(None);
    assert_eq!(counts.failed, 0, "{report}");
}
