//! The files of a local folder, in the order of their names.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use super::error::Error;
use super::item::{Item, Task};
use super::place::unsafe_path;
use super::status::Outcome;

/// Give each file below `root` to `emit`, to be put under `into`. The folder `out` is left out if it lies
/// below.
///
/// # Errors
/// [`Error::Disk`] if `root` itself cannot be listed; what is wrong further down is in the items.
pub(super) fn list(
    root: &Path,
    into: &str,
    out: &Path,
    emit: &mut dyn FnMut(Item) -> Result<(), Error>,
) -> Result<(), Error> {
    let inside = fs::canonicalize(root).map_err(Error::disk(root))?;
    Walk { inside: &inside, out: &fs::canonicalize(out).map_err(Error::disk(out))?, emit }.folder(root, into)
}

struct Walk<'a> {
    inside: &'a Path,
    out: &'a Path,
    emit: &'a mut dyn FnMut(Item) -> Result<(), Error>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, into: &str) -> Result<(), Error> {
        let names = fs::read_dir(folder).and_then(|entries| {
            entries.map(|e| e.map(|e| e.file_name())).collect::<io::Result<Vec<OsString>>>()
        });
        let mut names = match names {
            Ok(names) => names,
            Err(error) if fs::canonicalize(folder).is_ok_and(|f| f == self.inside) => {
                return Err(Error::disk(folder)(error));
            }
            Err(error) => return self.bad(folder, Outcome::Invalid, &error.to_string()),
        };
        names.sort_unstable();
        for name in names {
            self.entry(&folder.join(&name), &name, into)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &OsString, into: &str) -> Result<(), Error> {
        let (Some(text), Some(name)) = (path.to_str(), name.to_str()) else {
            return self.bad(path, Outcome::Invalid, "its name is not UTF-8");
        };
        let to = format!("{into}/{name}");
        if let Some(why) = unsafe_path(&to) {
            return self.bad(path, Outcome::Invalid, why);
        }
        let kind = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) => return self.bad(path, Outcome::Invalid, &error.to_string()),
        };
        if kind.is_dir() {
            let is_out = fs::canonicalize(path).is_ok_and(|p| p == self.out);
            return if is_out { Ok(()) } else { self.folder(path, &to) };
        }
        if kind.is_symlink() {
            match fs::canonicalize(path) {
                Ok(target) if !target.starts_with(self.inside) => {
                    return self.bad(path, Outcome::Refused, "it is a link that leads out of the folder");
                }
                // Its files are found where they are; following it here could go round in circles.
                Ok(target) if target.is_dir() => return Ok(()),
                Ok(target) if target.is_file() => {}
                Ok(_) => return self.bad(path, Outcome::Invalid, "it is no regular file"),
                Err(error) => return self.bad(path, Outcome::Invalid, &error.to_string()),
            }
        } else if !kind.is_file() {
            return self.bad(path, Outcome::Invalid, "it is no regular file");
        }
        (self.emit)(Item::new(text, Task::Local { from: text.to_owned(), to, tar: false }))
    }

    fn bad(&mut self, path: &Path, outcome: Outcome, why: &str) -> Result<(), Error> {
        (self.emit)(Item::bad(path.to_string_lossy(), outcome, why))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_come_in_order_and_what_leads_out_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        let out = root.join("out");
        fs::create_dir_all(root.join("b")).unwrap();
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("mine"), "").unwrap();
        for file in ["b/2.txt", "b/1.txt", "a.txt", "c.txt"] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::write(folder.path().join("secret"), "").unwrap();
        symlink("../secret", root.join("d")).unwrap();
        symlink("c.txt", root.join("e.txt")).unwrap();
        symlink("..", root.join("b/round")).unwrap();
        symlink("nowhere", root.join("f")).unwrap();
        fs::write(root.join(OsString::from_vec(b"g\xff".to_vec())), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("h")).unwrap();
        let mut found = Vec::new();
        list(&root, "tree", &out, &mut |item| {
            found.push(match item.task {
                Task::Local { to, .. } => to,
                Task::Bad { outcome, reason } => format!("{}: {reason}", outcome.name()),
                other => panic!("{other:?}"),
            });
            Ok(())
        })
        .unwrap();
        assert_eq!(found[..4], ["tree/a.txt", "tree/b/1.txt", "tree/b/2.txt", "tree/c.txt"]);
        assert_eq!(found[4], "refused: it is a link that leads out of the folder");
        assert_eq!(found[5], "tree/e.txt");
        assert!(found[6].starts_with("invalid: "));
        assert_eq!(found[7..], ["invalid: its name is not UTF-8", "invalid: it is no regular file"]);
    }
}
