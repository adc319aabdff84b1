//! What an error of the disk means for the rest of a pull.

use std::io;

/// Whether an error of the disk is about one name, so that others may still do.
pub(super) fn concerns_one_name(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::NotADirectory
            | K::IsADirectory
            | K::AlreadyExists
            | K::InvalidFilename
            | K::DirectoryNotEmpty
            | K::InvalidInput
    )
}
