//! The sample in `examples/vendor-opencl`, on whatever OpenCL device is here.

use std::path::Path;

use percept_hal::Placement;
use percept_hal::conformance::{Case, Level, Outcome, Status, cases};

use crate::build::{Built, compile};
use crate::needs;
use crate::worker::subject;

const SOURCE: &str = "../../examples/vendor-opencl/plugin.c";

fn sample() -> Option<Built> {
    let there = Path::new("/usr/include/CL/cl.h").exists() || cfg!(not(target_os = "linux"));
    let driver = std::fs::read_dir("/etc/OpenCL/vendors").is_ok_and(|mut d| d.next().is_some());
    if !there || !driver {
        needs::skip("there are no OpenCL headers or no driver; install opencl-headers and pocl-opencl-icd");
        return None;
    }
    compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join(SOURCE), &["-lOpenCL"])
}

#[test]
fn the_sample_is_as_short_as_it_says() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(SOURCE)).unwrap();
    let lines = text.lines().count();
    assert!(lines <= 1000, "{lines} lines");
}

/// A quarter of the cases of f32 and of quantized weights: each kernel is compiled for its dtype and shape, which takes
/// its time. The command of the sample's README climbs through all.
fn is_chosen(number: usize, case: &Case) -> bool {
    let here = case.id.contains("f32") || case.op == "quantized_dot";
    case.level == Level::L0 || case.level <= Level::L3 && here && number.is_multiple_of(4)
}

#[test]
fn the_sample_climbs_to_the_third_rung() {
    let Some(built) = sample() else { return };
    let subject = subject(&built.id("")).unwrap();
    let all = cases();
    let chosen = all.iter().enumerate().filter(|(i, case)| is_chosen(*i, case));
    let outcomes: Vec<Outcome> = chosen.map(|(_, case)| case.run(&subject)).collect();
    let failed = outcomes.iter().filter(|o| o.status != Status::Passed);
    let failures: Vec<String> = failed.map(|o| format!("{}: {:?} {}", o.case, o.status, o.note)).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), outcomes.len(), failures.join("\n"));
    let native = |op: &str| outcomes.iter().any(|o| o.op == op && o.placement == Some(Placement::Native));
    for op in
        ["add", "dot", "linear", "softmax", "rms_norm", "rope", "attention", "kv_append", "quantized_dot"]
    {
        assert!(native(op), "{op} is never native");
    }
}
