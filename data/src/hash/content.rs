//! Hashes of what files hold.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// The size and SHA-256 of a file, of which `most` bytes are read at most. `told` is called with the bytes of
/// each piece.
///
/// # Errors
/// When the file cannot be read.
pub fn hash_file(path: &Path, most: u64, told: &dyn Fn(u64)) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?.take(most);
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((bytes, hexadecimal(hash.finalize())));
        }
        hash.update(&piece[..read]);
        bytes += read as u64;
        told(read as u64);
    }
}

/// A digest in lower-case hexadecimal digits.
pub fn hexadecimal(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
