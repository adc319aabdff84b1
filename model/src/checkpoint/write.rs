//! Writing a checkpoint from tensors in memory.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use percept_files::AtomicFile;
use percept_graph::HostTensor;

use super::convert::{begin_folder, safetensors_head};
use super::error::{Result, unwritable};

/// Write a folder that appears whole or not at all: `model.safetensors` with the tensors by name, and other
/// files.
///
/// # Errors
/// When something is at `out` already, or the system would not write.
pub fn write(
    out: &Path,
    tensors: &BTreeMap<String, HostTensor>,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    write_as(out, "model.safetensors", tensors, files)
}

/// As [`write`], with another name for the file of the tensors.
///
/// # Errors
/// As there.
pub fn write_as(
    out: &Path,
    weights: &str,
    tensors: &BTreeMap<String, HostTensor>,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let folder = begin_folder(out)?;
    let head = safetensors_head(tensors.iter().map(|(name, t)| (&name[..], t.ty())));
    let written = AtomicFile::create(&folder.path().join(weights)).and_then(|mut file| {
        file.write_all(&head)?;
        tensors.values().try_for_each(|tensor| file.write_all(tensor.bytes()))?;
        file.finish()
    });
    written.map_err(unwritable(out))?;
    for (name, bytes) in files {
        folder.write(name, bytes).map_err(unwritable(out))?;
    }
    folder.finish().map_err(unwritable(out))
}
