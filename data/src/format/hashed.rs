//! Files whose bytes are hashed while they are written.

use std::io::{self, Write};
use std::path::Path;

use percept_files::AtomicFile;
use sha2::{Digest, Sha256};

use super::webdataset::Written;
use crate::error::{Error, Result};
use crate::hash::hexadecimal;

/// A file that appears whole or not at all, and knows the size and hash of what it holds.
pub(crate) struct Hashed {
    file: AtomicFile,
    hash: Sha256,
    bytes: u64,
}

impl Hashed {
    /// Begin a file at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let file = AtomicFile::create(path).map_err(Error::write(path))?;
        Ok(Self { file, hash: Sha256::new(), bytes: 0 })
    }

    /// Where the file will be.
    pub fn place(&self) -> &Path {
        self.file.place()
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rename it to its final name.
    pub fn finish(self, samples: u64) -> Result<Written> {
        let path = self.file.place().to_path_buf();
        self.file.finish().map_err(Error::write(&path))?;
        let sha256 = hexadecimal(self.hash.finalize());
        Ok(Written { path, samples, bytes: self.bytes, sha256 })
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
