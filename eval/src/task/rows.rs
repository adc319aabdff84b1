//! The rows of a task's data as they come, and those of a table beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::row::{FileRows, Row};
use super::{FileHash, Task, file_hash};
use crate::error::{Error, Result};
use crate::metric::python;

impl Task {
    /// Its questions, numbered as the rows of its files are.
    ///
    /// # Errors
    /// When a file cannot be read, or lacks a column that the task names, with those present.
    pub fn questions(&self, folder: &Path) -> Result<Rows<'_>> {
        let mut files = self.files(folder)?;
        let mut hashes = files.iter().map(|path| file_hash(path)).collect::<Result<Vec<_>>>()?;
        files.reverse();
        let (joined, beside) = self.joined(folder)?;
        hashes.extend(beside);
        for name in [&self.ask.classes, &self.ask.templates].into_iter().flatten() {
            hashes.push(file_hash(&folder.join(name))?);
        }
        Ok(Rows {
            task: self,
            folder: folder.to_path_buf(),
            files,
            hashes,
            rows: None,
            file: String::new(),
            number: 0,
            pending: Vec::new(),
            joined: Arc::new(joined),
        })
    }

    /// The rows of the table beside the questions, by their names.
    fn joined(&self, folder: &Path) -> Result<(BTreeMap<String, Row>, Vec<FileHash>)> {
        let (mut rows, mut hashes) = (BTreeMap::new(), Vec::new());
        let Some(join) = &self.data.join else { return Ok((rows, hashes)) };
        for path in self.fitting(&join.files, folder)? {
            hashes.push(file_hash(&path)?);
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for row in FileRows::open(&path, folder)? {
                let row = row.map_err(|why| Error::Task(format!("{}: {file}: {why}", self.name)))?;
                let Some(name) = row.values().get(&join.key).map(python::shown) else {
                    let present = row.names().join(", ");
                    return Err(Error::Column {
                        task: self.name.clone(),
                        file,
                        column: join.key.clone(),
                        present,
                    });
                };
                rows.insert(name, row);
            }
        }
        Ok((rows, hashes))
    }

    /// Whether a row is asked.
    fn is_asked(&self, row: &Row) -> bool {
        if self.data.only.is_empty() {
            return true;
        }
        let values = row.values();
        self.data.only.iter().all(|(column, must)| {
            // A column that is missing is named when the question is made.
            values.get(column).is_none_or(|value| python::shown(value) == *must)
        })
    }
}

/// The rows of a task's data, one after the other: memory is taken for one table's batch at a time.
pub struct Rows<'t> {
    task: &'t Task,
    folder: PathBuf,
    /// Files that are not open yet, the next one last.
    files: Vec<PathBuf>,
    hashes: Vec<FileHash>,
    rows: Option<FileRows>,
    file: String,
    number: usize,
    /// Questions that a row gave beside its first.
    pending: Vec<Raw>,
    joined: Arc<BTreeMap<String, Row>>,
}

/// A row that a question is made of, on any thread.
pub struct Raw {
    /// The number of the question.
    pub id: usize,
    pub(super) row: Arc<std::result::Result<Row, String>>,
    /// Which of several answers of the row it is.
    pub(super) at: Option<usize>,
    pub(super) file: String,
    joined: Arc<BTreeMap<String, Row>>,
}

impl Raw {
    /// The row of the table beside the questions that has this name.
    pub(super) fn beside(&self, name: &str) -> Option<&Row> {
        self.joined.get(name)
    }
}

impl Rows<'_> {
    /// What the data are.
    pub fn hashes(&self) -> &[FileHash] {
        &self.hashes
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Raw>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(raw) = self.pending.pop() {
            return Some(Ok(raw));
        }
        loop {
            if let Some(rows) = &mut self.rows {
                if let Some(row) = rows.next() {
                    if row.as_ref().is_ok_and(|row| !self.task.is_asked(row)) {
                        continue;
                    }
                    let several = match (&self.task.data.explode, &row) {
                        (Some(column), Ok(row)) => {
                            row.values().get(column).and_then(|v| v.as_array()).map(Vec::len)
                        }
                        _ => None,
                    };
                    let row = Arc::new(row);
                    let count = several.unwrap_or(1);
                    let raw = |at: usize| Raw {
                        id: self.number + at,
                        row: row.clone(),
                        at: several.map(|_| at),
                        file: self.file.clone(),
                        joined: self.joined.clone(),
                    };
                    self.pending = (0..count).rev().map(raw).collect();
                    self.number += count;
                    match self.pending.pop() {
                        Some(first) => return Some(Ok(first)),
                        None => continue,
                    }
                }
                self.rows = None;
            }
            let path = self.files.pop()?;
            self.file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let opened = FileRows::open(&path, &self.folder);
            let opened = opened.and_then(|rows| match rows.names() {
                Some(names) => self.task.check(&path, names).map(|()| rows),
                None => Ok(rows),
            });
            match opened {
                Ok(rows) => self.rows = Some(rows),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}
