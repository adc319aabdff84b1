//! Media that rows hold or name.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use super::sniff::sniff;
use crate::reject::Reject;
use crate::sample::{Blob, Kind};

/// Where the files that rows name may be, and how large they may be.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// The folder; nothing outside it is opened.
    pub folder: PathBuf,
    /// Bytes that a sample's media may have.
    pub cap: u64,
}

impl Root {
    /// Read the medium that a row names. What leads out of the folder, by its name or by a link, is refused.
    pub fn load(&self, name: &str, column: Option<Kind>) -> Result<Blob, Reject> {
        if name.contains("://") {
            let why = format!("'{name}' is not a local file; fetch it with `percept data pull`");
            return Err(Reject::new("not-local", why));
        }
        let relative = Path::new(name);
        let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let unsafe_path = || {
            let why = format!("'{name}' leads out of {}", self.folder.display());
            Reject::new("unsafe-path", why)
        };
        if name.contains('\\') || !relative.components().all(stays) {
            return Err(unsafe_path());
        }
        let path = self.folder.join(relative);
        let missing = |e: std::io::Error| Reject::new("missing-file", format!("{}: {e}", path.display()));
        let real = path.canonicalize().map_err(missing)?;
        if !self.folder.canonicalize().is_ok_and(|folder| real.starts_with(folder)) {
            return Err(unsafe_path());
        }
        let file = std::fs::File::open(&real).map_err(missing)?;
        let mut bytes = Vec::new();
        file.take(self.cap + 1).read_to_end(&mut bytes).map_err(missing)?;
        self.blob(bytes, Some(name), column)
    }

    /// A medium of bytes, which may come with a name.
    pub fn blob(&self, bytes: Vec<u8>, name: Option<&str>, column: Option<Kind>) -> Result<Blob, Reject> {
        if bytes.len() as u64 > self.cap {
            let why = format!("{} has more than {} bytes", name.unwrap_or("a medium"), self.cap);
            return Err(Reject::new("too-large", why));
        }
        let extension = name.and_then(|name| Path::new(name).extension()?.to_str());
        let named = extension.and_then(|e| Some((Kind::of_extension(e)?, e.to_ascii_lowercase())));
        let found = sniff(&bytes).map(|(kind, extension)| (kind, extension.to_owned()));
        // Bytes say more than names, but a sound and a video can share a container.
        let fits = |(kind, _): &(Kind, String)| column.is_none_or(|column| column == *kind);
        let agrees = |(kind, _): &(Kind, String)| found.as_ref().is_none_or(|(found, _)| found == kind);
        let (kind, extension) = named
            .clone()
            .filter(|named| fits(named) && agrees(named))
            .or_else(|| found.clone().filter(fits))
            .or_else(|| named.filter(fits))
            .ok_or_else(|| {
                let what = name.unwrap_or("a medium");
                Reject::new(
                    "unknown-format",
                    format!("{what} is of no known format of picture, video or sound"),
                )
            })?;
        Ok(Blob { kind, extension, bytes: bytes.into() })
    }
}
