//! The journal of a run: one line for each answer, written whole, so that a run that was killed goes on where it was.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::scoring::Answer;

/// What is kept of a question and its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The number of the question.
    pub doc_id: usize,
    /// What became of it.
    pub answer: Answer,
    /// What the model was given.
    pub given: Given,
}

/// What the model was given, and what it took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// The prompt as the chat template wrote it.
    pub prompt: String,
    /// Tokens of the prompt, those that stand for media among them.
    pub prompt_tokens: usize,
    /// SHA-256 of the tokens' ids.
    pub tokens_sha256: String,
    /// The media: kinds, grids, times and hashes of the numbers that the model read.
    pub media: Value,
    /// Tokens of the answer.
    pub tokens: Vec<i32>,
    /// Whether the answer was as long as allowed.
    pub cut: bool,
    /// The logarithm of each option's likelihood, where options were compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub likelihoods: Vec<f64>,
}

/// The journal of one task, open for more.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// What it held when it was opened.
    pub lines: BTreeMap<usize, Line>,
}

impl Journal {
    /// Open the journal of a run, or begin one. Its first line says what run it is of. What a killed run wrote of its last line is cut off.
    ///
    /// # Errors
    /// When it is of another run: what differs is named. When it cannot be read or written.
    pub fn open(path: &Path, manifest: &Value) -> Result<Self> {
        let fault = |e: std::io::Error| Error::Task(format!("{}: {e}", path.display()));
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(fault)?;
        let Kept { lines, whole } = Kept::read(path, &file, manifest)?;
        file.set_len(whole).map_err(fault)?;
        file.seek(SeekFrom::End(0)).map_err(fault)?;
        let mut journal = Self { path: path.to_path_buf(), file, lines };
        if whole == 0 {
            journal.write(manifest)?;
        }
        Ok(journal)
    }

    /// The answers of a journal that another run may be writing. Nothing of it is changed.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn lines(path: &Path, manifest: &Value) -> Result<BTreeMap<usize, Line>> {
        let file = File::open(path).map_err(|e| Error::Task(format!("{}: {e}", path.display())))?;
        Ok(Kept::read(path, &file, manifest)?.lines)
    }

    /// Add an answer.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, line: &Line) -> Result<()> {
        self.write(line)
    }

    fn write(&mut self, value: &impl Serialize) -> Result<()> {
        let fault = |e: String| Error::Task(format!("{}: {e}", self.path.display()));
        let mut bytes = serde_json::to_vec(value).map_err(|e| fault(e.to_string()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(|e| fault(e.to_string()))
    }
}

/// What a journal holds, and how many bytes of it are whole lines.
struct Kept {
    lines: BTreeMap<usize, Line>,
    whole: u64,
}

impl Kept {
    fn read(path: &Path, file: &File, manifest: &Value) -> Result<Self> {
        let fault = |e: std::io::Error| Error::Task(format!("{}: {e}", path.display()));
        let mut reader = BufReader::new(file);
        let (mut lines, mut whole, mut first) = (BTreeMap::new(), 0, true);
        loop {
            let mut line = Vec::new();
            let read = reader.read_until(b'\n', &mut line).map_err(fault)?;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            if first {
                let known: Value = serde_json::from_slice(&line).map_err(|e| {
                    Error::Task(format!(
                        "{}: its first line is no manifest ({e}); remove the file to begin anew",
                        path.display()
                    ))
                })?;
                if let Some(key) = differs(&known, manifest) {
                    return Err(Error::Task(format!(
                        "{}: it is of another run: '{key}' differs ({} there, {} here); give another --out, or remove the file",
                        path.display(),
                        known.get(&key).unwrap_or(&Value::Null),
                        manifest.get(&key).unwrap_or(&Value::Null),
                    )));
                }
                first = false;
            } else {
                let Ok(line) = serde_json::from_slice::<Line>(&line) else { break };
                lines.insert(line.doc_id, line);
            }
            whole += read as u64;
        }
        Ok(Self { lines, whole })
    }
}

/// The first key whose values differ.
fn differs(a: &Value, b: &Value) -> Option<String> {
    let keys =
        |value: &Value| value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut all = [keys(a), keys(b)].concat();
    all.sort();
    all.into_iter().find(|key| a.get(key) != b.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(doc_id: usize) -> Line {
        Line { doc_id, answer: Answer { said: "A".into(), ..Answer::default() }, given: Given::default() }
    }

    #[test]
    fn a_line_that_was_cut_off_is_written_again_and_another_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.journal.jsonl");
        let run = json!({"task": "a", "seed": 0});
        let mut journal = Journal::open(&path, &run).unwrap();
        (0..3).for_each(|at| journal.add(&line(at)).unwrap());
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        // Killed at any byte of the file.
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path, &run).unwrap();
            let ends = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(journal.lines.len(), ends.saturating_sub(1), "cut at {cut}");
            (journal.lines.len()..3).for_each(|at| journal.add(&line(at)).unwrap());
            drop(journal);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
        let refused = Journal::open(&path, &json!({"task": "a", "seed": 1})).err().unwrap().to_string();
        assert!(refused.contains("'seed' differs (0 there, 1 here)"), "{refused}");
    }
}
