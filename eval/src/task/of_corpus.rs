//! A task without a file: a corpus whose answers are classes, as `percept data build` makes it of a table of findings or labels.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use percept_data::loader::Dataset;
use toml::{Table, Value};

use super::{By, Task};
use crate::error::{Error, Result};

/// Classes that a corpus may have; more of them are answers in words, and their table of confusions would not be read.
const MOST: usize = 1000;

/// Tokens that an answer may have beyond those of the longest class, so that one that goes on is told from it.
const BEYOND: usize = 4;

/// How the classes of a corpus are scored.
#[derive(Debug, Clone, Default)]
pub struct ClassesOf {
    /// Classes beside those that the corpus has.
    pub classes: Vec<String>,
    /// The column of metadata whose values are drawn together, such as a patient.
    pub group: Option<String>,
    /// Columns of metadata by whose values scores are given too.
    pub categories: Vec<String>,
    /// How a class is chosen.
    pub by: By,
}

impl Task {
    /// The task of naming the classes of a corpus, or of a split of it, and the folder of its data. The classes are its answers, and those
    /// that are given beside them. It reads the corpus once.
    ///
    /// # Errors
    /// When the corpus cannot be read, a sample lacks a column that is named, or its answers are no classes: fewer than two, or more than a
    /// thousand.
    pub fn of_corpus(path: &Path, how: &ClassesOf) -> Result<(Self, PathBuf)> {
        let samples = Dataset::at(path)?;
        let name = crate::corpus::name(&samples);
        let wrong = |why: String| Error::Task(format!("{}: {why}", path.display()));
        let mut classes: BTreeSet<String> = how.classes.iter().cloned().collect();
        let mut asked = 0;
        for at in 0..samples.len() {
            let sample = samples.read(at)?;
            let Some((_, answer)) = sample.question() else { continue };
            asked += 1;
            classes.insert(answer.trim().to_owned());
            if classes.len() > MOST {
                return Err(wrong(format!(
                    "its answers are no classes: the first {asked} questions have more than {MOST} different ones; leave out --classes"
                )));
            }
        }
        if classes.len() < 2 {
            let have = classes
                .first()
                .map_or_else(|| "it has no answers".into(), |class| format!("all its answers are '{class}'"));
            return Err(wrong(format!(
                "{have}, and classes are two at least; name others, as --classes=A,B"
            )));
        }
        let text = file_of(&name, &classes, how);
        let mut task = Self::parse(Path::new("--classes"), &text)?;
        task.shards = samples.shards().iter().map(|shard| shard.path().to_path_buf()).collect();
        Ok((task, samples.splits().root().to_path_buf()))
    }
}

/// The file that says the same.
fn file_of(name: &str, classes: &BTreeSet<String>, how: &ClassesOf) -> String {
    let texts = |texts: &mut dyn Iterator<Item = &String>| {
        Value::Array(texts.map(|text| Value::String(text.clone())).collect())
    };
    let table = |entries: Vec<(&str, Value)>| {
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Table>()
    };
    let nested = |entries| Value::Table(table(entries));
    let longest = classes.iter().map(String::len).max().unwrap_or(0);
    let mut data = vec![("files", Value::String("**/*.tar".into())), ("key", Value::String("key".into()))];
    data.extend(how.group.iter().map(|group| ("group", Value::String(group.clone()))));
    data.push(("categories", texts(&mut how.categories.iter())));
    // A token has a byte at least.
    let tokens = i64::try_from(longest.saturating_add(BEYOND)).unwrap_or(i64::MAX);
    let mut score = vec![
        ("metric", Value::String("classes".into())),
        ("answer", Value::String("answer".into())),
        ("classes", texts(&mut classes.iter())),
    ];
    if how.by == By::Likelihood {
        score.push(("by", Value::String("likelihood".into())));
        score.push(("compare", Value::String("texts".into())));
    }
    // Files of results are called after a task.
    let name = name.replace(|c: char| !c.is_alphanumeric() && !"-_.".contains(c), "-");
    table(vec![
        ("name", Value::String(name)),
        ("data", nested(data)),
        ("ask", nested(vec![("max_tokens", Value::Integer(tokens))])),
        ("score", nested(score)),
    ])
    .to_string()
}
