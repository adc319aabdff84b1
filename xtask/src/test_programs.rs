//! Runs the programs that `cargo test` builds, and the tests of documentation, several at a time. Cargo runs them one
//! after the other, and many of them keep one core busy.

use std::cmp::Reverse;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::command::{Error, Line};
use crate::test::{environment, seconds, with_lints};

/// The most programs that run at a time, however many cores there are: each of them starts threads of its own.
const MOST_AT_A_TIME: usize = 4;

/// Builds the workspace's test programs, runs them and the tests of its documentation, and adds their results to
/// `tally`. Cargo reports examples as built only where they have tests; what the others do is tested by the tests that
/// include them.
pub fn run(root: &Path, tally: &mut Tally) -> Result<(), Error> {
    let mut programs = test_programs(root)?;
    // A large program holds many tests: begun first, it does not run alone at the end.
    programs
        .sort_by_key(|program| Reverse(std::fs::metadata(&program.line.0[0]).map_or(0, |file| file.len())));
    let documentation = Line::of("cargo test --workspace --locked --no-fail-fast --doc");
    programs.insert(0, Program { line: documentation, folder: root.to_path_buf() });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    run_all(programs, cores.min(MOST_AT_A_TIME), tally)
}

/// A command line that runs tests, and the folder that it runs in.
struct Program {
    line: Line,
    folder: PathBuf,
}

/// Has cargo build the workspace's tests and name the programs.
fn test_programs(root: &Path) -> Result<Vec<Program>, Error> {
    let line =
        Line::of("cargo test --workspace --locked --tests --no-run --message-format=json-render-diagnostics");
    println!("$ {line}");
    let mut command = line.command(root);
    with_lints(&mut command);
    let output = command.stderr(Stdio::inherit()).output().map_err(|source| line.cannot_start(source))?;
    if !output.status.success() {
        return Err(Error::Failed { line: line.to_string(), status: output.status });
    }
    let programs: Vec<Program> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(test_program).collect();
    if programs.is_empty() {
        let why = "no program with tests is named".to_owned();
        return Err(Error::Answer { line: line.to_string(), answer: "what it built".to_owned(), why });
    }
    Ok(programs)
}

/// The program that one of cargo's messages names, if the message is of a program with tests. As under cargo, it runs
/// in the folder of its package.
fn test_program(message: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let executable = message["executable"].as_str()?.to_owned();
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    Some(Program { line: Line(vec![executable]), folder })
}

/// Runs all programs, `at_a_time` of them at once, and prints what each has printed when it ends.
fn run_all(programs: Vec<Program>, at_a_time: usize, tally: &mut Tally) -> Result<(), Error> {
    let total = programs.len();
    let waiting = Mutex::new(programs.into_iter().enumerate());
    let results = Mutex::new((Tally::default(), 0));
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, program)) = next else { break };
            println!("$ {} ({} of {total}, begun)", program.line, index + 1);
            let start = Instant::now();
            let mut command = program.line.command(&program.folder);
            // The tests of documentation are compiled, and what they import was built with these settings.
            if program.line.0[0] == "cargo" {
                with_lints(&mut command)
            } else {
                environment(&mut command)
            }
            let (text, success) = match command.output() {
                Ok(output) => ([output.stdout, output.stderr].concat(), output.status.success()),
                Err(source) => (format!("{}\n", program.line.cannot_start(source)).into_bytes(), false),
            };
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            // Standard output that is closed leaves nobody to tell.
            let _ = std::io::stdout().write_all(&text);
            let counted = Tally::of(&String::from_utf8_lossy(&text), success);
            let verdict = if counted.failed == 0 { "ok" } else { "FAILED" };
            println!("$ {}: {verdict} in {}\n", program.line, seconds(start.elapsed()));
            results.0.passed += counted.passed;
            results.0.failed += counted.failed;
            results.1 += usize::from(counted.failed > 0);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(work);
        }
    });
    let (counted, failed_programs) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.passed += counted.passed;
    tally.failed += counted.failed;
    if failed_programs == 0 {
        return Ok(());
    }
    println!("{failed_programs} of {total} programs failed");
    Err(Error::Reported)
}

/// Tests passed and failed, summed over programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
}

impl Tally {
    /// What a program counted in what it printed. A program that died or did not build prints no result; it counts as
    /// one failure.
    fn of(text: &str, success: bool) -> Tally {
        let mut tally = Tally::default();
        for line in text.lines() {
            tally.add(line);
        }
        if !success {
            tally.failed = tally.failed.max(1);
        }
        tally
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_other_lines_are_not() {
        let text = "running 4 tests\n\
            test a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s\n\
            note: 5 passed; 5 failed\n";
        assert_eq!(Tally::of(text, false), Tally { passed: 13, failed: 2 });
        assert_eq!(Tally::of("running 4 tests\n", false), Tally { passed: 0, failed: 1 });
    }

    #[test]
    fn programs_with_tests_are_those_that_cargo_names() {
        let of = |target: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/p/hal/Cargo.toml","target":{{"name":"{target}"}},
                "profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let program = test_program(&of("ladder", true, "\"/t/ladder-1f\"")).unwrap();
        assert_eq!(
            (program.line.0, program.folder),
            (vec!["/t/ladder-1f".to_owned()], PathBuf::from("/p/hal"))
        );
        assert!(test_program(&of("percept", false, "\"/t/percept\"")).is_none(), "a program without tests");
        assert!(test_program(&of("hal", false, "null")).is_none(), "a library");
        assert!(test_program(r#"{"reason":"build-finished","success":true}"#).is_none());
    }

    #[test]
    #[cfg(unix)]
    fn every_program_runs_and_one_that_dies_fails_the_step() {
        let folder = tempfile::tempdir().unwrap();
        let shell = |script: &str| Program {
            line: Line(["sh", "-c", script].map(str::to_owned).to_vec()),
            folder: folder.path().to_path_buf(),
        };
        let passes = |name: &str| shell(&format!("touch {name}; echo 'test result: ok. 2 passed; 0 failed'"));
        let mut tally = Tally::default();
        run_all(vec![passes("a"), passes("b"), passes("c")], 2, &mut tally).unwrap();
        assert_eq!(tally, Tally { passed: 6, failed: 0 });
        assert!(["a", "b", "c"].iter().all(|name| folder.path().join(name).is_file()));

        let absent = Program { line: Line::of("./absent"), folder: folder.path().to_path_buf() };
        let outcome = run_all(vec![passes("d"), shell("kill -9 $$"), absent], 2, &mut tally);
        assert!(matches!(outcome, Err(Error::Reported)));
        assert_eq!(tally, Tally { passed: 8, failed: 2 });
    }
}
