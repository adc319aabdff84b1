//! GGUF files as other programs would have written them.

use std::path::Path;

/// Takes everything of Percept's own out of a file: what is left are the keys that llama.cpp knows.
pub fn strip(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let mut at = Reader { bytes: &bytes, at: 8 };
    let (tensors, keys) = (at.u64(), at.u64());
    let mut kept = Vec::new();
    for _ in 0..keys {
        let start = at.at;
        let length = at.u64() as usize;
        let key = std::str::from_utf8(at.take(length)).unwrap().to_string();
        let kind = at.u32();
        at.value(kind);
        if !key.starts_with("percept.") && key != "tokenizer.huggingface.json" {
            kept.push(&bytes[start..at.at]);
        }
    }
    assert!(kept.len() < keys as usize, "{} holds nothing of Percept's", path.display());
    let start = at.at;
    for _ in 0..tensors {
        let length = at.u64() as usize;
        at.take(length);
        let rank = at.u32();
        at.take(8 * rank as usize + 4 + 8);
    }
    let mut out = bytes[..16].to_vec();
    out.extend((kept.len() as u64).to_le_bytes());
    kept.iter().for_each(|pair| out.extend(*pair));
    out.extend(&bytes[start..at.at]);
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(&bytes[at.at.next_multiple_of(32)..]);
    std::fs::write(path, out).unwrap();
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        self.at += count;
        &self.bytes[self.at - count..self.at]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn value(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => self.at += 1,
            2 | 3 => self.at += 2,
            4..=6 => self.at += 4,
            10..=12 => self.at += 8,
            8 => {
                let length = self.u64() as usize;
                self.take(length);
            }
            9 => {
                let (of, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.value(of));
            }
            other => panic!("type {other}"),
        }
    }
}
