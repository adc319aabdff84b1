//! Folders of media: the folder that a file lies in is its class, and a text beside it its caption.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use super::media::Root;
use super::read::{Draw, Drawn, Draws, kind_of};
use super::rows::utf8;
use super::webdataset::shard_key;
use crate::error::{Error, Result};
use crate::reject::Reject;
use crate::sample::Sample;

/// Folders within folders that are followed.
const DEEPEST: usize = 16;

/// The media of a folder in the order of their names. Links are not followed.
pub(super) fn read(folder: &Path, cap: u64) -> Result<Draws> {
    let mut pending = vec![sorted(folder)?];
    let root = Root { folder: folder.to_path_buf(), cap };
    let next = move || -> Option<Draw> {
        loop {
            let Some(entry) = pending.last_mut()?.next() else {
                pending.pop();
                continue;
            };
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(|kind| kind.is_dir()) {
                if pending.len() < DEEPEST {
                    match sorted(&path) {
                        Ok(entries) => pending.push(entries),
                        Err(error) => {
                            let (name, reject) = (path.display().to_string(), Reject::read(&error));
                            return Some(Box::new(move || Err((name, reject))));
                        }
                    }
                }
            } else if kind.is_ok_and(|kind| kind.is_file()) && kind_of(&path).is_some() {
                let root = root.clone();
                return Some(Box::new(move || sample(&root, &path)));
            }
        }
    };
    Ok(Box::new(std::iter::from_fn(next)))
}

/// Bytes of all files in a folder, as deep as it is read.
pub(super) fn size(folder: &Path) -> Result<u64> {
    let mut pending = vec![(folder.to_path_buf(), 1)];
    let mut bytes = 0;
    while let Some((folder, depth)) = pending.pop() {
        for entry in sorted(&folder)? {
            let about = entry.metadata().map_err(Error::read(&entry.path()))?;
            if about.is_dir() && depth < DEEPEST {
                pending.push((entry.path(), depth + 1));
            } else if about.is_file() {
                bytes += about.len();
            }
        }
    }
    Ok(bytes)
}

fn sorted(folder: &Path) -> Result<std::vec::IntoIter<DirEntry>> {
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = entries.map_err(Error::read(folder))?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries.into_iter())
}

fn sample(root: &Root, path: &Path) -> Drawn {
    let relative = path.strip_prefix(&root.folder).unwrap_or(path);
    let Some(name) = relative.to_str() else {
        let name = relative.to_string_lossy().into_owned();
        return Err((name, Reject::new("not-utf8", "its name is not UTF-8")));
    };
    let key = shard_key(name.rsplit_once('.').map_or(name, |(stem, _)| stem));
    let fail = |reject| (key.clone(), reject);
    let mut sample = Sample { key: key.clone(), ..Sample::default() };
    sample.media.push(root.load(name, kind_of(path)).map_err(fail)?);
    sample.text = caption(&path.with_extension("txt")).map_err(fail)?;
    if let Some(class) = relative.parent().and_then(|parent| parent.iter().next()?.to_str()) {
        sample.meta.insert("class".into(), class.into());
    }
    Ok(sample)
}

fn caption(path: &PathBuf) -> Result<Option<String>, Reject> {
    match std::fs::read(path) {
        Ok(bytes) => utf8(bytes).map(|text| Some(text.trim_end().to_owned())),
        Err(_) => Ok(None),
    }
}
