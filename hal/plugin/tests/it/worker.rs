//! The ladder in a process of its own, for plug-ins that end theirs.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use percept_hal::conformance::{Options, ReferenceDevice, Report, RunError, Runner, Subject, run, serve};
use percept_plugin::PluginBackend;

/// Names the device in the process that runs cases.
const DEVICE: &str = "PERCEPT_TEST_PLUGIN";

/// A device beside the reference, which runs what the plug-in lacks.
pub fn subject(id: &str) -> percept_hal::Result<Subject> {
    let mut subject = Subject::new(PluginBackend::default().open_device(id)?);
    subject.host = Some(Arc::new(ReferenceDevice::new()));
    subject.soak_runs = 100;
    Ok(subject)
}

/// Cases of a device whose ids contain `filter`, run in child processes.
pub fn in_workers(id: &str, filter: &str, timeout: Duration) -> Result<Report, RunError> {
    let exe = std::env::current_exe().expect("the test's own program");
    let command = || {
        let mut command = Command::new(&exe);
        command.args(["worker::worker", "--exact", "--nocapture"]).env(DEVICE, id);
        command
    };
    let options = Options { filter: Some(filter.into()), timeout, ..Options::default() };
    run(id, &Runner::Workers(&command), &options, &mut |_, _, _| {})
}

/// In a child process this test is the worker; otherwise there is nothing for it to do.
#[test]
fn worker() {
    let Ok(id) = std::env::var(DEVICE) else { return };
    match subject(&id) {
        Ok(subject) => {
            serve(&subject, Vec::new(), std::io::stdin().lock(), std::io::stdout().lock()).expect("pipes")
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}
