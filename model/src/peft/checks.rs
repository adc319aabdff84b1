//! Whether the files of an adapter can be read, are all there, and belong to the base that they are put over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use percept_graph::DType;

use super::TENSORS;
use super::config::LoraConfig;
use crate::checkpoint::{Base, Checkpoint, LoadOptions};
use crate::error::{Error, Result};
use crate::hub;

/// The tensors of an adapter, as f32.
pub(super) fn open_tensors(folder: &Path) -> Result<Checkpoint> {
    let file = folder.join(TENSORS);
    if !file.exists() && folder.join("adapter_model.bin").exists() {
        return Err(Error::Content {
            file: folder.join("adapter_model.bin").display().to_string(),
            why: "is a pickle of PyTorch, which is not read because it runs code; load the adapter with PEFT and save it \
                  again with save_pretrained(…, safe_serialization=True)"
                .into(),
        });
    }
    Ok(Checkpoint::open_with(file, LoadOptions { dtype: Some(DType::F32), dequantize: false })?)
}

/// A sentence that names the base that an adapter was trained on and the one that it is put over, where they
/// differ: by the fingerprint that training recorded, otherwise by the last part of their names.
pub(super) fn doubt(checkpoint: &Checkpoint, folder: &Path, config: &LoraConfig) -> Result<Option<String>> {
    let at = folder.display();
    if let Some(trained_on) = Base::read(folder)? {
        let difference = trained_on.differs_from(&Base::of(checkpoint)?);
        return Ok(difference.map(|d| format!("the adapter {at} may not fit this base: {d}")));
    }
    let Some(trained_on) = config.base.as_deref() else { return Ok(None) };
    let plain = |name: &str| -> String {
        let last = name.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(name);
        last.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
    };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let path = real(checkpoint.path());
    let is_same = |place: PathBuf| real(&place) == path;
    if is_same(trained_on.into())
        || is_same(folder.join(trained_on))
        || is_same(folder.join("..").join(trained_on))
    {
        return Ok(None);
    }
    let id = hub::id_of(checkpoint.path()).or_else(|| hub::id_of(&path));
    let opened = id.unwrap_or_else(|| path.display().to_string());
    // Files of one model have its name and more, such as that of their dtype.
    if plain(trained_on).is_empty() || plain(&opened).starts_with(&plain(trained_on)) {
        return Ok(None);
    }
    Ok(Some(format!(
        "the adapter {at} may not fit this base: its adapter_config.json says that it was trained on '{trained_on}', and \
         this is '{opened}'"
    )))
}

/// A sentence that names modules of this base which are to have adapters, and have none in the adapter's file.
pub(super) fn incomplete(
    checkpoint: &Checkpoint,
    folder: &Path,
    config: &LoraConfig,
    modules: &BTreeSet<String>,
) -> Option<String> {
    let mut missing = config.missing(modules.iter().map(String::as_str));
    let of_base: Vec<&str> = checkpoint.names().filter_map(|name| name.strip_suffix(".weight")).collect();
    let absent = config.missing(of_base.into_iter());
    missing.retain(|name| !absent.contains(name));
    if missing.is_empty() {
        return None;
    }
    Some(format!(
        "the adapter {} may be incomplete: its adapter_config.json lists {} among 'target_modules', and {TENSORS} has no \
         tensors for them",
        folder.display(),
        missing.join(", ")
    ))
}
