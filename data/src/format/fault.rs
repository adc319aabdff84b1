//! What can be wrong with one sample of a file.

use crate::reject::Reject;

/// Why a sample was refused. The samples after it are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Text that is not UTF-8.
    #[error("{file} is not UTF-8 at byte {at}; save it as UTF-8")]
    NotUtf8 {
        /// The file that it is in.
        file: String,
        /// Where the first bad byte is.
        at: usize,
    },
    /// A file's name that leads out of its folder, or is empty.
    #[error("the name '{name}' {why}")]
    Name {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// JSON that does not parse or has another shape.
    #[error("{file} is not the JSON of a sample: {why}")]
    Json {
        /// The file that it is in.
        file: String,
        /// What is wrong and where.
        why: String,
    },
    /// A file that is larger than its cap; nothing was allocated for it.
    #[error("{file} has {size} bytes, and {cap} are allowed")]
    TooLarge {
        /// The name of the file.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// The most bytes that are allowed.
        cap: u64,
    },
    /// What the settings make of its files is refused.
    #[error("{}", .0.detail)]
    Refused(Reject),
    /// Two files of a sample that would have one place.
    #[error("{file} occurs twice")]
    Twice {
        /// The name of the file.
        file: String,
    },
}
