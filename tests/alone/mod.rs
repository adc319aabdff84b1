//! Tests that measure the memory of their process run in one of their own: what other tests take would be counted too.
//! Test programs include this file by its path.

use std::io::Write as _;
use std::process::Command;

/// Set in the process that runs one test.
const ALONE: &str = "PERCEPT_TEST_ALONE";

/// Runs `body`, which is the whole of the calling test, where no other test runs beside it: this program is started
/// again with that test alone.
///
/// # Panics
/// When the test fails there.
pub fn alone(body: impl FnOnce()) {
    let thread = std::thread::current();
    // With one thread, tests run one after another on the main one.
    let test = thread.name().filter(|name| *name != "main");
    let Some(test) = test.filter(|_| std::env::var_os(ALONE).is_none()) else { return body() };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(ALONE, "1");
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    // What it has to say about skipped tests is for whoever runs this one.
    std::io::stderr().write_all(&output.stderr).unwrap();
    assert!(output.status.success() && told.contains("1 passed"), "{test} failed in a process of its own");
}
