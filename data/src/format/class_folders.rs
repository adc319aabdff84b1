//! Folders of media: the folder that a file lies in is its class, and a text beside it its caption.

use std::fs::DirEntry;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ReadSettings;
use super::left_out::{LeftOut, shown};
use super::media::{HEAD, Root};
use super::named::Named;
use super::read::{Draw, Drawn, Draws};
use super::rows::{LONGEST, utf8};
use super::sniff::{sniff, unread};
use super::webdataset::shard_key;
use crate::error::{Error, Result};
use crate::reject::Reject;
use crate::sample::{Kind, Sample};

/// Folders within folders that are followed.
const DEEPEST: usize = 16;

/// How a folder is read.
struct Folder {
    root: Root,
    /// The extension of captions.
    captions: String,
    left_out: LeftOut,
}

/// The media of a folder in the order of their names. Links are not followed, and nothing but regular files
/// is opened.
pub(super) fn read(root: Root, settings: &ReadSettings, left_out: &LeftOut) -> Result<Draws> {
    let (folder, cap) = (root.folder.clone(), root.cap);
    let refuse = |key: &str, what: &str| {
        Err(Error::Config(format!("[[read]] {key} says nothing of the folder {}: {what}", folder.display())))
    };
    let ReadSettings { key, root: other, messages, image, video, audio, .. } = settings;
    if key.is_some() {
        return refuse("key", "keys are the names of its files");
    }
    if other.is_some() {
        return refuse("root", "its media are its own files");
    }
    if messages.is_some() {
        return refuse("messages", "its files have no turns; give a table that names them");
    }
    for (key, columns) in [("image", image), ("video", video), ("audio", audio)] {
        if !columns.is_empty() {
            return refuse(
                key,
                "the kinds of its files are found from their bytes; name fewer files with path",
            );
        }
    }
    let source = Arc::new(Folder { root, captions: captions(settings), left_out: left_out.clone() });
    let mut pending = vec![sorted(&folder)?];
    let next = move || -> Option<Draw> {
        loop {
            let Some(entry) = pending.last_mut()?.next() else {
                pending.pop();
                continue;
            };
            let path = entry.path();
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) => {
                    let reject = Reject::read(&Error::read(&path)(error));
                    return Some(Draw::refused(path.display().to_string(), reject));
                }
            };
            if kind.is_dir() && pending.len() == DEEPEST {
                source.left_out.add(format!("folders more than {DEEPEST} deep"));
            } else if kind.is_dir() {
                match sorted(&path) {
                    Ok(entries) => pending.push(entries),
                    Err(error) => {
                        return Some(Draw::refused(path.display().to_string(), Reject::read(&error)));
                    }
                }
            } else if kind.is_symlink() {
                source.left_out.add("symbolic links, which are not followed".into());
            } else if !kind.is_file() {
                source.left_out.add("devices, pipes and sockets".into());
            } else if source.is_medium(&path) {
                let source = Arc::clone(&source);
                let bytes = entry.metadata().map_or(0, |about| about.len()).min(cap);
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                return Some(Draw::new(bytes, move || source.sample(&path)));
            }
        }
    };
    Ok(Box::new(std::iter::from_fn(next)))
}

/// The files that are read of a folder: media, and the texts beside them.
pub(super) fn files(folder: &Path, settings: &ReadSettings) -> Result<Vec<PathBuf>> {
    let (root, captions) = (Root::new(folder, 0, Named::default()), captions(settings));
    let source = Folder { root, captions, left_out: LeftOut::default() };
    let mut pending = vec![(folder.to_path_buf(), 1)];
    let mut files = Vec::new();
    while let Some((folder, depth)) = pending.pop() {
        for entry in sorted(&folder)? {
            let path = entry.path();
            let kind = entry.file_type().map_err(Error::read(&path))?;
            if kind.is_dir() && depth < DEEPEST {
                pending.push((path, depth + 1));
            } else if kind.is_file() && source.is_medium(&path) {
                files.push(path.with_extension(&source.captions));
                files.push(path);
            }
        }
    }
    files.retain(|file| file.is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

/// The extension of captions.
fn captions(settings: &ReadSettings) -> String {
    settings.text.as_deref().unwrap_or("txt").trim_start_matches('.').to_owned()
}

fn sorted(folder: &Path) -> Result<std::vec::IntoIter<DirEntry>> {
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = entries.map_err(Error::read(folder))?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries.into_iter())
}

impl Folder {
    /// Whether a file is a medium, by its name or its first bytes. What is neither that nor a caption is
    /// counted.
    fn is_medium(&self, path: &Path) -> bool {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if Kind::of_extension(extension).is_some() {
            return true;
        }
        let mut head = Vec::new();
        if let Ok(file) = std::fs::File::open(path) {
            // What cannot be read now is looked at as far as it was.
            let _ = file.take(HEAD).read_to_end(&mut head);
        }
        if extension.eq_ignore_ascii_case(&self.captions) {
            return false;
        }
        if sniff(&head).is_some() {
            return true;
        }
        let what = match extension {
            "" => "files without an extension".to_owned(),
            extension => format!("files ending in .{}", shown(extension)),
        };
        self.left_out.add(match unread(&head) {
            Some(known) => format!("{what}: {known}, which is not read"),
            None => format!("{what}: of no known format of media"),
        });
        false
    }

    fn sample(&self, path: &Path) -> Drawn {
        let relative = path.strip_prefix(&self.root.folder).unwrap_or(path);
        let Some(name) = relative.to_str() else {
            let name = relative.to_string_lossy().into_owned();
            return Err((name, Reject::new("not-utf8", "its name is not UTF-8")));
        };
        let end = relative.extension().map_or(0, |extension| 1 + extension.len());
        let key = shard_key(&name[..name.len() - end]);
        let fail = |reject| (key.clone(), reject);
        let mut sample = Sample { key: key.clone(), ..Sample::default() };
        sample.media.push(self.root.load(name, None).map_err(fail)?);
        sample.text = self.caption(name).map_err(fail)?;
        if let Some(class) = relative.parent().and_then(|parent| parent.iter().next()?.to_str()) {
            sample.meta.insert("class".into(), class.into());
        }
        Ok(sample)
    }

    /// The text beside a medium; one that is not there is none, and one that may not be read refuses the
    /// sample.
    fn caption(&self, medium: &str) -> Result<Option<String>, Reject> {
        let name = Path::new(medium).with_extension(&self.captions);
        let Some(name) = name.to_str() else { return Ok(None) };
        if self.root.folder.join(name).symlink_metadata().is_err() {
            return Ok(None);
        }
        let caption = |reject: Reject| Reject::new(reject.reason, format!("its caption: {}", reject.detail));
        let bytes = self.root.bytes(name, LONGEST as u64).map_err(caption)?;
        let text = utf8(bytes).map_err(caption)?;
        Ok(Some(text.trim_start_matches('\u{feff}').trim_end().to_owned()))
    }
}
