//! What is to be had, written down before any of it is fetched.
//!
//! A run that was cut off continues with the plan that it began with, so a list or repository that changes
//! meanwhile changes nothing. A finished run removes its plan, and the next one makes a new one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use percept_data::hash::hash_file;
use percept_files::AtomicFile;
use serde::{Deserialize, Serialize};
use url::Url;

use super::address::AllowPrivate;
use super::client::Client;
use super::error::Error;
use super::fetch::{self, Trouble, Want};
use super::item::{Item, Task};
use super::place::Key;
use super::source::{FileLocation, Format, Source};
use super::{Folder, Settings, list, tree};

/// What a plan was made for; another request needs another plan.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wish {
    version: String,
    sources: Vec<String>,
    /// The SHA-256 of the local lists among the sources: a plan says what they said. Of other files it says
    /// the names alone.
    lists: Vec<Option<String>>,
    endpoint: String,
    allow_private: AllowPrivate,
    max_bytes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    wish: Wish,
    items: u64,
}

/// A finished plan on the disk.
pub(super) struct PullPlan {
    path: PathBuf,
    pub items: u64,
}

impl PullPlan {
    /// The plan of a run that was cut off, if there is one for the same request.
    pub fn resume(folder: &Folder, sources: &[String], settings: &Settings) -> Option<Self> {
        let head: Head = serde_json::from_slice(&fs::read(folder.plan_head()).ok()?).ok()?;
        let same = head.wish == Wish::of(sources, settings) && folder.plan().exists();
        same.then(|| Self { path: folder.plan(), items: head.items })
    }

    /// Make a plan: list folders and repositories, read lists.
    pub fn make(
        folder: &Folder,
        sources: &[String],
        parsed: Vec<Source>,
        client: &Client,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let wish = Wish::of(sources, settings);
        let head = folder.plan_head();
        if head.exists() {
            fs::remove_file(&head).map_err(Error::disk(&head))?;
        }
        let path = folder.plan();
        let file = AtomicFile::create(&path).map_err(Error::write(&path))?;
        let mut planner =
            Planner { folder, client, settings, file, names: HashSet::new(), tops: HashSet::new(), items: 0 };
        for source in parsed {
            planner.source(source)?;
        }
        let items = planner.items;
        planner.file.finish().map_err(Error::write(&path))?;
        let json = serde_json::to_vec(&Head { wish, items }).map_err(std::io::Error::from);
        json.and_then(|json| percept_files::write(&head, &json)).map_err(Error::write(&head))?;
        Ok(Self { path, items })
    }

    /// Its items, in order.
    pub fn items(&self) -> Result<Items, Error> {
        let file = File::open(&self.path).map_err(Error::disk(&self.path))?;
        Ok(Items {
            path: self.path.clone(),
            reader: BufReader::with_capacity(1 << 18, file),
            line: String::new(),
        })
    }

    /// Remove the plan.
    pub fn remove(self, folder: &Folder) -> Result<(), Error> {
        // Its head goes first: without that there is no plan.
        for path in [folder.plan_head(), self.path] {
            fs::remove_file(&path).map_err(Error::disk(&path))?;
        }
        Ok(())
    }
}

impl Wish {
    fn of(sources: &[String], settings: &Settings) -> Self {
        let list = |source: &String| {
            let path = Path::new(source);
            let is_list = path.is_file() && path.extension().is_none_or(|extension| extension != "tar");
            if is_list { Some(hash_file(path, u64::MAX, &|_| {}).ok()?.1) } else { None }
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sources: sources.to_vec(),
            lists: sources.iter().map(list).collect(),
            endpoint: settings.endpoint.clone(),
            allow_private: settings.allow_private.clone(),
            max_bytes: settings.max_bytes,
        }
    }
}

/// Reads a plan.
pub(super) struct Items {
    path: PathBuf,
    reader: BufReader<File>,
    line: String,
}

impl Items {
    pub fn next(&mut self) -> Result<Option<Item>, Error> {
        self.line.clear();
        if self.reader.read_line(&mut self.line).map_err(Error::disk(&self.path))? == 0 {
            return Ok(None);
        }
        let item = serde_json::from_str(&self.line).map_err(std::io::Error::from);
        item.map(Some).map_err(Error::disk(&self.path))
    }
}

struct Planner<'a> {
    folder: &'a Folder,
    client: &'a Client,
    settings: &'a Settings,
    file: AtomicFile,
    /// Places that are taken.
    names: HashSet<String>,
    /// Folders that are taken by a source as a whole.
    tops: HashSet<String>,
    items: u64,
}

impl Planner<'_> {
    fn source(&mut self, source: Source) -> Result<(), Error> {
        let (folder, client, settings) = (self.folder, self.client, self.settings);
        match source {
            Source::Tree(root) => {
                let name = fs::canonicalize(&root).map_err(Error::disk(&root))?;
                let into = self.top(&name.file_name().unwrap_or("root".as_ref()).to_string_lossy());
                tree::list(&root, &into, &folder.root, &mut |item| self.emit(item))
            }
            Source::Hub(repository) => {
                let endpoint = settings.endpoint()?;
                let into = self.top(&repository.folder());
                repository.list(client, &endpoint, settings, &into, &mut |item| self.emit(item))
            }
            Source::List(FileLocation::Local(path), format) => {
                let name = path.to_string_lossy().into_owned();
                list::read(&path, format, &name, &mut |item| self.emit(item))
            }
            Source::List(FileLocation::Web(url), format) => {
                let path = self.fetch_list(&url, format)?;
                list::read(&path, format, url.as_str(), &mut |item| self.emit(item))?;
                fs::remove_file(&path).map_err(Error::disk(&path))
            }
            Source::Tar(FileLocation::Local(path)) => {
                let to = self.tar(&path.file_name().unwrap_or_default().to_string_lossy());
                let Some(from) = path.to_str().map(str::to_owned) else {
                    return Err(Error::Usage(format!("{}: its name is not UTF-8", path.display())));
                };
                self.emit(Item::new(from.clone(), Task::Local { from, to, tar: true }))
            }
            Source::Tar(FileLocation::Web(url)) => {
                let to = self.tar(url.path_segments().and_then(|mut s| s.next_back()).unwrap_or_default());
                self.emit(Item::new(url, Task::Tar { to }))
            }
            Source::File(url) => self.emit(Item::new(url, Task::Sample)),
        }
    }

    fn emit(&mut self, item: Item) -> Result<(), Error> {
        let line = serde_json::to_writer(&mut self.file, &item).map_err(std::io::Error::from);
        let line = line.and_then(|()| self.file.write_all(b"\n"));
        line.map_err(Error::write(self.file.place()))?;
        self.items += 1;
        Ok(())
    }

    /// A folder of its own for a source.
    fn top(&mut self, name: &str) -> String {
        let plain = plain(name);
        // These names have a meaning in the folder of a pull.
        let reserved = matches!(plain.as_str(), "files" | "tars" | "status.jsonl" | "index.jsonl");
        let first = if reserved { format!("{plain}-1") } else { plain };
        let name = free(&first, "", &self.tops);
        self.tops.insert(name.clone());
        name
    }

    /// A place for a tar.
    fn tar(&mut self, name: &str) -> String {
        let name = plain(name);
        let stem = name.strip_suffix(".tar").unwrap_or(&name);
        let place = free(&format!("tars/{stem}"), ".tar", &self.names);
        self.names.insert(place.clone());
        place
    }

    fn fetch_list(&self, url: &Url, format: Format) -> Result<PathBuf, Error> {
        let extension = format!("{format:?}").to_ascii_lowercase();
        let path = self.folder.lists().join(format!("{}.{extension}", Key::of(url.as_str())));
        let want = Want {
            url,
            cap: self.settings.max_bytes,
            bytes: None,
            sha256: None,
            robots: false,
            may_be_empty: true,
        };
        match fetch::patiently(self.client, &want, &self.folder.parts(), &path, self.settings, &|_| ()) {
            Ok(()) => Ok(path),
            Err(Trouble::Fault(fault)) => Err(Error::list(url.as_str())(fault.reason)),
            Err(Trouble::Disk(error)) => Err(Error::disk(&path)(error)),
        }
    }
}

/// A file's name in characters that every system takes.
fn plain(name: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = name.chars().take(100).map(safe).collect();
    if name.starts_with('.') || name.is_empty() { format!("_{name}") } else { name }
}

/// `STEM` and `END`, with a number between them if that is taken.
fn free(stem: &str, end: &str, taken: &HashSet<String>) -> String {
    let names = (1_u64..).map(|n| if n == 1 { format!("{stem}{end}") } else { format!("{stem}-{n}{end}") });
    // There are more numbers than names.
    { names }.find(|name| !taken.contains(name)).unwrap_or_default()
}
