//! Files and folders that appear whole or not at all.
//!
//! Each is written beside its place, synced to the disk, and renamed. Readers see the old one or the new one,
//! and after a crash one of the two is there. What is not finished is removed when it is dropped.
//!
//! The name of what is being written is the place's own and ends in `.percept.tmp`. Where one process at a
//! time writes to a place, the name is always the same, so that the next run replaces what a killed one left;
//! where several may, it has the process's number and a counter too. Errors are the system's own: the caller
//! knows which path to name.

mod folder;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use folder::AtomicFolder;

/// Bytes that are gathered before the system is asked to write.
const BUFFER: usize = 1 << 18;

/// A file being written beside its place, which it gets by [`AtomicFile::finish`]. It is removed when dropped
/// before.
#[derive(Debug)]
pub struct AtomicFile {
    place: PathBuf,
    temporary: PathBuf,
    out: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Begin a file at `place`, to which one process at a time writes. What is there stays until the file is
    /// finished.
    ///
    /// # Errors
    /// When the path has no file name, or the system cannot make a file in its folder.
    pub fn create(place: &Path) -> io::Result<Self> {
        Self::at(place, beside(place, &Writers::One)?)
    }

    /// Begin a file at `place`, to which several processes may write at a time. The last to finish is the one
    /// that stays.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_shared(place: &Path) -> io::Result<Self> {
        Self::at(place, beside(place, &Writers::Several)?)
    }

    fn at(place: &Path, temporary: PathBuf) -> io::Result<Self> {
        let out = BufWriter::with_capacity(BUFFER, File::create(&temporary)?);
        Ok(Self { place: place.to_path_buf(), temporary, out: Some(out) })
    }

    /// Where the file will be.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Sync its bytes to the disk and rename it to its place. That the new name survives a loss of power
    /// needs [`sync_folder`] too.
    ///
    /// # Errors
    /// When the system cannot; what was at the place is still there then, and nothing else is left.
    pub fn finish(mut self) -> io::Result<()> {
        let Some(out) = self.out.take() else { return Ok(()) };
        let put = out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| put(file, &self.temporary, &self.place));
        if put.is_err() {
            // The failure to write is what gets reported.
            let _ = fs::remove_file(&self.temporary);
        }
        put
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            // What cannot be removed is named by its ending.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Write a whole file to `place`, to which one process at a time writes.
///
/// # Errors
/// As [`AtomicFile`].
pub fn write(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(place)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Write a whole file to `place`, to which several processes may write at a time.
///
/// # Errors
/// As [`AtomicFile`].
pub fn write_shared(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create_shared(place)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Put a file that is whole now, such as a download, to its place on the same file system: sync its bytes,
/// and rename it.
///
/// # Errors
/// When the system cannot.
pub fn put(file: File, from: &Path, place: &Path) -> io::Result<()> {
    file.sync_all()?;
    // Windows renames no file that is open.
    drop(file);
    fs::rename(from, place)
}

/// Make the names in a folder survive a loss of power.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Windows syncs names with the files and opens no folders.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Fail unless nothing is at `place` but perhaps an empty folder.
///
/// # Errors
/// When something is there, or it cannot be looked at.
pub fn check_free(place: &Path) -> io::Result<()> {
    let is_free = match fs::read_dir(place) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    };
    if is_free {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there already; give another name"))
}

/// How many processes may write to a place at a time.
enum Writers {
    One,
    Several,
}

/// The path beside `place` at which it is written.
fn beside(place: &Path, writers: &Writers) -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Some(name) = place.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a name"));
    };
    let mut temporary = name.to_os_string();
    if let Writers::Several = writers {
        temporary.push(format!(".{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    }
    temporary.push(".percept.tmp");
    Ok(place.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_finished_and_leaves_nothing_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.tar");
        for create in [AtomicFile::create, AtomicFile::create_shared] {
            fs::write(&place, "old").unwrap();
            let mut file = create(&place).unwrap();
            file.write_all(b"half").unwrap();
            file.flush().unwrap();
            assert_eq!(fs::read(&place).unwrap(), b"old", "it is written beside its place");
            drop(file);
            assert_eq!(names(folder.path()), ["a.tar"]);
            let mut file = create(&place).unwrap();
            file.write_all(b"whole").unwrap();
            assert_eq!(file.place(), place);
            file.finish().unwrap();
            assert_eq!(fs::read(&place).unwrap(), b"whole");
            assert_eq!(names(folder.path()), ["a.tar"]);
        }
    }

    #[test]
    fn a_place_that_cannot_be_taken_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("taken");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("mine"), "x").unwrap();
        assert!(write(&place, b"text").is_err());
        assert!(write_shared(&place, b"text").is_err());
        assert_eq!(names(folder.path()), ["taken"]);
        assert_eq!(names(&place), ["mine"]);
        assert!(write(&folder.path().join("missing/a"), b"text").is_err());
        assert!(write(Path::new("/"), b"text").unwrap_err().to_string().contains("name"));
    }

    #[test]
    fn what_a_killed_run_left_is_replaced_and_writers_at_a_time_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.json");
        let left = AtomicFile::create(&place).unwrap();
        std::mem::forget(left);
        assert_eq!(names(folder.path()), ["a.json.percept.tmp"]);
        write(&place, b"new").unwrap();
        assert_eq!(names(folder.path()), ["a.json"]);
        let mut both = [0, 1].map(|_| AtomicFile::create_shared(&place).unwrap());
        assert_eq!(names(folder.path()).len(), 3);
        assert!(
            names(folder.path())[1..].iter().all(|n| n.starts_with("a.json.") && n.ends_with(".percept.tmp"))
        );
        both[0].write_all(b"first").unwrap();
        both[1].write_all(b"second").unwrap();
        for (file, text) in both.into_iter().zip(["first", "second"]) {
            file.finish().unwrap();
            assert_eq!(fs::read_to_string(&place).unwrap(), text);
        }
    }
}
