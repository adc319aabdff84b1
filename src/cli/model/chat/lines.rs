//! Lines from a terminal, edited and with a history, or from a pipe as they come.

use std::io::{BufRead as _, IsTerminal as _};

use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};

use crate::cli::Failure;

/// The most bytes of a line, and of lines that are one message.
const LONGEST: usize = 16 << 20;

/// Where lines come from.
pub enum Lines {
    /// Somebody writes at a terminal.
    Edited(Box<Editor<(), MemHistory>>),
    /// A pipe, a file, or a terminal whose output is not one.
    Plain,
}

impl Lines {
    /// Lines of standard input; edited where `edits` allows it and a person sits at both ends.
    pub fn new(edits: bool) -> Result<Self, Failure> {
        if !edits || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Ok(Self::Plain);
        }
        let config = Config::builder().auto_add_history(true).build();
        let editor =
            Editor::with_history(config.clone(), MemHistory::with_config(&config)).map_err(failure)?;
        Ok(Self::Edited(Box::new(editor)))
    }

    /// Whether somebody edits them.
    pub fn edits(&self) -> bool {
        matches!(self, Self::Edited(_))
    }

    /// The next line, with those that it goes on in after a backslash; nothing at the end.
    pub fn next(&mut self, prompt: &str) -> Result<Option<String>, Failure> {
        'message: loop {
            let mut whole = match self.read(prompt)? {
                Read::Line(line) => line,
                Read::Forgotten => continue,
                Read::End => return Ok(None),
            };
            while whole.ends_with('\\') {
                whole.pop();
                whole.push('\n');
                match self.read("… ")? {
                    Read::Line(more) => whole.push_str(&more),
                    Read::Forgotten => continue 'message,
                    Read::End => break,
                }
                if whole.len() > LONGEST {
                    return Err(too_long());
                }
            }
            return Ok(Some(whole));
        }
    }

    fn read(&mut self, prompt: &str) -> Result<Read, Failure> {
        let Self::Edited(editor) = self else {
            return Ok(plain(&mut std::io::stdin().lock())?.map_or(Read::End, Read::Line));
        };
        loop {
            match editor.readline(prompt) {
                Ok(line) => return Ok(Read::Line(line)),
                // Ctrl-C forgets what was written, as in a shell.
                Err(ReadlineError::Interrupted) => {
                    eprintln!("(Ctrl-D ends)");
                    return Ok(Read::Forgotten);
                }
                Err(ReadlineError::Eof) => return Ok(Read::End),
                // The terminal has another size now.
                Err(ReadlineError::Signal(_)) => {}
                Err(e) => return Err(failure(e)),
            }
        }
    }
}

/// What became of a line.
enum Read {
    Line(String),
    Forgotten,
    End,
}

/// A line of a pipe.
fn plain(input: &mut dyn std::io::BufRead) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::Read::take(input, LONGEST as u64 + 1).read_until(b'\n', &mut bytes);
    read.map_err(|source| Failure::File { path: "standard input".into(), source })?;
    if bytes.len() > LONGEST {
        return Err(too_long());
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    String::from_utf8(bytes).map(Some).map_err(|_| Failure::Content {
        path: "standard input".into(),
        why: "a line is not UTF-8; convert it first".into(),
    })
}

fn too_long() -> Failure {
    let why = format!("a message has more than {} MB; make it shorter", LONGEST >> 20);
    Failure::Content { path: "standard input".into(), why }
}

fn failure(e: ReadlineError) -> Failure {
    let source = match e {
        ReadlineError::Io(source) => source,
        other => std::io::Error::other(other.to_string()),
    };
    Failure::File { path: "the terminal".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_pipe_come_as_they_are() {
        let mut input = &b"one\r\n\ntwo \\\nlast"[..];
        let mut all = Vec::new();
        while let Some(line) = plain(&mut input).unwrap() {
            all.push(line);
        }
        assert_eq!(all, ["one", "", "two \\", "last"]);
        assert!(plain(&mut &b"\xff\n"[..]).unwrap_err().to_string().contains("UTF-8"));
        let endless = std::io::repeat(b'a');
        let error = plain(&mut std::io::BufReader::new(endless)).unwrap_err().to_string();
        assert!(error.contains("16 MB"), "{error}");
    }
}
