//! Files and folders that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::{Error, Result};

/// A file or folder being made beside its place. It is renamed to its place when finished, and removed otherwise.
pub(crate) struct Draft {
    place: PathBuf,
    temporary: PathBuf,
    finished: bool,
}

impl Draft {
    /// A draft of what will be at `place`, where nothing may be yet but an empty folder.
    pub fn new(place: &Path) -> Result<Draft> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let is_free = match std::fs::read_dir(place) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        let Some(name) = place.file_name().filter(|_| is_free) else {
            let source =
                io::Error::new(io::ErrorKind::AlreadyExists, "it is there already; give another name");
            return Err(unwritable(place)(source));
        };
        let mut temporary = name.to_os_string();
        temporary.push(format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let temporary = place.with_file_name(temporary);
        Ok(Draft { place: place.to_path_buf(), temporary, finished: false })
    }

    /// Make the draft a folder.
    pub fn folder(place: &Path) -> Result<Draft> {
        let draft = Draft::new(place)?;
        std::fs::create_dir(&draft.temporary).map_err(unwritable(place))?;
        Ok(draft)
    }

    /// Write the file itself, or one in the folder, through `body`; it is on the disk when this returns.
    pub fn write(
        &self,
        name: Option<&str>,
        body: impl FnOnce(&mut BufWriter<File>) -> io::Result<Result<()>>,
    ) -> Result<()> {
        let path = name.map_or(self.temporary.clone(), |name| self.temporary.join(name));
        let written = File::create(&path).and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            let inner = body(&mut out)?;
            out.flush()?;
            out.get_ref().sync_all()?;
            Ok(inner)
        });
        written.map_err(unwritable(&self.place))?
    }

    /// Put it in its place.
    pub fn finish(mut self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.place).map_err(unwritable(&self.place))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing is left behind; what cannot be removed is named by its ending.
            let _ =
                std::fs::remove_dir_all(&self.temporary).or_else(|_| std::fs::remove_file(&self.temporary));
        }
    }
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error::Write { path: path.to_path_buf(), source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_appears_when_finished_and_leaves_nothing_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("weights");
        let text = |out: &mut BufWriter<File>| out.write_all(b"x").map(Ok);
        let draft = Draft::folder(&place).unwrap();
        draft.write(Some("a"), text).unwrap();
        assert!(!place.exists());
        drop(draft);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let draft = Draft::folder(&place).unwrap();
        draft.write(Some("a"), text).unwrap();
        draft.finish().unwrap();
        assert_eq!(std::fs::read(place.join("a")).unwrap(), b"x");
        // What is there stays.
        assert!(Draft::new(&place).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
