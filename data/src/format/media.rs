//! Media that rows hold or name.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use percept_modalities::Source;

use super::left_out::shown;
use super::named::{Found, Named, Refusal};
use super::sniff::{sniff, unread};
use crate::reject::Reject;
use crate::sample::{Blob, Kind};

/// Bytes at the start of a file that show its kind.
pub(super) const HEAD: u64 = 1 << 12;

/// Where the files that rows name may be, and how large they may be.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// The folder; nothing outside it is opened.
    pub folder: PathBuf,
    /// Bytes that a sample's media may have.
    pub cap: u64,
    /// Told what was found where rows name files.
    named: Named,
}

impl Root {
    /// A folder, which may be the one that a path without any names: the one where the program runs.
    pub fn new(folder: &Path, cap: u64, named: Named) -> Self {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self { folder: folder.to_path_buf(), cap, named }
    }

    /// Open a regular file of the folder. What leads out of it, by its name or by a link, is refused, and so
    /// is what is no file, such as a device or a pipe, before it is opened.
    pub fn open(&self, name: &str) -> Result<File, Reject> {
        if name.contains("://") {
            let why = format!("'{}' is not a local file; fetch it with `percept data pull`", shown(name));
            return Err(Reject::new("not-local", why));
        }
        let relative = self.inside(name);
        let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let unsafe_path = || {
            let folder = self.folder.display();
            let why = format!(
                "'{}' leads out of {folder}: only files below it are opened, by names without '..'; `root` names another folder",
                shown(name)
            );
            Reject::new("unsafe-path", why)
        };
        if name.contains('\\') || !relative.components().all(stays) {
            return Err(unsafe_path());
        }
        let path = self.folder.join(&relative);
        let refuse = |refused: Refusal| self.named.note(&path, || Found::Refused { refused });
        let missing = |e: std::io::Error| {
            refuse(Refusal::of(&path));
            Reject::new("missing-file", format!("{}: {e}", self.folder.join(shown(name)).display()))
        };
        let real = path.canonicalize().map_err(missing)?;
        if !self.folder.canonicalize().is_ok_and(|folder| real.starts_with(folder)) {
            refuse(Refusal::LeadsTo(real.to_string_lossy().into_owned()));
            return Err(unsafe_path());
        }
        if !real.metadata().map_err(missing)?.is_file() {
            refuse(Refusal::Unreadable);
            return Err(Reject::new("no-file", format!("'{}' is no regular file", shown(name))));
        }
        File::open(&real).map_err(missing)
    }

    /// A name as it is seen from the folder. A whole path may name the folder itself.
    fn inside(&self, name: &str) -> PathBuf {
        let name = Path::new(name);
        let below = |folder: std::io::Result<PathBuf>| name.strip_prefix(folder.ok()?).ok();
        let relative = name
            .is_absolute()
            .then(|| below(std::path::absolute(&self.folder)).or_else(|| below(self.folder.canonicalize())));
        relative.flatten().unwrap_or(name).to_path_buf()
    }

    /// The bytes of a file of the folder, up to a cap.
    pub fn bytes(&self, name: &str, cap: u64) -> Result<Vec<u8>, Reject> {
        let unread = |e: std::io::Error| Reject::new("unreadable", format!("'{}': {e}", shown(name)));
        let file = self.open(name)?;
        let path = self.folder.join(self.inside(name));
        let too_large = || {
            self.named.note(&path, || Found::at(&path, self.cap));
            Reject::new("too-large", format!("'{}' has more than {cap} bytes", shown(name)))
        };
        if file.metadata().map_err(unread)?.len() > cap {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        file.take(cap.saturating_add(1)).read_to_end(&mut bytes).map_err(unread)?;
        if bytes.len() as u64 > cap {
            return Err(too_large());
        }
        self.named.note(&path, || match bytes.len() as u64 <= self.cap {
            true => Found::of(&bytes),
            false => Found::at(&path, self.cap),
        });
        Ok(bytes)
    }

    /// Read the medium that a row names, or holds as a `data:` URL.
    pub fn load(&self, name: &str, column: Option<Kind>) -> Result<Blob, Reject> {
        if name.starts_with("data:") {
            let malformed = |why: String| Reject::new("malformed", why);
            return match Source::of(name).map_err(|e| malformed(e.to_string()))? {
                Source::Bytes(bytes) => self.blob(bytes, None, column),
                Source::File(name) => Err(malformed(format!("'{}' holds no data", shown(&name)))),
            };
        }
        self.blob(self.bytes(name, self.cap)?, Some(name), column)
    }

    /// A medium of bytes, which may come with a name.
    pub fn blob(&self, bytes: Vec<u8>, name: Option<&str>, column: Option<Kind>) -> Result<Blob, Reject> {
        if bytes.len() as u64 > self.cap {
            let why = format!("{} has more than {} bytes", shown(name.unwrap_or("a medium")), self.cap);
            return Err(Reject::new("too-large", why));
        }
        let (kind, extension) = identify(&bytes, name, column)?;
        Ok(Blob { kind, extension, bytes: bytes.into() })
    }

    /// The kind of the medium that a value names, if there is such a file.
    pub fn named_kind(&self, name: &str) -> Option<Kind> {
        if name.len() > 1024 || name.contains('\n') {
            return None;
        }
        let extension = Path::new(name).extension()?.to_str()?;
        let kind = Kind::of_extension(extension)?;
        self.open(name).ok().map(|_| kind)
    }
}

/// What a medium is: its kind, which is the column's where there is one, and an extension that says so.
///
/// The bytes count more than the name. Where both fit the name decides, since images and audio share
/// containers.
pub(super) fn identify(
    bytes: &[u8],
    name: Option<&str>,
    column: Option<Kind>,
) -> Result<(Kind, String), Reject> {
    let named = name.and_then(|name| Path::new(name).extension()?.to_str()).map(str::to_ascii_lowercase);
    let by_name = named.as_deref().and_then(Kind::of_extension);
    let found = sniff(bytes);
    let kind = match (&found, column) {
        (Some(found), Some(column)) => found.holds(column).then_some(column),
        (Some(found), None) => Some(by_name.filter(|kind| found.holds(*kind)).unwrap_or(found.kind())),
        (None, _) if unread(bytes).is_some() => None,
        (None, Some(column)) => by_name.filter(|kind| *kind == column),
        (None, None) => by_name,
    };
    let Some(kind) = kind else {
        let what = shown(name.unwrap_or("a medium"));
        let why = match (found, unread(bytes)) {
            (Some(found), _) => format!("is {}, and no {}", found.name(), word(column)),
            (None, Some(known)) => format!("is {known}, which is not read"),
            (None, None) => "is of no known format of image, video or audio".to_owned(),
        };
        return Err(Reject::new("unknown-format", format!("{what} {why}")));
    };
    let extension = match (named, found) {
        (Some(named), _) if by_name == Some(kind) => named,
        (_, Some(found)) => found.extension_as(kind).to_owned(),
        (named, None) => named.unwrap_or_default(),
    };
    Ok((kind, extension))
}

/// What a kind is called in a sentence.
pub(super) fn word(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Image) => "image",
        Some(Kind::Video) => "video",
        Some(Kind::Audio) => "audio",
        None => "medium",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_path_may_name_what_lies_in_the_folder_and_nothing_else() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&here, &there] {
            std::fs::write(folder.path().join("a.txt"), "a").unwrap();
        }
        let root = Root::new(here.path(), 1 << 20, Named::default());
        let name = |folder: &Path, rest: &str| folder.join(rest).to_str().unwrap().to_owned();
        assert_eq!(root.bytes(&name(here.path(), "a.txt"), 10).unwrap(), b"a");
        for outside in
            [name(there.path(), "a.txt"), name(here.path(), "../a.txt"), name(here.path(), "x/../a.txt")]
        {
            let reject = root.bytes(&outside, 10).unwrap_err();
            assert_eq!(reject.reason, "unsafe-path", "{outside}: {}", reject.detail);
        }
    }
}
