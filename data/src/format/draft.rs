//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file being written beside its final path. It is synced and renamed to its place when finished, and
/// removed otherwise.
///
/// The temporary has the place's name and `.tmp`, so what a killed run leaves behind is overwritten by the next one.
#[derive(Debug)]
pub struct Draft {
    place: PathBuf,
    temporary: PathBuf,
    out: Option<BufWriter<File>>,
}

impl Draft {
    /// Begin a file at `place`, which may be there already and stays as it is until [`Draft::finish`].
    pub fn create(place: &Path) -> Result<Self> {
        let mut temporary = place.as_os_str().to_os_string();
        temporary.push(OsString::from(".tmp"));
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(Error::write(place))?;
        let out = Some(BufWriter::with_capacity(1 << 18, file));
        Ok(Self { place: place.to_path_buf(), temporary, out })
    }

    /// Where the file will be.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Rename it to its final name, after its bytes are synced to the disk.
    pub fn finish(mut self) -> Result<()> {
        let result = self.out.take().map_or(Ok(()), |out| {
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            drop(file);
            fs::rename(&self.temporary, &self.place)
        });
        if result.is_err() {
            let _ = fs::remove_file(&self.temporary);
        }
        result.map_err(Error::write(&self.place))
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            // What cannot be removed is named by its ending and overwritten by the next run.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_appears_when_finished_and_leaves_nothing_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.tar");
        let mut draft = Draft::create(&place).unwrap();
        draft.write_all(b"half").unwrap();
        assert!(!place.exists());
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut draft = Draft::create(&place).unwrap();
        draft.write_all(b"whole").unwrap();
        draft.finish().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Draft::create(&folder.path().join("missing/a.tar")).unwrap_err();
        assert!(error.to_string().contains("missing/a.tar"), "{error}");
    }
}
