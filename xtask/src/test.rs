//! `cargo xtask test`: setup, format, a build with lints and every test, with one line of summary at the end.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::command::{Error, Line};
use crate::{assets, deny, setup, test_programs};

#[path = "../../tests/needs/mod.rs"]
mod needs;

/// Runs every step, even after one has failed, and fails if any did.
pub fn run(root: &Path) -> Result<(), Error> {
    let start = Instant::now();
    let mut failed_steps = Vec::new();
    let mut tests = test_programs::Tally::default();
    step("setup", &mut failed_steps, || setup::run(false));
    step("assets", &mut failed_steps, assets::run);
    step("dependencies", &mut failed_steps, || {
        assets::folder().and_then(|tools| deny::run(root, &tools, false))
    });
    step("format", &mut failed_steps, || Line::of("cargo fmt --all -- --check").run(root, environment));
    step("build and lints", &mut failed_steps, || {
        // Without a choice of targets examples are built as they are, for the test that loads one; benches come after.
        ["", " --benches"].iter().try_for_each(|targets| {
            Line::of(&format!("cargo test --workspace --locked --no-run{targets}")).run(root, with_lints)
        })
    });
    step("tests", &mut failed_steps, || test_programs::run(root, &mut tests));
    if !failed_steps.is_empty() {
        println!("\nfailed: {}", failed_steps.join(", "));
    }
    println!("\nall steps took {}", seconds(start.elapsed()));
    println!("{} passed, {} failed", tests.passed, tests.failed);
    if failed_steps.is_empty() { Ok(()) } else { Err(Error::Reported) }
}

/// Runs one step between a heading and its time.
fn step(name: &'static str, failed: &mut Vec<&'static str>, body: impl FnOnce() -> Result<(), Error>) {
    println!("\n== {name}");
    let start = Instant::now();
    let outcome = body();
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    if let Err(error) = outcome {
        println!("{error}");
        failed.push(name);
    }
    println!("== {name}: {verdict} in {}", seconds(start.elapsed()));
}

/// What every step's commands run under: lavapipe where it exists, the weights' folder, nothing skipped, no
/// incremental builds in CI.
pub fn environment(command: &mut Command) {
    command.env(needs::REQUIRE_ALL, "1");
    setup::pin_lavapipe(command);
    if let Ok(folder) = assets::folder() {
        command.env("PERCEPT_ASSETS", folder);
    }
    if std::env::var_os("CI").is_some() {
        command.env("CARGO_INCREMENTAL", "0");
    }
}

/// Compiles the workspace with Clippy's compiler, warnings as errors, as `cargo clippy -- -D warnings` does. That
/// command only checks, and builds every dependency a second time to do so; here what is linted is what the tests run.
pub fn with_lints(command: &mut Command) {
    environment(command);
    command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    // The driver's own form of `-D warnings`: arguments end with this word.
    command.env("CLIPPY_ARGS", ["-D", "warnings", ""].join("__CLIPPY_HACKERY__"));
}

/// A time as one reads it: `1.5 s`, `2 min 5 s`.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if whole < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_recorded_and_a_good_one_is_not() {
        let mut failed = Vec::new();
        step("good", &mut failed, || Ok(()));
        step("bad", &mut failed, || Err(Error::Missing("a thing".into())));
        assert_eq!(failed, ["bad"]);
    }

    /// What the test below starts as a program of its own: a test that lacks something.
    #[test]
    #[ignore = "is started by the test below"]
    fn lacks_a_rocket() {
        needs::skip("there is no rocket: build one");
    }

    #[test]
    fn what_a_test_lacks_fails_it_under_xtask_and_is_named_elsewhere() {
        let run = |prepare: fn(&mut Command)| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["test::tests::lacks_a_rocket", "--exact", "--ignored"]);
            command.env_remove(needs::REQUIRE_ALL);
            prepare(&mut command);
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
            (output.status.success(), text)
        };
        let (passed, [told, named]) = run(environment);
        assert!(!passed && told.contains("there is no rocket: build one"), "{told}");
        assert_eq!(named, "", "a test that failed was not skipped");

        let (passed, [told, named]) = run(|_| {});
        assert!(passed && told.contains("1 passed"), "{told}");
        let expected =
            "SKIPPED, NOT TESTED (1):\n    test::tests::lacks_a_rocket: there is no rocket: build one\n\n";
        assert_eq!(named, expected);
    }

    #[test]
    fn what_clippy_warns_of_does_not_build() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "Cargo.toml",
            "[package]\nname = 'linted'\nedition = '2024'\n[lib]\npath = 'lib.rs'\n[workspace]\n",
        );
        let build = || {
            let mut command = Line::of("cargo build --offline").command(folder.path());
            with_lints(&mut command);
            let output = command.env("CARGO_TARGET_DIR", folder.path().join("target")).output().unwrap();
            (output.status.success(), String::from_utf8(output.stderr).unwrap())
        };
        write("lib.rs", "pub fn twice(x: i32) -> i32 {\n    2 * x\n}\n");
        let (built, told) = build();
        assert!(built, "{told}");
        write("lib.rs", "pub fn twice(x: i32) -> i32 {\n    2 * x.clone()\n}\n");
        let (built, told) = build();
        assert!(!built && told.contains("clone_on_copy"), "{told}");
    }

    #[test]
    fn times_read_as_seconds_then_minutes() {
        assert_eq!(seconds(Duration::from_millis(1540)), "1.5 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
