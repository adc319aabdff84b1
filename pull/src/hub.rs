//! Repositories of a Hugging Face hub: which files they have, pinned to one commit.
//!
//! <https://huggingface.co/docs/hub/api>

use std::io::Read;

use serde::Deserialize;
use ureq::http::header;
use url::Url;

use super::client::Client;
use super::error::Error;
use super::fault::Fault;
use super::item::{Item, Task};
use super::place::{Key, unsafe_path};
use super::status::Outcome;
use super::{Settings, backoff};

/// A longer answer is no listing.
const LONGEST_ANSWER: u64 = 64 << 20;

/// A repository, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Repository {
    dataset: bool,
    owner: String,
    name: String,
    revision: String,
    path: String,
}

#[derive(Deserialize)]
struct Commit {
    sha: String,
}

/// A file or folder that a hub lists.
#[derive(Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    kind: String,
    pub path: String,
    #[serde(default)]
    pub size: Option<u64>,
    /// What git calls its content.
    #[serde(default)]
    pub oid: Option<String>,
    #[serde(default)]
    pub lfs: Option<Lfs>,
}

/// A large file, which the hub keeps beside git.
#[derive(Deserialize)]
pub(super) struct Lfs {
    /// Its SHA-256.
    pub oid: String,
    #[serde(default)]
    pub size: Option<u64>,
}

impl Repository {
    /// `datasets/OWNER/NAME[@REVISION][/PATH]`, or without `datasets/` for a model.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "a repository is written hf://datasets/OWNER/NAME[@REVISION][/PATH]";
        let (dataset, rest) = match text.strip_prefix("datasets/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (owner, rest) = rest.split_once('/').ok_or(FORM)?;
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let (revision, path) = match rest.strip_prefix('@') {
            Some(rest) => {
                // Names such as refs/convert/parquet have slashes; a slash of other branches is written %2F.
                let special = rest
                    .starts_with("refs/")
                    .then(|| rest.match_indices('/').nth(2).map_or(rest.len(), |m| m.0));
                let end = special.unwrap_or_else(|| rest.find('/').unwrap_or(rest.len()));
                let (revision, path) = rest.split_at(end);
                (revision.replace("%2F", "/"), path)
            }
            None => ("main".to_owned(), rest),
        };
        let path = path.trim_matches('/');
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if !plain(owner)
            || !plain(name)
            || revision.is_empty()
            || !path.is_empty() && unsafe_path(path).is_some()
        {
            return Err(FORM.to_owned());
        }
        let (owner, name, path) = (owner.to_owned(), name.to_owned(), path.to_owned());
        Ok(Self { dataset, owner, name, revision, path })
    }

    /// The folder that its files go to.
    pub fn folder(&self) -> String {
        format!("{}--{}", self.owner, self.name)
    }

    /// The address of a file, or of the hub's answers about the repository.
    pub fn address(&self, endpoint: &Url, api: bool, parts: &[&str], path: &str) -> Result<Url, String> {
        let mut url = endpoint.clone();
        let kind = match (self.dataset, api) {
            (true, _) => Some("datasets"),
            (false, true) => Some("models"),
            (false, false) => None,
        };
        let mut segments =
            url.path_segments_mut().map_err(|()| format!("{endpoint} is no address of a hub"))?;
        segments.pop_if_empty().extend(api.then_some("api")).extend(kind).extend([&self.owner, &self.name]);
        segments.extend(parts).extend(path.split('/').filter(|p| !p.is_empty()));
        drop(segments);
        Ok(url)
    }

    /// The commit that the revision names at this moment.
    ///
    /// # Errors
    /// [`Error::Hub`] if the hub does not say.
    pub fn commit(&self, client: &Client, endpoint: &Url, settings: &Settings) -> Result<String, Error> {
        let hub = |why: String| Error::Hub { repository: self.to_string(), why };
        let url = self.address(endpoint, true, &["revision", &self.revision], "").map_err(hub)?;
        let (commit, _) = ask::<Commit>(client, &url, settings).map_err(|fault| hub(explain(fault)))?;
        if !(1..=64).contains(&commit.sha.len()) || !commit.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(hub("the hub names no commit".into()));
        }
        Ok(commit.sha)
    }

    /// Give each file at the top of the repository to `each`.
    ///
    /// # Errors
    /// [`Error::Hub`] if the repository cannot be listed.
    pub fn top(
        &self,
        client: &Client,
        endpoint: &Url,
        settings: &Settings,
        commit: &str,
        each: &mut dyn FnMut(Entry),
    ) -> Result<(), Error> {
        let mut only = |entry: Entry| {
            if !entry.path.contains('/') {
                each(entry);
            }
            Ok(())
        };
        self.pages(client, endpoint, settings, commit, "", &mut only).map_err(|trouble| match trouble {
            Trouble::Fault(fault) => Error::Hub { repository: self.to_string(), why: explain(fault) },
            Trouble::Error(error) => error,
        })
    }

    /// Give each file of the repository to `emit`.
    ///
    /// # Errors
    /// [`Error::Hub`] if the repository cannot be listed.
    pub fn list(
        &self,
        client: &Client,
        endpoint: &Url,
        settings: &Settings,
        into: &str,
        emit: &mut dyn FnMut(Item) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let hub = |why: String| Error::Hub { repository: self.to_string(), why };
        let commit = self.commit(client, endpoint, settings)?;
        let mut found = false;
        let mut each = |entry: Entry| -> Result<(), Error> {
            found = true;
            let url = self.address(endpoint, false, &["resolve", &commit], &entry.path).map_err(hub)?;
            emit(file(url, &entry, into))
        };
        match self.pages(client, endpoint, settings, &commit, &self.path, &mut each) {
            // The path may be a file's, which is listed with its folder.
            Err(Trouble::Fault(fault)) if fault.http == Some(404) && !self.path.is_empty() => {
                let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let mut only = |entry: Entry| if entry.path == self.path { each(entry) } else { Ok(()) };
                self.pages(client, endpoint, settings, &commit, folder, &mut only)
            }
            other => other,
        }
        .map_err(|trouble| match trouble {
            Trouble::Fault(fault) => hub(explain(fault)),
            Trouble::Error(error) => error,
        })?;
        if found { Ok(()) } else { Err(hub("there are no files there".into())) }
    }

    fn pages(
        &self,
        client: &Client,
        endpoint: &Url,
        settings: &Settings,
        commit: &str,
        folder: &str,
        each: &mut dyn FnMut(Entry) -> Result<(), Error>,
    ) -> Result<(), Trouble> {
        let invalid = |why: String| Trouble::Fault(Fault::last(Outcome::Http, why));
        let mut url = self.address(endpoint, true, &["tree", commit], folder).map_err(invalid)?;
        url.set_query(Some("recursive=true"));
        // A hub that never ends its listing is stopped, if late.
        for _ in 0..1 << 16 {
            let (entries, next) = ask::<Vec<Entry>>(client, &url, settings).map_err(Trouble::Fault)?;
            for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
                each(entry).map_err(Trouble::Error)?;
            }
            match next {
                None => return Ok(()),
                Some(next) if next.origin() == endpoint.origin() => url = next,
                Some(next) => return Err(invalid(format!("its listing continues at another host, {next}"))),
            }
        }
        Err(invalid("its listing does not end".into()))
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.dataset { "datasets/" } else { "" };
        write!(f, "hf://{kind}{}/{}@{}", self.owner, self.name, self.revision)
    }
}

enum Trouble {
    Fault(Fault),
    Error(Error),
}

fn file(url: Url, entry: &Entry, into: &str) -> Item {
    if let Some(why) = unsafe_path(&entry.path) {
        return Item::bad(url, Outcome::Invalid, why);
    }
    let mut item = Item::new(url, Task::Hub { to: format!("{into}/{}", entry.path) });
    item.bytes = entry.lfs.as_ref().and_then(|lfs| lfs.size).or(entry.size);
    item.sha256 = entry.lfs.as_ref().map(|lfs| lfs.oid.clone());
    item
}

fn explain(fault: Fault) -> String {
    match fault.http {
        Some(401 | 403) => format!("{}; for a private or gated repository, set HF_TOKEN", fault.reason),
        Some(404) => format!("{}; there is no such repository, revision or path", fault.reason),
        _ => fault.reason,
    }
}

/// Ask for JSON, and for the address of the next page if there is one.
fn ask<T: for<'a> Deserialize<'a>>(
    client: &Client,
    url: &Url,
    settings: &Settings,
) -> Result<(T, Option<Url>), Fault> {
    let mut spent = 0;
    loop {
        std::thread::sleep(client.hosts.reserve(url));
        let fault = match ask_once(client, url) {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        match backoff::pause(settings, Key::of(url.as_str()), &mut spent, &fault) {
            Some(pause) => std::thread::sleep(pause),
            None => return Err(fault),
        }
    }
}

fn ask_once<T: for<'a> Deserialize<'a>>(client: &Client, url: &Url) -> Result<(T, Option<Url>), Fault> {
    let answer = client.get(url, None)?;
    if answer.status != 200 {
        return Err(Fault::status(answer.status, answer.retry_after()));
    }
    let next = answer.header(header::LINK).and_then(next_page).and_then(|link| url.join(link).ok());
    let mut text = Vec::new();
    answer.body.take(LONGEST_ANSWER).read_to_end(&mut text)?;
    let why =
        |e: serde_json::Error| Fault::passing(Outcome::Corrupt, format!("{url} is not a hub's answer: {e}"));
    Ok((serde_json::from_slice(&text).map_err(why)?, next))
}

/// The target of `rel="next"` in a `Link` header.
fn next_page(links: &str) -> Option<&str> {
    links.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next")).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_understood() {
        let of = |text: &str| {
            let r = Repository::parse(text).unwrap();
            (r.dataset, format!("{}/{}", r.owner, r.name), r.revision, r.path)
        };
        let expect = |dataset: bool, name: &str, revision: &str, path: &str| {
            (dataset, name.to_owned(), revision.to_owned(), path.to_owned())
        };
        assert_eq!(of("datasets/a/b"), expect(true, "a/b", "main", ""));
        assert_eq!(of("a/b.c/"), expect(false, "a/b.c", "main", ""));
        assert_eq!(of("datasets/a/b@v1/x/y.tar"), expect(true, "a/b", "v1", "x/y.tar"));
        assert_eq!(
            of("datasets/a/b@refs/convert/parquet/x"),
            expect(true, "a/b", "refs/convert/parquet", "x")
        );
        assert_eq!(of("datasets/a/b@feature%2Fx"), expect(true, "a/b", "feature/x", ""));
        for bad in ["", "a", "a/", "/b", "datasets/a", "a/b@", "../b", "a/b/../../c", "a b/c", "a/b?x"] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_escape_what_paths_may_hold() {
        let r = Repository::parse("datasets/a/b@refs/pr/1").unwrap();
        let hub = Url::parse("https://hub.example/mirror/").unwrap();
        let url = r.address(&hub, true, &["tree", &r.revision], "x y/#1").unwrap();
        assert_eq!(url.as_str(), "https://hub.example/mirror/api/datasets/a/b/tree/refs%2Fpr%2F1/x%20y/%231");
        let url = Repository::parse("a/b").unwrap().address(&hub, false, &["resolve", "c0"], "w").unwrap();
        assert_eq!(url.as_str(), "https://hub.example/mirror/a/b/resolve/c0/w");
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        assert_eq!(
            next_page("<https://h/1>; rel=\"prev\", <https://h/2?a=1>; rel=\"next\""),
            Some("https://h/2?a=1")
        );
        assert_eq!(next_page("<https://h/1>; rel=\"prev\""), None);
        assert_eq!(next_page("junk"), None);
    }
}
