//! Running the public commands, each printed as a user would type it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::cli::Failure;
use crate::cli::failure::write_file;

/// An entry of the log, for the report.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A heading.
    Heading(String),
    /// A command and the seconds that it took.
    Ran(String, f64),
    /// A file that was written.
    Wrote(PathBuf),
}

/// Runs this very program.
pub struct Shell {
    program: PathBuf,
    device: String,
    log: Vec<Entry>,
    /// Whether standard output is kept for one JSON document.
    quiet: bool,
}

impl Shell {
    /// A shell whose commands run models on `device`.
    ///
    /// # Errors
    /// When there is no such device, or the program does not know its own file.
    pub fn new(device: &str, quiet: bool) -> Result<Self, Failure> {
        let program =
            std::env::current_exe().map_err(|source| Failure::File { path: "percept".into(), source })?;
        let device = percept::registry().open(device)?.info().id.clone();
        Ok(Self { program, device, log: Vec::new(), quiet })
    }

    /// The device's id.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The log so far.
    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// Print a line where this shell prints.
    pub fn tell(&self, line: &str) {
        match self.quiet {
            true => eprintln!("{line}"),
            false => println!("{line}"),
        }
    }

    /// Print a heading.
    pub fn heading(&mut self, text: &str) {
        self.tell(&format!("\n{text}"));
        self.log.push(Entry::Heading(text.to_string()));
    }

    /// Write a file and print its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| Failure::File { path: folder.to_path_buf(), source })?;
        }
        write_file(path, text.as_bytes())?;
        self.tell(&format!("wrote {}", path.display()));
        self.log.push(Entry::Wrote(path.to_path_buf()));
        Ok(())
    }

    /// Run a command whose output goes to the terminal.
    ///
    /// # Errors
    /// When it fails; it has printed the reason.
    pub fn run(&mut self, words: &[String]) -> Result<(), Failure> {
        let out = if self.quiet { Stdio::from(std::io::stderr()) } else { Stdio::inherit() };
        self.start(words, out).map(|_| ())
    }

    /// Run a command and give what it prints on standard output.
    ///
    /// # Errors
    /// As [`Shell::run`].
    pub fn output(&mut self, words: &[String]) -> Result<String, Failure> {
        let bytes = self.start(words, Stdio::piped())?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_string())
    }

    fn start(&mut self, words: &[String], out: Stdio) -> Result<Vec<u8>, Failure> {
        let words = self.with_device(words);
        let line = format!("percept {}", words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "));
        self.tell(&format!("$ {line}"));
        let began = Instant::now();
        let failed = |source| Failure::File { path: self.program.clone(), source };
        let child = Command::new(&self.program).args(&words).stdout(out).spawn().map_err(failed)?;
        let done = child.wait_with_output().map_err(failed)?;
        if !done.status.success() {
            return Err(Failure::Negative(format!(
                "`{line}` failed with {}; the reason is printed above",
                done.status
            )));
        }
        self.log.push(Entry::Ran(line, began.elapsed().as_secs_f64()));
        Ok(done.stdout)
    }

    /// Commands that run a model get the device.
    fn with_device(&self, words: &[String]) -> Vec<String> {
        let mut words = words.to_vec();
        if words.first().is_some_and(|w| ["train", "eval", "generate"].contains(&&w[..])) {
            words.extend(["--device".into(), self.device.clone()]);
        }
        words
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("a/b.toml"), "a/b.toml");
        assert_eq!(quoted("What is it?"), "'What is it?'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
