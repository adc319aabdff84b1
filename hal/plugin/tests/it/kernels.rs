//! Kernels through a plug-in: its compiler takes Metal's language for the processor, and refuses what it cannot.

use std::path::Path;

use percept_hal::Placement;
use percept_hal::conformance::{Level, Options, Runner, Status, run};

use crate::build::compile_cpp;
use crate::worker::subject;

#[test]
fn kernels_are_compiled_dispatched_and_right() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metal.cpp");
    let Some(built) = compile_cpp(&source, &["-ldl"]) else { return };
    for (options, filter, least) in
        [("", "L0/", 10), ("?guard=on", "L1/add/f32", 3), ("", "L1/exp/f32", 1), ("", "L1/select", 1)]
    {
        let subject = subject(&built.id(options)).unwrap();
        let options = Options { level: Level::L1, filter: Some(filter.into()), ..Options::default() };
        let report = run("metal", &Runner::InProcess(&subject), &options, &mut |_, _, _| {}).unwrap();
        for o in &report.outcomes {
            assert_eq!(o.status, Status::Passed, "{}: {}", o.case, o.note);
        }
        let native = report.outcomes.iter().filter(|o| o.placement == Some(Placement::Native)).count();
        assert!(
            filter == "L0/" || native >= least,
            "{filter}: {native} of {} are native",
            report.outcomes.len()
        );
        assert!(report.outcomes.len() >= least);
    }
}
