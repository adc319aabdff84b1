//! Writing a checkpoint from tensors in memory.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use percept_graph::HostTensor;

use super::convert::safetensors_head;
use super::draft::Draft;
use super::error::Result;

/// Write a folder that appears whole or not at all: `model.safetensors` with the tensors by name, and other files.
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
    let draft = Draft::folder(out)?;
    draft.write(Some(weights), |file| {
        file.write_all(&safetensors_head(tensors.iter().map(|(name, t)| (&name[..], t.ty()))))?;
        for tensor in tensors.values() {
            file.write_all(tensor.bytes())?;
        }
        Ok(Ok(()))
    })?;
    for (name, bytes) in files {
        draft.write(Some(name), |file| file.write_all(bytes).map(Ok))?;
    }
    draft.finish()
}
