//! Whether a tar is all there.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// The block that a tar is made of.
const BLOCK: u64 = 512;

/// Walk over the members of a tar; `Some` says why it is not whole.
///
/// Each member must lie inside the file, and a block of zeros must follow the last: every writer ends with
/// one, so without it the end is missing.
pub(super) fn fault(file: &File) -> io::Result<Option<String>> {
    let len = file.metadata()?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    archive.set_ignore_zeros(false);
    let mut end = 0;
    let mut members = 0_u64;
    {
        let mut reader = file;
        reader.seek(SeekFrom::Start(0))?;
    }
    for entry in archive.entries_with_seek()? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Ok(Some(format!("member {} of the tar is damaged: {error}", members + 1))),
        };
        let blocks = entry.size().div_ceil(BLOCK);
        end = entry.raw_file_position().saturating_add(blocks.saturating_mul(BLOCK));
        if end > len {
            return Ok(Some(format!("the tar ends within member {}", members + 1)));
        }
        members += 1;
    }
    if members == 0 {
        return Ok(Some("the tar has no members".to_owned()));
    }
    let mut reader = file;
    reader.seek(SeekFrom::Start(end))?;
    let mut block = [0xff; BLOCK as usize];
    let closed = match reader.read_exact(&mut block) {
        Ok(()) => block.iter().all(|byte| *byte == 0),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(error),
    };
    Ok((!closed).then(|| format!("the tar has no end after member {members}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn judge(bytes: &[u8]) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        fault(&file).unwrap()
    }

    fn whole(sizes: &[usize]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (i, &size) in sizes.iter().enumerate() {
            let mut header = tar::Header::new_ustar();
            header.set_size(size as u64);
            header.set_cksum();
            builder.append_data(&mut header, format!("{i}.txt"), &*vec![b'x'; size]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_tar_that_ends_anywhere_before_its_end_is_not_whole() {
        let tar = whole(&[700, 0, 512]);
        assert_eq!(judge(&tar), None);
        for end in [1, 511, 513, 1500, 1536, 2047, 2048, 2500, 3072] {
            assert!(judge(&tar[..end]).is_some(), "cut at {end}");
        }
        assert!(judge(b"").is_some());
        assert!(judge(&[0; 1024]).is_some());
        assert!(judge(&[b'x'; 2048]).is_some());
        let mut damaged = tar.clone();
        damaged[1536 + 20] ^= 1;
        assert!(judge(&damaged).unwrap().contains("member 2"));
        let mut huge = tar;
        huge[124..136].copy_from_slice(b"77777777777\0");
        assert!(judge(&huge).is_some());
    }
}
