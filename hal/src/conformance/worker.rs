//! Running cases in a child process, so that a vendor library that crashes or hangs costs one case and not
//! the run.
//!
//! The child is this program in worker mode. It prints `percept-ready` when its device is open, reads case
//! ids from its standard input, one a line, and answers each with a line `percept-case` and the [`Outcome`]
//! as JSON. Whatever else a library prints is passed over.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::case::{Case, Outcome, Status, Subject};
use super::cases::all;

const READY: &str = "percept-ready";
const CASE: &str = "percept-case ";

/// Lines of the child's standard error that are kept to explain its death.
const KEPT_LINES: usize = 5;

/// Bytes of a line; the rest of a longer one is the next line.
const LINE_BYTES: u64 = 1 << 20;

/// How long the rest of the standard error of a child that has ended is waited for.
const STDERR_PATIENCE: Duration = Duration::from_secs(2);

/// Answer case ids from `input` until it ends: what a program in worker mode does after opening the device. `more` are cases
/// of its own.
///
/// # Errors
/// When the parent is gone, or asks for a case that this version does not have.
pub fn serve(
    subject: &Subject,
    more: Vec<Case>,
    input: impl BufRead,
    mut output: impl Write,
) -> io::Result<()> {
    let cases: Vec<Case> = all().into_iter().chain(more).collect();
    let by_id: HashMap<&str, &Case> = cases.iter().map(|c| (c.id.as_str(), c)).collect();
    writeln!(output, "\n{READY}")?;
    output.flush()?;
    for line in input.lines() {
        let line = line?;
        let case = by_id.get(line.trim()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no case '{}'; both ends must be of one version", line.trim()),
            )
        })?;
        let outcome = serde_json::to_string(&case.run(subject))?;
        // A library may have left an unfinished line.
        writeln!(output, "\n{CASE}{outcome}")?;
        output.flush()?;
    }
    Ok(())
}

/// A child in worker mode.
pub(super) struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    /// Nothing is sent; it is disconnected when the child's standard error was read to its end.
    stderr_ended: Receiver<()>,
}

impl Worker {
    /// Start a child and wait until its device is open.
    pub(super) fn start(mut command: Command, patience: Duration) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("the worker does not start: {e}"))?;
        let (Some(input), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("the worker has no pipes".into());
        };
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in Lines(BufReader::new(stdout)) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let last_lines: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let lines_of_thread = last_lines.clone();
        let (stderr_open, stderr_ended) = channel();
        thread::spawn(move || {
            for line in Lines(BufReader::new(stderr)) {
                let mut kept = lines_of_thread.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(line);
                if kept.len() > KEPT_LINES {
                    kept.pop_front();
                }
            }
            drop(stderr_open);
        });
        let mut worker = Self { child, input, lines, last_lines, stderr_ended };
        match worker.answer(READY, patience) {
            Ok(_) => Ok(worker),
            Err(RecvTimeoutError::Timeout) => {
                worker.kill();
                Err(format!("the device does not open within {} s", patience.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("the worker ended before its device was open: {}", worker.how_it_ended()))
            }
        }
    }

    /// Run a case. When the child process ends or takes too long the worker is closed and only the outcome is
    /// left.
    pub(super) fn run(mut self, case: &Case, timeout: Duration) -> (Outcome, Option<Self>) {
        // When the child is dead already, the missing answer says so.
        let _ = writeln!(self.input, "{}", case.id).and_then(|()| self.input.flush());
        match self.answer(CASE, timeout) {
            Ok(json) => match serde_json::from_str(&json) {
                Ok(outcome) => (outcome, Some(self)),
                Err(e) => {
                    self.kill();
                    (
                        Outcome::of(
                            case,
                            Status::Failed,
                            format!("the worker's answer is not an outcome: {e}"),
                        ),
                        None,
                    )
                }
            },
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                let note = format!("no answer within {:.1} s", timeout.as_secs_f64());
                (Outcome::of(case, Status::Hung, note), None)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let note = format!("the process died: {}", self.how_it_ended());
                (Outcome::of(case, Status::Crashed, note), None)
            }
        }
    }

    /// The rest of the next line that starts with `prefix`.
    fn answer(&self, prefix: &str, patience: Duration) -> Result<String, RecvTimeoutError> {
        let start = std::time::Instant::now();
        loop {
            let line = self.lines.recv_timeout(patience.saturating_sub(start.elapsed()))?;
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok(rest.to_string());
            }
        }
    }

    fn kill(&mut self) {
        // An error means that it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How the child ended, and the last lines of its standard error.
    fn how_it_ended(&mut self) -> String {
        let status = self.child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
        // Its own child may hold the pipe open for longer.
        let _ = self.stderr_ended.recv_timeout(STDERR_PATIENCE);
        let lines = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(status, |text, line| format!("{text}; {line}"))
    }
}

/// The lines of what a child prints, until it ends. Vendor libraries print in the encoding of their country: what is not UTF-8
/// is replaced, and ends nothing.
struct Lines<R>(R);

impl<R: BufRead> Iterator for Lines<R> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        // A pipe that cannot be read is one that has ended.
        let read = (&mut self.0).take(LINE_BYTES).read_until(b'\n', &mut line).ok()?;
        (read > 0).then(|| String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_library_prints_in_another_encoding_ends_nothing() {
        // "Device" in GBK, on both pipes, and a line without an end before the answer.
        let script = r"printf '\311\350\261\270\n'; printf '\311\350\261\270 lost\n' >&2; printf '\npercept-ready\n'; read x; exit 3";
        let mut worker = Worker::start(shell(script), Duration::from_secs(60)).unwrap();
        worker.input.write_all(b"a case\n").unwrap();
        assert!(worker.answer(CASE, Duration::from_secs(60)).is_err());
        let end = worker.how_it_ended();
        assert!(end.contains("3; \u{fffd}") && end.ends_with(" lost"), "{end}");
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory() {
        let long = io::repeat(b'a').take(3 * LINE_BYTES + 5);
        let lengths: Vec<_> = Lines(BufReader::new(long)).map(|line| line.len()).collect();
        let part = LINE_BYTES as usize;
        assert_eq!(lengths, [part, part, part, 5]);
    }
}
