//! The porter's tutorial: its page holds the whole example, and the example climbs the ladder.

#[allow(dead_code, reason = "the example's main is its own")]
#[path = "../../examples/one_file_backend.rs"]
mod one_file_backend;

use percept::graph::{DType, HostTensor, TensorType, Trace, reference};
use percept::hal::conformance::Level;
use percept::hal::{Arg, Backend, CompileOptions, Placement};

const PAGE: &str = include_str!("../../docs/add-a-backend.md");
const EXAMPLE: &str = include_str!("../../examples/one_file_backend.rs");

#[test]
fn the_page_holds_the_example_whole_and_in_order() {
    let blocks: Vec<&str> =
        PAGE.split("```rust\n").skip(1).map(|b| b.split("```").next().unwrap_or_default().trim()).collect();
    assert_eq!(blocks.join("\n\n"), EXAMPLE.trim());
}

#[test]
fn what_the_library_lacks_is_decomposed_or_runs_on_the_host_and_is_named() {
    let device = one_file_backend::LoopsBackend.open("loops").unwrap();
    let t = Trace::new("softmax");
    let x = t.data("x", DType::F32, [3, 5]);
    t.output("y", &x.softmax());
    let graph = t.finish().unwrap();

    let alone = device.compile(&graph, &CompileOptions::default());
    let refused = alone.err().unwrap().to_string();
    assert!(refused.contains("reduce_max") && refused.contains("not written yet"), "{refused}");

    let host = percept::registry().open("cpu").unwrap();
    let options = CompileOptions { host: Some(host), ..CompileOptions::default() };
    let executable = device.compile(&graph, &options).unwrap();
    let report = executable.report();
    assert_eq!(report.placed.len(), 1);
    assert_eq!(report.placed[0].placement, Placement::Host);
    assert!(report.placed[0].reason.contains("reduce_max"), "{}", report.placed[0].reason);

    let values: Vec<f64> = (0..15).map(|i| (i * 7 % 11) as f64 / 3.0).collect();
    let x = HostTensor::from_f64(TensorType::new(DType::F32, [3, 5]), &values).unwrap();
    let buffer = device.upload(x.ty(), x.bytes()).unwrap();
    let y = executable.run(vec![Arg::Donate(buffer)]).unwrap();
    let got = HostTensor::new(y[0].ty().clone(), device.read(&y[0]).unwrap()).unwrap().values();
    let want = reference::evaluate(&graph, &[x]).unwrap()[0].values();
    assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?} {want:?}");
}

#[test]
fn it_climbs_the_ladder_and_learns_what_to_write_next() {
    let report = one_file_backend::climb(Level::L2).unwrap();
    let failures: Vec<_> = report.failures().map(|o| format!("{}: {}", o.case, o.note)).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    let l0 = report.counts(Some(Level::L0));
    assert!(l0.cases > 0 && l0.passed == l0.cases, "{l0:?}");
    // Most of it runs on the host, and every such case says so.
    assert!(report.fallbacks() > 100, "{}", report.fallbacks());
    let native = |op: &str| {
        let cases: Vec<_> =
            report.outcomes.iter().filter(|o| o.op == op && o.case.contains("/f32/")).collect();
        !cases.is_empty() && cases.iter().all(|o| o.placement == Some(Placement::Native))
    };
    assert!(native("exp") && native("add") && !native("erf"));
}
