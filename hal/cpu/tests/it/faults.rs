//! The ladder catches faults: one at a time is planted in the CPU device, and the cases that must name it do.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::alone::alone;
use crate::faulty::{DEADLY, Fault, FaultyDevice};
use percept_hal::conformance::{Case, Level, Options, Report, Runner, Status, Subject, cases, run, serve};

const FAULT: &str = "PERCEPT_PLANTED_FAULT";

fn subject(fault: Fault) -> Subject {
    let cpu = percept_cpu::open(0).expect("the CPU opens");
    let mut s = Subject::new(Arc::new(FaultyDevice::new(Arc::new(cpu), fault)));
    s.soak_runs = 200;
    s
}

/// All of L0, and the cases above it that must name a fault.
fn chosen() -> Vec<Case> {
    let named: BTreeSet<&str> = Fault::CONTAINED.iter().flat_map(|&f| must_name(f).0).copied().collect();
    cases().into_iter().filter(|c| c.level == Level::L0 || named.contains(c.id.as_str())).collect()
}

/// Cases that do not pass.
fn found(fault: Fault) -> BTreeSet<String> {
    let subject = subject(fault);
    let outcomes = chosen().into_iter().map(|c| c.run(&subject)).filter(|o| o.status != Status::Passed);
    outcomes
        .map(|o| {
            assert!(!o.note.is_empty(), "{}: a failure says why", o.case);
            o.case
        })
        .collect()
}

/// Cases that must name a fault, and the rung below which nothing may notice it.
fn must_name(fault: Fault) -> (&'static [&'static str], Level) {
    match fault {
        Fault::OffByOneInPrimes => (&["L1/add/f32/prime/normal", "L2/softmax/f32/prime/normal"], Level::L1),
        Fault::WrongPastTile => (&["L1/add/f32/past-tile/normal", "L1/max/i32/past-tile/limits"], Level::L0),
        Fault::TruncatedBf16 => (&["L1/add/bf16/prime/normal", "L1/mul/bf16/past-tile/normal"], Level::L1),
        Fault::BufferReusedEarly => (&["L0/lifetimes.outputs/outlive-later-runs"], Level::L0),
        Fault::LostWrite => {
            (&["L0/memory.round_trip/f32/large", "L0/memory.round_trip/q4_k/large"], Level::L0)
        }
        Fault::NanSwallowedInMax => {
            (&["L1/max/f32/past-tile/special", "L1/reduce_max/f32/rows/nan"], Level::L1)
        }
        Fault::HeldDonationCopied => (&["L0/donation.held/refused", "L0/donation.twice/refused"], Level::L0),
        Fault::ErrorSwallowed => (
            &["L0/errors.surface/impossible-intermediate", "L0/errors.arguments/count-type-device"],
            Level::L0,
        ),
        Fault::WrongGradient => {
            (&["L2/attention_grad/f32/prime/causal", "L3/grad.attention/f32/prime/causal"], Level::L2)
        }
        Fault::Nondeterminism => (&["L3/same_bits_twice/scatter-add-collisions"], Level::L0),
        Fault::BatchDependence => (&["L3/rows_alone/softmax/f32", "L3/rows_alone/attention/bf16"], Level::L1),
        Fault::Leak => (&["L4/soak/memory-flat"], Level::L4),
        Fault::StaleRead => (&["L0/order.read_before_overwrite/queued"], Level::L0),
        Fault::SharedRegister => (&["L4/concurrency/threads-share-device"], Level::L4),
        Fault::IncompleteReport => (&["L0/report.complete/every-operation"], Level::L0),
        Fault::DirtyZeros => (&["L0/memory.zeros/f32/prime", "L0/memory.zeros/q6_k/one"], Level::L0),
        Fault::None | Fault::Hang | Fault::Abort => (&[], Level::L0),
    }
}

#[test]
fn without_a_fault_nothing_is_named() {
    alone(|| assert_eq!(found(Fault::None), BTreeSet::new()));
}

#[test]
fn every_planted_fault_is_named() {
    alone(each_fault_is_named);
}

fn each_fault_is_named() {
    for fault in Fault::CONTAINED {
        let (names, lowest) = must_name(fault);
        let found = found(fault);
        for name in names {
            assert!(found.contains(*name), "{fault:?}: {name} passed; found {found:?}");
        }
        let below: Vec<&String> = found.iter().filter(|c| c.as_str() < lowest.to_string().as_str()).collect();
        assert!(below.is_empty(), "{fault:?} is a matter of {lowest}, but {below:?} failed");
        println!("{fault:?}: {} cases, {}", found.len(), names.join(", "));
    }
}

fn in_workers(fault: Fault, timeout: Duration) -> Report {
    let exe = std::env::current_exe().expect("the test's own program");
    let command = || {
        let mut c = Command::new(&exe);
        c.args(["faults::worker", "--exact", "--nocapture"]).env(FAULT, format!("{fault:?}"));
        c
    };
    let options = Options { filter: Some("L1/tanh/f32".into()), timeout, ..Options::default() };
    run("faulty", &Runner::Workers(&command), &options, &mut |_, _, _| {}).expect("a report")
}

/// The deadly case ends as it should and every other case passes, those after it in a new worker.
fn only_the_deadly_case(report: &Report, status: Status) -> String {
    assert!(report.outcomes.len() > 5);
    let mut note = String::new();
    for o in &report.outcomes {
        if o.case == DEADLY {
            assert_eq!(o.status, status, "{}", o.note);
            note = o.note.clone();
        } else {
            assert_eq!(o.status, Status::Passed, "{}: {}", o.case, o.note);
        }
    }
    assert!(report.to_string().contains(DEADLY));
    assert_eq!(report.counts(None).failed, 1);
    note
}

#[test]
fn a_crash_is_the_failure_of_its_case() {
    let note = only_the_deadly_case(&in_workers(Fault::Abort, Duration::from_secs(60)), Status::Crashed);
    assert!(note.contains("the process died") && (cfg!(not(unix)) || note.contains("signal: 6")), "{note}");
}

#[test]
fn a_hang_is_the_failure_of_its_case() {
    let note = only_the_deadly_case(&in_workers(Fault::Hang, Duration::from_secs(8)), Status::Hung);
    assert!(note.contains("no answer within 8.0 s"), "{note}");
}

/// In a child process this test is the worker; otherwise there is nothing for it to do.
#[test]
fn worker() {
    if let Ok(name) = std::env::var(FAULT) {
        let fault = Fault::named(&name).expect("a fault's name");
        serve(&subject(fault), Vec::new(), std::io::stdin().lock(), std::io::stdout().lock())
            .expect("the parent's pipes");
    }
}
