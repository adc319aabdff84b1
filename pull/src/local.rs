//! Local files: copied or hard-linked, with their hash.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use percept_data::hash::{hash_file, hexadecimal};
use percept_files::sync_folder;

use super::fault::Fault;
use super::fetch::Trouble;
use super::part::Part;
use super::status::{Outcome, Status};
use super::whole_tar;

/// Size and SHA-256 of what was put in its place.
pub(super) struct Copied {
    pub bytes: u64,
    pub sha256: String,
}

/// Copy `from` to `to` through `part`, or link it where the file system can.
pub(super) fn take(
    from: &Path,
    to: &Path,
    tar: bool,
    link: bool,
    mut part: Part,
    brought: &dyn Fn(u64),
) -> Result<Copied, Trouble> {
    let invalid = |error: io::Error| Trouble::Fault(Fault::last(Outcome::Invalid, error.to_string()));
    // Listed as a regular file, it may have become something else that never ends, or is never opened.
    if !fs::metadata(from).map_err(invalid)?.is_file() {
        return Err(Fault::last(Outcome::Invalid, "it is no regular file").into());
    }
    let file = File::open(from).map_err(invalid)?;
    if tar && let Some(why) = whole_tar::fault(&file).map_err(invalid)? {
        return Err(Fault::last(Outcome::Corrupt, why).into());
    }
    let mut file = File::open(from).map_err(invalid)?;
    if link && linked(from, to).map_err(Trouble::Disk)? {
        part.discard().map_err(Trouble::Disk)?;
        let mut hash = Sha256::new();
        let bytes = each_chunk(&mut file, &mut |chunk| {
            hash.update(chunk);
            brought(chunk.len() as u64);
            Ok(())
        })?;
        return Ok(Copied { bytes, sha256: hexadecimal(hash.finalize()) });
    }
    part.begin(None).map_err(Trouble::Disk)?;
    let bytes = each_chunk(&mut file, &mut |chunk| {
        brought(chunk.len() as u64);
        part.write(chunk)
    })?;
    let sha256 = part.sha256();
    part.finish(to).map_err(Trouble::Disk)?;
    Ok(Copied { bytes, sha256 })
}

/// Whether a file has the content that an earlier pull brought.
pub(super) fn is_still(from: &Path, had: &Status) -> bool {
    let same_size = fs::metadata(from).is_ok_and(|there| there.is_file() && Some(there.len()) == had.bytes);
    same_size && hash_file(from, u64::MAX, &|_| {}).is_ok_and(|(_, sha256)| Some(sha256) == had.sha256)
}

fn each_chunk(file: &mut File, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<u64, Trouble> {
    let mut chunk = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let n = file
            .read(&mut chunk)
            .map_err(|error| Trouble::Fault(Fault::last(Outcome::Invalid, error.to_string())))?;
        if n == 0 {
            return Ok(bytes);
        }
        each(&chunk[..n]).map_err(Trouble::Disk)?;
        bytes += n as u64;
    }
}

/// Link a file to its place; false where the two are on different file systems or it is not allowed.
fn linked(from: &Path, to: &Path) -> io::Result<bool> {
    let Some(folder) = to.parent() else { return Ok(false) };
    fs::create_dir_all(folder)?;
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A link to a symbolic link would be one too.
    let from = fs::canonicalize(from)?;
    if fs::hard_link(from, to).is_err() {
        return Ok(false);
    }
    sync_folder(folder)?;
    Ok(true)
}
