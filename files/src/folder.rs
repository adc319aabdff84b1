//! Folders that appear whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Writers, beside, check_free, sync_folder};

/// A folder being filled beside its place, which it gets by [`AtomicFolder::finish`] or
/// [`AtomicFolder::replace`]. It is removed with all that is in it when dropped before.
///
/// The files in it are synced by whoever writes them, as [`crate::AtomicFile`] does.
#[derive(Debug)]
pub struct AtomicFolder {
    place: PathBuf,
    temporary: PathBuf,
    is_placed: bool,
}

impl AtomicFolder {
    /// Begin a folder at `place`, in a folder that is there, to which one process at a time writes. What a
    /// killed run left of it is removed.
    ///
    /// # Errors
    /// When the path has no name, or the system cannot make the folder.
    pub fn create(place: &Path) -> io::Result<Self> {
        let place = std::path::absolute(place)?;
        let temporary = beside(&place, &Writers::One)?;
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        Self::at(place, temporary)
    }

    /// Begin a folder at `place`, in a folder that is there, to which several processes may write at a time.
    ///
    /// # Errors
    /// As [`AtomicFolder::create`].
    pub fn create_shared(place: &Path) -> io::Result<Self> {
        let place = std::path::absolute(place)?;
        let temporary = beside(&place, &Writers::Several)?;
        Self::at(place, temporary)
    }

    fn at(place: PathBuf, temporary: PathBuf) -> io::Result<Self> {
        fs::create_dir(&temporary)?;
        Ok(Self { place, temporary, is_placed: false })
    }

    /// Where its files are written.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Write a file in it, which is on the disk when this returns. A `name` with folders makes those too.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = self.temporary.join(name);
        let folder = path.parent().unwrap_or(&self.temporary);
        fs::create_dir_all(folder)?;
        crate::write(&path, bytes)?;
        // Its own names are synced when it is finished.
        if folder == self.temporary { Ok(()) } else { sync_folder(folder) }
    }

    /// Sync its names to the disk and rename it to its place, where nothing may be but an empty folder.
    ///
    /// # Errors
    /// When something is there, or the system cannot.
    pub fn finish(self) -> io::Result<()> {
        check_free(&self.place)?;
        self.put(|place| fs::remove_dir(place))
    }

    /// As [`AtomicFolder::finish`], in place of the folder that is there, which is removed once this one is
    /// whole.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn replace(self) -> io::Result<()> {
        self.put(|place| fs::remove_dir_all(place))
    }

    fn put(mut self, clear: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        sync_folder(&self.temporary)?;
        if self.place.exists() {
            clear(&self.place)?;
        }
        fs::rename(&self.temporary, &self.place)?;
        self.is_placed = true;
        self.place.parent().map_or(Ok(()), sync_folder)
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed is named by its ending.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_when_finished_and_leaves_nothing_otherwise() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("weights");
        for create in [AtomicFolder::create, AtomicFolder::create_shared] {
            let folder = create(&place).unwrap();
            folder.write("a", b"x").unwrap();
            assert!(!place.exists());
            drop(folder);
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
            // An empty folder may be there.
            fs::create_dir(&place).unwrap();
            let folder = create(&place).unwrap();
            folder.write("a", b"x").unwrap();
            folder.write("more/b", b"y").unwrap();
            folder.finish().unwrap();
            assert_eq!(fs::read(place.join("a")).unwrap(), b"x");
            assert_eq!(fs::read(place.join("more/b")).unwrap(), b"y");
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
            // What is there stays, unless it is to be replaced.
            let folder = create(&place).unwrap();
            assert_eq!(folder.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert!(place.join("a").exists());
            create(&place).unwrap().replace().unwrap();
            assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
            fs::remove_dir(&place).unwrap();
        }
    }

    #[test]
    fn what_a_killed_run_left_of_a_folder_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("corpus");
        let left = AtomicFolder::create(&place).unwrap();
        left.write("old", b"x").unwrap();
        std::mem::forget(left);
        let folder = AtomicFolder::create(&place).unwrap();
        folder.write("new", b"x").unwrap();
        folder.finish().unwrap();
        assert!(place.join("new").exists() && !place.join("old").exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
