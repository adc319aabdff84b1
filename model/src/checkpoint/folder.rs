//! Finding the weights in a folder, and the files beside them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use super::error::{Error, Result, damaged, unreadable};
use super::gguf;
use super::source::not_a_pointer;

/// What holds the weights.
#[derive(Debug, PartialEq)]
pub(crate) enum WeightFiles {
    /// An index that names safetensors files.
    Index(PathBuf),
    /// One safetensors file.
    Safetensors(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
    /// A `model.bin` of CTranslate2.
    CTranslate2(PathBuf),
}

/// The weights at a path: a file, or a folder that holds them.
pub(crate) fn find(path: &Path) -> Result<WeightFiles> {
    let metadata = std::fs::metadata(path).map_err(unreadable(path))?;
    if metadata.is_dir() { find_in(path) } else { identify(path) }
}

fn identify(file: &Path) -> Result<WeightFiles> {
    let mut start = Vec::new();
    File::open(file).and_then(|f| f.take(64).read_to_end(&mut start)).map_err(unreadable(file))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let path = file.to_path_buf();
    not_a_pointer(file, &start)?;
    match &start[..] {
        [b'G', b'G', b'U', b'F', ..] => Ok(WeightFiles::Gguf(path)),
        _ if name.ends_with(".safetensors.index.json") => Ok(WeightFiles::Index(path)),
        _ if name.ends_with(".safetensors") => Ok(WeightFiles::Safetensors(path)),
        _ if name == "model.bin" => Ok(WeightFiles::CTranslate2(path)),
        _ => Err(Error::NotACheckpoint {
            why: "neither safetensors (.safetensors, .safetensors.index.json) nor GGUF nor CTranslate2 (model.bin); \
                  give one of these or the folder that holds it"
                .into(),
            path,
        }),
    }
}

fn find_in(folder: &Path) -> Result<WeightFiles> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        names.push(entry.map_err(unreadable(folder))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let has = |name: &str| names.iter().any(|n| n == name);
    let only = |ending: &str| {
        // Adapters lie beside the model they change.
        // Of a file in pieces the first stands for all.
        let later = |n: &str| gguf::piece(n).is_some_and(|(_, number, _)| number > 1);
        // A projector goes with the text model beside it.
        let part = |n: &str| n.starts_with("adapter_model") || later(n) || gguf::is_projector(n);
        let fits = |n: &&String| n.ends_with(ending) && !part(n);
        let all: Vec<&String> = names.iter().filter(fits).collect();
        match all[..] {
            [] => Ok(None),
            [one] => Ok(Some(folder.join(one))),
            [a, b, ..] => Err(Error::NotACheckpoint {
                path: folder.to_path_buf(),
                why: format!("holds more than one model ({a}, {b}); give the file itself"),
            }),
        }
    };
    // The file itself comes before an index, which may be one of older shards, as in transformers.
    if has("model.safetensors") {
        return Ok(WeightFiles::Safetensors(folder.join("model.safetensors")));
    }
    if has("model.safetensors.index.json") {
        return Ok(WeightFiles::Index(folder.join("model.safetensors.index.json")));
    }
    if let Some(index) = only(".safetensors.index.json")? {
        return Ok(WeightFiles::Index(index));
    }
    if let Some(file) = only(".safetensors")? {
        return Ok(WeightFiles::Safetensors(file));
    }
    if let Some(file) = only(".gguf")? {
        return identify(&file);
    }
    if has("model.bin") {
        return Ok(WeightFiles::CTranslate2(folder.join("model.bin")));
    }
    let why = if names.iter().any(|n| n.starts_with("pytorch_model") && n.ends_with(".bin")) {
        "holds PyTorch pickles only, which are not read because they run code; save the model with \
         safe_serialization=True"
    } else {
        "holds no .safetensors, no .gguf and no model.bin"
    };
    Err(Error::NotACheckpoint { path: folder.to_path_buf(), why: why.into() })
}

/// Whether a name from outside is that of a file in the same folder.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['/', '\\'])
}

/// A whole file, refused when larger than `cap` bytes.
pub(crate) fn read_capped(path: &Path, cap: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(unreadable(path))?;
    let mut bytes = Vec::new();
    // One byte more than the cap tells a file that grew from one that fits.
    file.take(cap + 1).read_to_end(&mut bytes).map_err(unreadable(path))?;
    if bytes.len() as u64 > cap {
        return Err(damaged(path, format!("it is larger than {} MiB", cap >> 20)));
    }
    not_a_pointer(path, &bytes)?;
    Ok(bytes)
}
