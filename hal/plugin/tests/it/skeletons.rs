//! Every skeleton builds with one command, loads, and climbs.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::Path;

use percept_hal::conformance::{Level, Options, Report, Runner, Status, run};
use percept_plugin::skeleton::{Kind, Language, skeleton};

use crate::build::{Built, make};
use crate::needs;
use crate::worker::subject;

fn written(kind: Kind, language: Language, name: &str) -> Option<Built> {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in skeleton(kind, language, name, None).unwrap() {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    make(folder, name)
}

fn climb(id: &str, options: &Options) -> Report {
    let subject = subject(id).unwrap();
    run(id, &Runner::InProcess(&subject), options, &mut |_, _, _| {}).unwrap()
}

fn all_pass(report: &Report) {
    let failures: Vec<String> = report
        .outcomes
        .iter()
        .filter(|o| o.status != Status::Passed)
        .map(|o| format!("{}: {:?} {}", o.case, o.status, o.note))
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), report.outcomes.len(), failures.join("\n"));
}

fn climbs(kind: Kind, language: Language) {
    let Some(built) = written(kind, language, "demo-chip") else { return };
    for options in ["", "?guard=on"] {
        let report = climb(&built.id(options), &Options { level: Level::L0, ..Options::default() });
        all_pass(&report);
        assert!(report.outcomes.len() > 20);
    }
}

#[test]
fn an_op_library_in_c_climbs() {
    climbs(Kind::Oplib, Language::C);
}

#[test]
fn an_op_library_in_cpp_climbs() {
    climbs(Kind::Oplib, Language::Cpp);
}

#[test]
fn a_kernel_device_in_c_climbs() {
    climbs(Kind::Kernel, Language::C);
}

#[test]
fn a_kernel_device_in_cpp_climbs() {
    climbs(Kind::Kernel, Language::Cpp);
}

#[test]
fn a_graph_compiler_in_c_climbs() {
    climbs(Kind::Graph, Language::C);
}

#[test]
fn a_graph_compiler_in_cpp_climbs() {
    climbs(Kind::Graph, Language::Cpp);
}

/// The examples of this crate are the skeletons in Rust.
fn rust(kind: &str) -> Option<std::path::PathBuf> {
    let program = std::env::current_exe().unwrap();
    let examples = program.parent().and_then(Path::parent).unwrap().join("examples");
    let file = examples.join(format!("{DLL_PREFIX}rust_{kind}{DLL_SUFFIX}"));
    if !file.is_file() {
        needs::skip(&format!("the example rust_{kind} is not built; run cargo test without --test"));
        return None;
    }
    Some(file)
}

#[test]
fn a_kernel_device_in_rust_climbs() {
    let Some(file) = rust("kernel") else { return };
    for options in ["", "?guard=on"] {
        let id = format!("plugin:{}{options}", file.display());
        all_pass(&climb(&id, &Options { level: Level::L0, ..Options::default() }));
    }
}

/// What is supported runs in the plug-in, and is right.
#[test]
fn a_graph_compiler_in_rust_climbs() {
    let Some(file) = rust("graph") else { return };
    for options in ["", "?guard=on"] {
        let id = format!("plugin:{}{options}", file.display());
        all_pass(&climb(&id, &Options { level: Level::L0, ..Options::default() }));
    }
    let filter = Some("L1/mul/".into());
    let report = climb(
        &format!("plugin:{}", file.display()),
        &Options { level: Level::L1, filter, ..Options::default() },
    );
    all_pass(&report);
    let native = |o: &&percept_hal::conformance::Outcome| o.placement == Some(percept_hal::Placement::Native);
    assert!(report.outcomes.iter().filter(native).count() >= 5);
}

#[test]
fn an_op_library_in_rust_climbs() {
    let Some(file) = rust("oplib") else { return };
    for options in ["", "?guard=on", "?index=0"] {
        let id = format!("plugin:{}{options}", file.display());
        all_pass(&climb(&id, &Options { level: Level::L0, ..Options::default() }));
        let filter = Some("L1/mul/".into());
        all_pass(&climb(&id, &Options { level: Level::L1, filter, ..Options::default() }));
    }
    let refused = subject(&format!("plugin:{}?index=7", file.display())).err().unwrap().to_string();
    assert!(refused.contains("no device 7"), "{refused}");
}

/// The two operations that a skeleton has run natively and are right, and nothing else is claimed.
#[test]
fn the_operations_of_a_skeleton_are_its_own() {
    let Some(built) = written(Kind::Oplib, Language::C, "demo") else { return };
    for op in ["add", "mul"] {
        let filter = Some(format!("L1/{op}/"));
        let report = climb(&built.id(""), &Options { level: Level::L1, filter, ..Options::default() });
        all_pass(&report);
        let native =
            |o: &&percept_hal::conformance::Outcome| o.placement == Some(percept_hal::Placement::Native);
        let natives = report.outcomes.iter().filter(native).count();
        assert!(natives >= 5, "{op}: {natives} of {} are native", report.outcomes.len());
    }
    let unknown = subject(&built.id("?index=7")).err().unwrap().to_string();
    assert!(unknown.contains("no device 7"), "{unknown}");
    let option = subject(&built.id("?colour=red")).err().unwrap().to_string();
    assert!(option.contains("colour") && option.contains("index"), "{option}");
    let adapter = subject(&built.id("?adapter=graph")).err().unwrap().to_string();
    assert!(adapter.contains("oplib"), "{adapter}");
}

#[test]
fn names_and_languages_that_cannot_be_are_refused() {
    for name in ["", "Chip", "a b", "../x", "9lives"] {
        assert!(skeleton(Kind::Oplib, Language::C, name, None).is_err(), "{name}");
    }
    for kind in [Kind::Oplib, Kind::Kernel, Kind::Graph] {
        let rust = skeleton(kind, Language::Rust, "chip", None).unwrap_err();
        assert!(rust.contains("--percept"), "{rust}");
    }
    let elsewhere = skeleton(Kind::Kernel, Language::Rust, "chip", Some(Path::new("/"))).unwrap_err();
    assert!(elsewhere.contains("does not hold Percept's sources"), "{elsewhere}");
}
