//! `percept data pull` against servers that break every rule, folders, hubs, and kill -9.

mod hostile;
mod hub;
mod killed;
mod local;
mod web;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use percept_pull::{AllowPrivate, Outcome, Settings, Status};
use serde_json::Value;

use hostile::Server;

/// Quick settings that let one server's private address through.
fn settings(server: &Server) -> Settings {
    Settings {
        allow_private: AllowPrivate::Hosts(vec![server.host()]),
        timeout: Duration::from_millis(700),
        backoff: Duration::from_millis(20),
        retries: 3,
        ..Settings::default()
    }
}

/// The lines of `status.jsonl` in order.
fn statuses(out: &Path) -> Vec<Status> {
    let text = fs::read_to_string(out.join("status.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn index(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("index.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All files that a pull left, by path, without what it keeps for itself.
fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true if name == ".pull" => {}
                true => walk(root, &path, found),
                false => {
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(out, out, &mut found);
    found
}

/// A status holds, and its file has its hash.
fn assert_arrived(out: &Path, status: &Status, bytes: &[u8]) {
    assert_eq!(status.outcome, Outcome::Ok, "{status:?}");
    assert_eq!(status.sha256.as_deref(), Some(&*hostile::sha256(bytes)), "{status:?}");
    assert_eq!(status.bytes, Some(bytes.len() as u64));
    assert!(fs::read(out.join(status.file.as_ref().unwrap())).unwrap() == bytes, "{status:?}");
}

fn list(folder: &Path, urls: impl IntoIterator<Item = String>) -> String {
    let path = folder.join("list.txt");
    fs::write(&path, urls.into_iter().collect::<Vec<_>>().join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}
