//! Running cases in a child process, so that a vendor library that crashes or hangs costs one case and not
//! the run.
//!
//! The child is this program in worker mode. It prints `percept-ready` when its device is open, reads case
//! ids from its standard input, one a line, and answers each with a line `percept-case` and the [`Outcome`]
//! as JSON. Whatever else a library prints is passed over.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Write};
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
    last_words: Arc<Mutex<VecDeque<String>>>,
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
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let last_words: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let words = last_words.clone();
        let (stderr_open, stderr_ended) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = words.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(line);
                if kept.len() > KEPT_LINES {
                    kept.pop_front();
                }
            }
            drop(stderr_open);
        });
        let mut worker = Self { child, input, lines, last_words, stderr_ended };
        match worker.answer(READY, patience) {
            Ok(_) => Ok(worker),
            Err(RecvTimeoutError::Timeout) => {
                worker.kill();
                Err(format!("the device does not open within {} s", patience.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("the worker ended before its device was open: {}", worker.epitaph()))
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
                let note = format!("the process died: {}", self.epitaph());
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

    /// How the child ended and what it said last.
    fn epitaph(&mut self) -> String {
        let status = self.child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
        // Its own child may hold the pipe open for longer.
        let _ = self.stderr_ended.recv_timeout(STDERR_PATIENCE);
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().fold(status, |text, line| format!("{text}; {line}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
