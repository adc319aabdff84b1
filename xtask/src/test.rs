//! `cargo xtask test`: setup, format, a build with lints and every test, with one line of summary at the end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Error, Line};
use crate::{assets, deny, setup};

#[path = "../../tests/needs/mod.rs"]
mod needs;

/// Runs every step, even after one has failed, and fails if any did.
pub fn run(root: &Path) -> Result<(), Error> {
    let start = Instant::now();
    let mut failed_steps = Vec::new();
    let mut tests = Tally::default();
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
    step("tests", &mut failed_steps, || count_tests(root, &mut tests));
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
fn environment(command: &mut Command) {
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
fn with_lints(command: &mut Command) {
    environment(command);
    command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    // The driver's own form of `-D warnings`: arguments end with this word.
    command.env("CLIPPY_ARGS", ["-D", "warnings", ""].join("__CLIPPY_HACKERY__"));
}

/// Runs the workspace's tests, and those of its documentation. What examples do is tested through the tests that
/// include them.
fn count_tests(root: &Path, tally: &mut Tally) -> Result<(), Error> {
    let outcomes = ["--tests", "--doc"].map(|kind| {
        let line = Line::of("cargo test --workspace --locked --no-fail-fast");
        count(Line([line.0, vec![kind.to_owned()]].concat()), root, tally)
    });
    outcomes.into_iter().collect()
}

/// Runs a line that runs tests, printing their output as it comes.
fn count(line: Line, root: &Path, tally: &mut Tally) -> Result<(), Error> {
    let failed_before = tally.failed;
    println!("$ {line}");
    let mut command = line.command(root);
    with_lints(&mut command);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|source| line.cannot_start(source))?;
    if let Some(output) = child.stdout.take() {
        for text in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&text);
            println!("{text}");
            tally.add(&text);
        }
    }
    let status = child.wait().map_err(|source| line.cannot_start(source))?;
    if status.success() && tally.failed == failed_before {
        return Ok(());
    }
    // A binary that died or did not build prints no result line; it is a failure all the same.
    tally.failed = tally.failed.max(failed_before + 1);
    Err(Error::Failed { line: line.to_string(), status })
}

/// Tests passed and failed, summed over test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds the counts of a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let count = words.next().and_then(|word| word.parse::<u64>().ok());
            match (count, words.next()) {
                (Some(count), Some("passed")) => self.passed += count,
                (Some(count), Some("failed")) => self.failed += count,
                _ => {}
            }
        }
    }
}

fn seconds(time: Duration) -> String {
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
    fn result_lines_are_summed_and_other_lines_are_not() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
            "note: 5 passed; 5 failed",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 13, failed: 2 });
    }

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
