//! The ladder's graphs through the real TPU compiler, which needs no TPU. It may end the process that it is in, so that
//! each case runs in a child: this test program, at the test `worker`.
//!
//! libtpu is a large download for a test. So this is asked for by name:
//! `pip download --no-deps libtpu`, unzip, then
//! `PERCEPT_LIBTPU=/path/libtpu.so cargo test -p percept-pjrt --test it topology -- --ignored --nocapture`.

use std::process::Command;
use std::sync::Arc;

use percept_hal::conformance::{Level, Options, Runner, Status, Subject, run, serve};
use percept_pjrt::{TOPOLOGY_ENVIRONMENT, TopologyEmitter};

/// The topology that a child compiles for.
const CHILD: &str = "PERCEPT_TOPOLOGY_CHILD";

fn id() -> String {
    let path =
        std::env::var("PERCEPT_LIBTPU").expect("PERCEPT_LIBTPU names libtpu.so, from the package libtpu");
    format!("pjrt:{path}")
}

fn child(topology: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["topology::worker", "--exact", "--ignored", "--nocapture"]);
    command.env(CHILD, topology).envs(TOPOLOGY_ENVIRONMENT);
    command
}

#[test]
#[ignore = "what the other tests here start"]
fn worker() {
    let Ok(topology) = std::env::var(CHILD) else { return };
    let mut subject = Subject::new(Arc::new(TopologyEmitter::open(&id(), &topology).unwrap()));
    subject.compile_only = true;
    serve(&subject, Vec::new(), std::io::stdin().lock(), std::io::stdout()).unwrap();
}

#[test]
#[ignore = "needs libtpu, which `cargo xtask vendors` fetches and climbs the ladder with"]
fn every_graph_of_the_ladder_compiles_for_tpus() {
    let named = std::env::var("PERCEPT_TOPOLOGY").unwrap_or("v4:2x2x1,v5e:2x2,v6e:2x2".into());
    let options = Options {
        level: Level::L4,
        filter: std::env::var("PERCEPT_LADDER_FILTER").ok(),
        ..Options::default()
    };
    let mut failed = 0;
    for topology in named.split(',') {
        let command = || child(topology);
        let report = run(topology, &Runner::Workers(&command), &options, &mut |o, i, n| {
            if !matches!(o.status, Status::Passed | Status::Skipped) {
                eprintln!("{topology} {i}/{n} {} {:?}: {}", o.case, o.status, o.note);
            }
            if i % 250 == 0 {
                eprintln!("{topology}: {i} of {n}");
            }
        });
        let report = report.expect("cases");
        for level in Level::ALL {
            println!("{topology} {level}: {:?}", report.counts(Some(level)));
        }
        failed += report.counts(None).failed;
    }
    assert_eq!(failed, 0);
}

#[test]
#[ignore = "needs libtpu, which `cargo xtask vendors` fetches and climbs the ladder with"]
fn a_chip_that_the_compiler_does_not_know_is_refused_in_its_words() {
    let output = child("v99:2x2").output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("v99:2x2"), "{told}");
}
