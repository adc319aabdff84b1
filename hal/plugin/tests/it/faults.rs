//! Plug-ins with a fault each: the run ends with an error that names the plug-in, and this process goes on.

use std::time::Duration;

use percept_graph::{DType, HostTensor, Trace};
use percept_hal::conformance::Status;
use percept_hal::{Arg, CompileOptions, Result};
use percept_plugin::PluginBackend;

use crate::build::{Built, trial};
use crate::worker::in_workers;

/// Runs x -> x + y of 1031 elements.
fn add(id: &str) -> Result<Vec<f32>> {
    let device = PluginBackend::default().open_device(id)?;
    let n = 1031;
    let t = Trace::new("sum");
    let scope = t.scope("layers.3");
    let (x, y) = (t.data("x", DType::F32, [n]), t.data("y", DType::F32, [n]));
    t.output("z", &(&x + &y));
    drop(scope);
    let executable = device.compile(&t.finish().expect("a graph"), &CompileOptions::default())?;
    let upload = |value: f32| {
        let tensor = HostTensor::from_f32([n], &vec![value; n]).expect("a tensor");
        device.upload(tensor.ty(), tensor.bytes())
    };
    let out = executable.run(vec![Arg::Donate(upload(1.0)?), Arg::Donate(upload(2.0)?)])?;
    let bytes = device.read(&out[0])?;
    Ok(bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
}

fn fault(built: &Built, options: &str) -> String {
    add(&built.id(options)).err().unwrap_or_else(|| panic!("{options} went unnoticed")).to_string()
}

#[test]
fn without_a_fault_the_sum_is_right() {
    let Some(built) = trial(&[]) else { return };
    for options in ["", "?guard=on", "?guard=off&adapter=oplib"] {
        assert_eq!(add(&built.id(options)).unwrap(), vec![3.0; 1031], "{options}");
    }
}

#[test]
fn what_a_plugin_returns_is_held_to_what_can_be() {
    let Some(built) = trial(&[]) else { return };
    for (name, words) in [
        ("open-fails", &["the chip is asleep"][..]),
        ("open-null", &["device_open", "null"]),
        ("info-no-dtypes", &["dtype"]),
        ("info-no-memory", &["largest buffer has 0 bytes"]),
        ("memory-null", &["trial", "memory_new", "null"]),
        ("memory-none", &["trial", "none left", "cannot allocate"]),
        ("address-odd", &["trial", "memory_address", "64"]),
        ("plan-null", &["trial", "add(f32[1031], f32[1031])", "null plan"]),
        ("query-fails", &["trial", "add", "the compiler fell over"]),
        ("workspace-huge", &["trial", "add", "18446744073709551615"]),
        ("pairs-many", &["trial", "1000 pairs"]),
        ("pair-odd", &["trial", "operand 9"]),
        ("lies", &["trial", "1.2", "layers.3", "add", "not on this chip after all"]),
        ("status-odd", &["trial", "status that the interface does not have"]),
        ("unterminated", &["trial", "xxxx"]),
        ("lost", &["trial", "the cable is out", "lost"]),
        ("workspace-past", &["trial", "add", "layers.3", "past the end of its workspace of 100 bytes"]),
        ("result-past", &["trial", "add", "layers.3", "past the end of the memory of result 0"]),
        ("async", &["trial", "past the end of its memory", "guard=on"]),
    ] {
        let error = fault(&built, &format!("?fault={name}"));
        assert!(error.contains("plugin:"), "{name}: {error}");
        for word in words {
            assert!(error.contains(word), "{name}: no '{word}' in {error}");
        }
    }
    assert_eq!(add(&built.id("?fault=info-unterminated")).unwrap()[0], 3.0, "an array without its zero byte");
}

/// Guards name the operation where the host sees no memory, or does not wait, once they are asked for.
#[test]
fn guards_that_cost_something_are_looked_at_when_asked_for() {
    let Some(built) = trial(&[]) else { return };
    for name in ["hidden-past", "async"] {
        let error = fault(&built, &format!("?guard=on&fault={name}"));
        assert!(error.contains("layers.3") && error.contains("add"), "{name}: {error}");
    }
}

#[test]
fn libraries_that_are_no_plugins_and_other_versions_are_refused() {
    for (definitions, words) in [
        (&["-DOTHER_SYMBOL"][..], &["percept_plugin_entry"][..]),
        (&["-DABI=0", "-DOLDEST=0"], &["version 0", "build it again"]),
        (&["-DABI=9", "-DOLDEST=9"], &["version 9", "newer Percept"]),
        (&["-DOLDEST=4"], &["cannot be"]),
        (&["-DSHORT_TABLE"], &["percept_oplib", "launch"]),
        (&["-DREFUSES"], &["no driver is installed"]),
    ] {
        let Some(built) = trial(definitions) else { return };
        let error = fault(&built, "");
        for word in words {
            assert!(error.contains(word), "{definitions:?}: no '{word}' in {error}");
        }
    }
    let Some(newer) = trial(&["-DABI=9", "-DOLDEST=1"]) else { return };
    assert_eq!(add(&newer.id("")).unwrap()[0], 3.0, "a newer plug-in that takes this host works");
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "hello").unwrap();
    let error = add(&format!("plugin:{}", text.display())).err().unwrap().to_string();
    assert!(error.contains("no library"), "{error}");
}

/// The one case of a plug-in that ends or blocks its process: how it went, and what is said of it.
fn deadly(options: &str) -> Option<(Status, String)> {
    let built = trial(&[])?;
    let report = in_workers(&built.id(options), "L1/add/f32/prime/normal", Duration::from_secs(10));
    let report = report.expect("a report");
    assert!(report.to_string().contains("plugin:"), "the report names the device");
    let outcome = report.outcomes.first().expect("one case");
    Some((outcome.status, outcome.note.clone()))
}

#[test]
fn a_crash_an_exit_and_a_hang_are_failures_of_their_case() {
    for (options, status, words) in [
        ("?fault=crash", Status::Crashed, "signal"),
        ("?fault=exit", Status::Crashed, "exit status: 3"),
        ("?fault=double-free", Status::Crashed, "free"),
        ("?fault=hang", Status::Hung, "no answer within 10"),
        ("?fault=wrong", Status::Failed, ""),
    ] {
        let Some((given, note)) = deadly(options) else { return };
        assert_eq!(given, status, "{options}: {note}");
        assert!(note.contains(words), "{options}: {note}");
    }
}
