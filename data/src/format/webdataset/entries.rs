//! The entries of a tar file, one after the other.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::names::{self, Name};
use crate::format::Fault;

/// Tar files are made of blocks of this size.
pub(super) const BLOCK: u64 = 512;

/// The most that the longer forms of names may take.
const LONG_NAME: u64 = 1 << 20;

/// Where a tar file is read from.
pub(super) trait Source: Read {
    /// Pass over bytes, which must be there.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;

    /// End reading, where what was read is kept.
    fn finish(self) -> io::Result<()>
    where
        Self: Sized,
    {
        Ok(())
    }
}

/// What a tar file holds.
pub(super) struct Entry {
    pub member: Member,
    /// Bytes of its body.
    pub size: u64,
}

/// What an entry is to a shard.
pub(super) enum Member {
    /// A file of a sample.
    File(Name),
    /// What cannot be a file of a sample.
    Bad(String, Fault),
    /// Folders, and files that readers of shards skip, with what they are if that is worth a word.
    Other(Option<&'static str>),
}

impl Entry {
    /// Whether a sample begins here, after files of `current`: always after what has no key.
    pub fn begins(&self, current: Option<&str>) -> bool {
        match &self.member {
            Member::File(name) => current != Some(&name.key),
            Member::Bad(..) => true,
            Member::Other(_) => false,
        }
    }
}

/// Reads entries. After each the body must be read or skipped.
pub(super) struct Entries<S> {
    source: S,
    /// Bytes read or skipped.
    pub at: u64,
    /// Whether the file may end without its mark, as a part of one does.
    is_part: bool,
    /// Whether it ended so.
    pub is_open: bool,
}

impl<S: Source> Entries<S> {
    pub fn new(source: S, is_part: bool) -> Self {
        Self { source, at: 0, is_part, is_open: false }
    }

    /// What is read from.
    pub fn into_source(self) -> S {
        self.source
    }

    /// The next entry, or what is wrong with the rest of the file.
    pub fn next(&mut self) -> Result<Option<Entry>, String> {
        let (mut long_name, mut sparse_name, mut long_size, mut is_sparse) = (None, None, None, false);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|e| self.damage(&e.to_string()))?;
            let kind = header.entry_type();
            if matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader) {
                if size > LONG_NAME {
                    return Err(self.damage(&format!("the name of an entry takes {size} bytes")));
                }
                let bytes = self.body(size)?;
                if kind == EntryType::GNULongName {
                    long_name = Some(bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec());
                } else if kind == EntryType::XHeader {
                    for extension in tar::PaxExtensions::new(&bytes) {
                        let extension = extension.map_err(|e| self.damage(&e.to_string()))?;
                        match extension.key_bytes() {
                            b"path" => long_name = Some(extension.value_bytes().to_vec()),
                            b"size" => {
                                let size = extension.value().ok().and_then(|size| size.parse().ok());
                                long_size = Some(size.ok_or_else(|| self.damage("a size is no number"))?);
                            }
                            b"GNU.sparse.name" => {
                                (is_sparse, sparse_name) = (true, Some(extension.value_bytes().to_vec()));
                            }
                            key if key.starts_with(b"GNU.sparse.") => is_sparse = true,
                            _ => {}
                        }
                    }
                }
                continue;
            }
            let name = sparse_name.take().or(long_name.take());
            let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
            // More places of its parts stand in blocks of their own, which its size does not count.
            let mut is_extended =
                kind == EntryType::GNUSparse && header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
            while is_extended {
                is_extended = self.body(BLOCK)?.get(504).is_some_and(|more| *more == 1);
            }
            let member = match is_sparse || kind == EntryType::GNUSparse {
                true => sparse(&name),
                false => member(kind, &name),
            };
            return Ok(Some(Entry { member, size: long_size.unwrap_or(size) }));
        }
    }

    /// The body of an entry.
    pub fn body(&mut self, size: u64) -> Result<Vec<u8>, String> {
        // Memory is taken as bytes arrive, whatever the header claims.
        let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
        let read = self
            .source
            .by_ref()
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|e| self.damage(&e.to_string()))?;
        self.at += read as u64;
        if (read as u64) < size {
            return Err(self.damage("it ends in the middle of a file"));
        }
        self.skip(padding(size))?;
        Ok(bytes)
    }

    /// Pass over the body of an entry.
    pub fn skip_body(&mut self, size: u64) -> Result<(), String> {
        let padded = size.checked_add(padding(size)).ok_or_else(|| self.damage("a size is out of range"))?;
        self.skip(padded)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), String> {
        self.source.skip(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damage("it ends in the middle of a file"),
            _ => self.damage(&e.to_string()),
        })?;
        self.at += bytes;
        Ok(())
    }

    /// The next header; `None` at the mark of the end.
    fn header(&mut self) -> Result<Option<Header>, String> {
        let mut header = Header::new_old();
        let mut block = Vec::with_capacity(BLOCK as usize);
        let read = self.source.by_ref().take(BLOCK).read_to_end(&mut block);
        match read.map_err(|e| self.damage(&e.to_string()))? {
            0 if self.is_part => return Ok(None),
            0 => {
                self.is_open = true;
                return Err(self.damage("it ends without the mark of its end"));
            }
            512 => header.as_mut_bytes().copy_from_slice(&block),
            _ => return Err(self.damage("it ends in the middle of a header")),
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        // The checksum counts its own eight bytes as spaces.
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        let own: u32 = block[148..156].iter().map(|&byte| u32::from(byte)).sum();
        if header.cksum().ok() != Some(sum - own + 8 * u32::from(b' ')) {
            return Err(self.damage("the checksum of a header is wrong"));
        }
        self.at += BLOCK;
        Ok(Some(header))
    }

    fn damage(&self, what: &str) -> String {
        format!("{what}, at byte {}", self.at)
    }
}

/// What holds some parts of a file, and where they belong.
fn sparse(name: &[u8]) -> Member {
    let name = String::from_utf8_lossy(name).into_owned();
    let why = "is a sparse file, of which a tar holds parts; pack it without --sparse";
    Member::Bad(name.clone(), Fault::Name { name, why })
}

fn member(kind: EntryType, name: &[u8]) -> Member {
    let bad = |fault| Member::Bad(String::from_utf8_lossy(name).into_owned(), fault);
    match kind {
        EntryType::Regular | EntryType::Continuous => match names::split(name) {
            Ok(Some(name)) => Member::File(name),
            Ok(None) => Member::Other(Some("files of shards without a key or an extension")),
            Err(fault) => bad(fault),
        },
        EntryType::Directory | EntryType::XGlobalHeader => Member::Other(None),
        _ => {
            let name = String::from_utf8_lossy(name).into_owned();
            bad(Fault::Name { name, why: "is a link or a device, which a sample cannot hold" })
        }
    }
}

/// What follows a body to fill its last block.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}
