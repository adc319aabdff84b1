//! Running other programs: printed before they start, with errors that name them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Why a chore failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started.
    #[error("cannot start `{line}`: {source}; is it installed and on the PATH?")]
    Start { line: String, source: std::io::Error },
    /// The program ran and failed.
    #[error("`{line}` failed with {status}")]
    Failed { line: String, status: ExitStatus },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The system lacks something that no known package manager can install.
    #[error("{0}")]
    Missing(String),
    /// A program answered with something other than what was agreed.
    #[error("`{line}` answered {answer}: {why}")]
    Answer { line: String, answer: String, why: String },
    /// A file is not what it should be.
    #[error("{}: {why}", path.display())]
    Content { path: PathBuf, why: String },
    /// The failure has been printed already.
    #[error("see above")]
    Reported,
}

impl Error {
    /// The error of a file that could not be read or written.
    pub fn file(path: &Path, source: std::io::Error) -> Error {
        Error::File { path: path.to_path_buf(), source }
    }
}

/// A program with its arguments, printable as one would type it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(pub Vec<String>);

impl Line {
    /// Splits at spaces; for command lines whose words hold none.
    pub fn of(text: &str) -> Line {
        Line(text.split_whitespace().map(str::to_owned).collect())
    }

    /// The standard library's command for this line, run in `folder`.
    pub fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(self.0.first().map_or("", String::as_str));
        command.args(self.0.iter().skip(1)).current_dir(folder);
        command
    }

    /// Prints the line, runs it in `folder` with `prepare` applied and waits for it.
    pub fn run(&self, folder: &Path, prepare: impl FnOnce(&mut Command)) -> Result<(), Error> {
        println!("$ {self}");
        let mut command = self.command(folder);
        prepare(&mut command);
        let status = command.status().map_err(|source| self.cannot_start(source))?;
        if status.success() { Ok(()) } else { Err(Error::Failed { line: self.to_string(), status }) }
    }

    /// The error of a program that did not start.
    pub fn cannot_start(&self, source: std::io::Error) -> Error {
        Error::Start { line: self.to_string(), source }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}
