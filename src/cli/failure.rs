//! Why a command failed, and its exit code.

use std::path::{Path, PathBuf};

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command was used wrongly.
    #[error("{0}")]
    Usage(String),
    /// The command ran, and its result is negative: a test failed, a result differs.
    #[error("{0}")]
    Negative(String),
    /// A device failed.
    #[error(transparent)]
    Device(#[from] percept::hal::Error),
    /// A graph is wrong.
    #[error(transparent)]
    Graph(#[from] percept::graph::GraphError),
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] percept::model::checkpoint::Error),
    /// A model or its checkpoint is wrong.
    #[error(transparent)]
    Model(#[from] percept::model::Error),
    /// Generation failed.
    #[error(transparent)]
    Infer(#[from] percept::infer::Error),
    /// Data could not be read, prepared or written.
    #[error(transparent)]
    Data(#[from] percept::data::Error),
    /// Data could not be pulled.
    #[error(transparent)]
    Pull(#[from] percept::pull::Error),
    /// A model cannot be evaluated on a corpus.
    #[error(transparent)]
    Eval(percept::eval::Error),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] percept::train::Error),
    /// The server cannot start.
    #[error(transparent)]
    Serve(#[from] percept::serve::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}", named(path, why))]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        why: String,
    },
}

/// What is wrong with a file, with the file's name once.
fn named(path: &Path, why: &str) -> String {
    let path = path.display().to_string();
    // Libraries that were given the path name it themselves.
    if why.contains(&path) { why.to_string() } else { format!("{path}: {why}") }
}

impl From<percept::eval::Error> for Failure {
    fn from(error: percept::eval::Error) -> Self {
        use percept::eval::Error;
        match error {
            Error::Data(error) => error.into(),
            Error::Infer(error) => error.into(),
            error => Failure::Eval(error),
        }
    }
}

impl Failure {
    /// The message that is printed: a name that stands twice at the start is printed once, and where a library gave no
    /// reason, the message tells so.
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        while let Some((head, rest)) = text.split_once(": ")
            && rest.starts_with(&format!("{head}: "))
        {
            text = rest.to_string();
        }
        let told = text.trim_end();
        if told.is_empty() {
            return "something failed, and the library that did gives no reason".into();
        }
        if told.ends_with(':') {
            return format!("{told} the library that failed gives no reason");
        }
        text
    }

    /// 2 for wrong use, 128 and the signal's number where one stopped a run, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Device(percept::hal::Error::UnknownDevice { .. }) => 2,
            Failure::Infer(percept::infer::Error::Setting(_)) => 2,
            Failure::Data(percept::data::Error::Config(_)) => 2,
            Failure::Train(e) => training(e),
            Failure::Pull(percept::pull::Error::Usage(_)) => 2,
            Failure::Serve(percept::serve::Error::Setting(_)) => 2,
            Failure::Eval(
                percept::eval::Error::Task(_)
                | percept::eval::Error::Column { .. }
                | percept::eval::Error::NoQuestions { .. },
            ) => 2,
            _ => 1,
        }
    }
}

fn training(error: &percept::train::Error) -> u8 {
    use percept::train::Error;
    match error {
        Error::Config { .. } => 2,
        Error::Stopped { stop, .. } => stop.exit_code(),
        Error::Stage { source, .. } => training(source),
        _ => 1,
    }
}

/// Read a file of media.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| Failure::File { path: path.to_path_buf(), source })
}

/// Read a text file.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File { path: path.to_path_buf(), source })
}

/// Write a file so that it appears whole or not at all.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    percept_files::write_shared(path, bytes)
        .map_err(|source| Failure::File { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_once_and_a_missing_reason_is_said_to_be_missing() {
        let content = |why: &str| Failure::Content { path: "a/b.mp4".into(), why: why.into() }.message();
        assert_eq!(content("it ends early"), "a/b.mp4: it ends early");
        assert_eq!(
            content("a/b.mp4 cannot be decoded: it ends early"),
            "a/b.mp4 cannot be decoded: it ends early"
        );
        assert_eq!(content("a/b.mp4: a/b.mp4: no"), "a/b.mp4: no");
        assert_eq!(content(""), "a/b.mp4: the library that failed gives no reason");
        assert_eq!(
            Failure::Usage(String::new()).message(),
            "something failed, and the library that did gives no reason"
        );
        let file = Failure::File { path: "a".into(), source: std::io::Error::other("a: gone") };
        assert_eq!(file.message(), "a: gone");
    }
}
