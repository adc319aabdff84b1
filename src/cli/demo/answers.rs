//! Questions about held-out files, through `percept generate`.

use std::path::Path;
use std::sync::Arc;

use percept::data::loader::Dataset;
use percept::data::{Kind, Sample};

use super::command::Shell;
use super::runs::{FLAGS, GENERAL, Work};
use crate::cli::Failure;
use crate::cli::failure::write_file;

/// Questions of each task.
const EACH: usize = 3;

/// A question about a file, and the model's answer.
pub struct Answered {
    /// The task.
    pub task: &'static str,
    /// The file's bytes.
    pub bytes: Arc<[u8]>,
    /// The kind of the medium.
    pub kind: Kind,
    /// The question.
    pub question: String,
    /// The answer of the corpus.
    pub expected: String,
    /// The answer of the model.
    pub answer: String,
}

/// Write some held-out files of every task beside the report, and answer a question about each with the adapted model.
///
/// # Errors
/// When a file cannot be read or written, or a command fails.
pub fn collect(shell: &mut Shell, work: &Work) -> Result<Vec<Answered>, Failure> {
    let mut all = Vec::new();
    for task in GENERAL.into_iter().chain([FLAGS]) {
        for sample in some(Path::new(&work.data(task, "held-out")))? {
            let (Some((messages, expected)), [blob, ..]) = (sample.question(), &sample.media[..]) else {
                continue;
            };
            let words: Vec<&str> = messages.iter().flat_map(|m| m.content.texts().map(str::trim)).collect();
            let name = format!("asked/{task}-{}.{}", plain(&sample.key), blob.extension);
            let file = work.file(&name);
            write(&file, &blob.bytes)?;
            let flag = match blob.kind {
                Kind::Image => "--image",
                Kind::Video => "--video",
                Kind::Audio => "--audio",
            };
            let mut command = vec!["generate".to_string()];
            command.extend(work.after());
            command.extend([flag.to_string(), file.display().to_string()]);
            command.extend(["--temperature", "0", "--max-tokens", "16"].map(String::from));
            command.push(words.join(" "));
            let answer = shell.output(&command)?;
            shell.tell(&format!("{answer}  ({expected})"));
            all.push(Answered {
                task,
                bytes: blob.bytes.clone(),
                kind: blob.kind,
                question: words.join(" "),
                expected: expected.trim().into(),
                answer,
            });
        }
    }
    Ok(all)
}

/// Samples spread over the shards of a folder.
fn some(folder: &Path) -> Result<Vec<Sample>, Failure> {
    let all = Dataset::at(folder)?;
    let chosen = (0..EACH.min(all.len())).map(|k| (2 * k + 1) * all.len() / (2 * EACH));
    Ok(chosen.map(|at| all.read(at)).collect::<Result<_, _>>()?)
}

/// A key as part of a file's name.
fn plain(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    write_file(path, bytes)
}
