//! The end of a pull: statuses and an index in the order of the plan.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use percept_data::Kind;
use percept_files::{AtomicFile, sync_folder};
use percept_modalities::kind;
use serde_json::{Map, Value};

use super::error::Error;
use super::item::{Item, Task};
use super::place::Key;
use super::plan::PullPlan;
use super::status::{Log, Outcome, Status};
use super::{Folder, Summary};

/// A longer text beside an image is no caption.
const LONGEST_CAPTION: u64 = 1 << 16;

/// Bytes that show the kind of a file.
const HEAD: u64 = 1 << 12;

/// Write `status.jsonl` and `index.jsonl` again, with one line for each line of the plan.
pub(super) fn finish(folder: &Folder, plan: &PullPlan, log: &Log) -> Result<Summary, Error> {
    let create = |path: &Path| AtomicFile::create(path).map_err(Error::write(path));
    let (status_path, index_path) = (folder.status(), folder.index());
    let (mut statuses, mut index) = (create(&status_path)?, create(&index_path)?);
    let mut summary = Summary { samples: 0, bytes: 0, outcomes: BTreeMap::new(), reasons: BTreeMap::new() };
    let mut seen: HashMap<Key, u32> = HashMap::new();
    let mut items = plan.items()?;
    while let Some(item) = items.next()? {
        let status = log.find(Key::of(&item.url))?.unwrap_or_else(|| {
            Status::failed(&item.url, Outcome::Network, "its status was lost; pull again".to_owned())
        });
        line(&mut statuses, &status).map_err(Error::write(&status_path))?;
        summary.count(&status);
        let repeats = seen.entry(Key::of(&item.url)).and_modify(|n| *n += 1).or_insert(0);
        if let Some(entry) = entry(&folder.root, &item, &status, *repeats) {
            line(&mut index, &entry).map_err(Error::write(&index_path))?;
        }
    }
    index.finish().map_err(Error::write(&index_path))?;
    statuses.finish().map_err(Error::write(&status_path))?;
    sync_folder(&folder.root).map_err(Error::disk(&folder.root))?;
    Ok(summary)
}

fn line(file: &mut AtomicFile, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

/// The line of the index for a sample that arrived: of lists all, of folders and repositories the media.
///
/// A column is named for what the file is, so that recipes need no setting for it.
fn entry(root: &Path, item: &Item, status: &Status, repeats: u32) -> Option<Value> {
    let file = status.file.as_ref().filter(|_| status.outcome == Outcome::Ok)?;
    let extension = Path::new(file).extension().and_then(|e| e.to_str()).unwrap_or_default();
    let kind = Kind::of_extension(extension).or_else(|| kind_by_bytes(&root.join(file)));
    let caption = match item.task {
        Task::Sample => item.caption.clone(),
        Task::Hub { .. } | Task::Local { tar: false, .. } if kind.is_some() => {
            beside(&root.join(file).with_extension("txt"))
        }
        _ => return None,
    };
    let column = match kind {
        Some(Kind::Image) => "image",
        Some(Kind::Video) => "video",
        Some(Kind::Audio) => "audio",
        None => "file",
    };
    // Lines with one address share a file, but they are samples of their own.
    let key = match repeats {
        0 => Key::of(&item.url).to_string(),
        n => format!("{}-{n}", Key::of(&item.url)),
    };
    let mut meta = item.meta.clone();
    meta.insert("url".into(), item.url.as_str().into());
    meta.insert("sha256".into(), status.sha256.as_deref().into());
    let mut entry = Map::new();
    entry.insert("key".into(), key.into());
    entry.insert(column.into(), file.as_str().into());
    entry.extend(caption.map(|caption| ("caption".into(), caption.into())));
    entry.insert("meta".into(), meta.into());
    Some(entry.into())
}

/// The kind of a file whose name does not show it.
fn kind_by_bytes(path: &Path) -> Option<Kind> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    Some(kind::of(&head)?.medium.into())
}

/// The text beside an image, as folders of images have it.
fn beside(path: &Path) -> Option<String> {
    // What lies there is what was pulled; a link, pipe or device was put there by somebody else.
    let about = fs::symlink_metadata(path).ok()?;
    if !about.is_file() || about.len() > LONGEST_CAPTION {
        return None;
    }
    let file = File::open(path).ok()?;
    let mut text = String::new();
    file.take(LONGEST_CAPTION).read_to_string(&mut text).ok()?;
    Some(text.trim_start_matches('\u{feff}').trim().to_owned()).filter(|text| !text.is_empty())
}

/// Keep only the lines of `status.jsonl` about what arrived, so that a new run asks for the rest again.
pub(super) fn keep_arrived(path: &Path) -> Result<(), Error> {
    if !fs::exists(path).map_err(Error::disk(path))? {
        return Ok(());
    }
    let log = Log::open(path, |status| status.outcome == Outcome::Ok)?;
    let mut file = AtomicFile::create(path).map_err(Error::write(path))?;
    log.each(&mut |status| line(&mut file, &status))?;
    file.finish().map_err(Error::write(path))
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, pull};
    use percept_data::{BuildOptions, Kind, Recipe};

    #[test]
    fn recipes_read_the_index_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, out) = (folder.path().join("tree"), folder.path().join("out"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("a.jpg"), b"\xff\xd8\xff picture").unwrap();
        std::fs::write(tree.join("a.txt"), "a caption").unwrap();
        std::fs::write(tree.join("b.wav"), b"RIFF\0\0\0\0WAVE").unwrap();
        pull(&[tree.to_str().unwrap().to_owned()], &out, &Settings::default(), &()).unwrap();
        let recipe = Recipe::parse(&out.join("recipe.toml"), "[[read]]\npath = \"index.jsonl\"").unwrap();
        let corpus = recipe.corpus(&BuildOptions::default()).unwrap();
        let samples: Vec<_> = corpus.draws.map(|draw| draw.make().unwrap()).collect();
        assert_eq!(samples.len(), 2);
        assert_eq!((samples[0].text.as_deref(), samples[0].media[0].kind), (Some("a caption"), Kind::Image));
        assert_eq!(&*samples[0].media[0].bytes, b"\xff\xd8\xff picture");
        assert_eq!(samples[0].meta["url"], tree.join("a.jpg").to_str().unwrap());
        assert_eq!((samples[1].text.as_ref(), samples[1].media[0].kind), (None, Kind::Audio));
        assert_ne!(samples[0].key, samples[1].key);
    }
}
