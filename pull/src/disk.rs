//! Files that appear whole or not at all, with their names safely in their folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Write a small file beside its final path and rename it there.
pub(super) fn write_whole(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = place.as_os_str().to_os_string();
    name.push(".tmp");
    let temporary = Path::new(&name);
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, place)
}

/// Make the names in a folder last.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows syncs names with the files and opens no folders.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

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
