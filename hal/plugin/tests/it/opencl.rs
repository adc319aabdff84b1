//! The sample in `examples/vendor-opencl`, on whatever OpenCL device is here.

use std::path::Path;

use percept_hal::Placement;
use percept_hal::conformance::{Level, Options, Runner, Status, run};

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

#[test]
fn the_sample_climbs_to_the_third_rung() {
    let Some(built) = sample() else { return };
    let subject = subject(&built.id("")).unwrap();
    let options = Options { level: Level::L3, ..Options::default() };
    let report = run("opencl", &Runner::InProcess(&subject), &options, &mut |_, _, _| {}).unwrap();
    let mut failures: Vec<String> = Vec::new();
    let mut placed = [0usize; 3];
    for o in &report.outcomes {
        if let Some(at) = o.placement {
            placed[at as usize] += 1;
        }
        if o.status != Status::Passed {
            failures.push(format!("{}: {:?} {}", o.case, o.status, o.note));
        }
    }
    let all = report.outcomes.len();
    println!("{all} cases, {} failures; native, decomposed, host: {placed:?}", failures.len());
    assert!(failures.is_empty(), "{} of {all}:\n{}", failures.len(), failures.join("\n"));
    assert!(placed[Placement::Native as usize] > 400, "{placed:?}");
    for op in ["linear", "dot", "softmax", "rms_norm", "rope", "attention", "add", "fused", "quantized_dot"] {
        let native = report.outcomes.iter().any(|o| o.op == op && o.placement == Some(Placement::Native));
        assert!(native || op == "fused", "{op} is never native");
    }
}
