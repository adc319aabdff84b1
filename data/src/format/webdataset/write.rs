//! Writing shards.

use std::path::{Path, PathBuf};

use super::files::Conversation;
use super::names::check_key;
use crate::error::{Error, Result};
use crate::format::Fault;
use crate::format::hashed::Hashed;
use crate::sample::{Kind, Sample};

/// Writes one shard, which appears when it is finished.
pub struct Writer {
    tar: tar::Builder<Hashed>,
    last_key: Option<String>,
    samples: u64,
}

/// A shard that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The path of the shard.
    pub path: PathBuf,
    /// The number of its samples.
    pub samples: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Writer {
    /// Begin the shard `path`.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { tar: tar::Builder::new(Hashed::create(path)?), last_key: None, samples: 0 })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.tar.get_ref().bytes()
    }

    /// Samples written so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Add a sample. One that could not be read back is an [`Error::Sample`] and nothing of it is written.
    pub fn push(&mut self, sample: &Sample) -> Result<()> {
        let path = || self.tar.get_ref().place().to_path_buf();
        let refused = |fault| Error::Sample { path: path(), key: sample.key.clone(), fault };
        check(sample).map_err(refused)?;
        if self.last_key.as_ref() == Some(&sample.key) {
            return Err(refused(Fault::Twice { file: sample.key.clone() }));
        }
        let (messages, meta) = (sample.messages.as_slice(), &sample.meta);
        let json = serde_json::to_vec(&Conversation { messages, meta });
        let json = json.map_err(|e| refused(Fault::Json { file: "json".to_string(), why: e.to_string() }))?;

        let mut files = Vec::new();
        for (at, medium) in sample.media.iter().enumerate() {
            let place = if sample.media.len() == 1 { String::new() } else { format!("{at}.") };
            files.push((format!("{place}{}", medium.extension), &*medium.bytes));
        }
        if let Some(text) = &sample.text {
            files.push(("txt".to_string(), text.as_bytes()));
        }
        // A sample of nothing keeps its key.
        if !messages.is_empty() || !meta.is_empty() || files.is_empty() {
            files.push(("json".to_string(), &json));
        }
        for (end, bytes) in files {
            let mut header = tar::Header::new_gnu();
            // Without a type, Python's reader takes a long name that is cut behind a slash for a folder.
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            let written = self.tar.append_data(&mut header, format!("{}.{end}", sample.key), bytes);
            written.map_err(Error::write(self.tar.get_ref().place()))?;
        }
        self.last_key = Some(sample.key.clone());
        self.samples += 1;
        Ok(())
    }

    /// Rename the shard to its final name.
    pub fn finish(self) -> Result<Written> {
        let path = self.tar.get_ref().place().to_path_buf();
        self.tar.into_inner().map_err(Error::write(&path))?.finish(self.samples)
    }
}

/// Whether a reader would find the same sample.
fn check(sample: &Sample) -> Result<(), Fault> {
    check_key(&sample.key)?;
    for medium in &sample.media {
        if Kind::of_extension(&medium.extension) != Some(medium.kind)
            || medium.extension.bytes().any(|b| b.is_ascii_uppercase())
        {
            let why = "is not a lower-case extension of its kind of medium";
            return Err(Fault::Name { name: medium.extension.clone(), why });
        }
    }
    Ok(())
}
