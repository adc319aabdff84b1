//! Where files go: names that depend on what is requested, never on when it arrives.

use std::fmt;
use std::path::{Component, Path};

use percept_modalities::kind;
use sha2::{Digest, Sha256};

/// The first 128 bits of the SHA-256 of what names a sample.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

impl Key {
    /// The key of an address, path, or place in a list.
    pub fn of(url: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(url.as_bytes()).into();
        Self(digest[..16].iter().fold(0, |key, &byte| key << 8 | u128::from(byte)))
    }

    /// Low bits, which number a stream of random numbers.
    pub fn low(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The name of a list's sample: `files/ab/abcd….jpg`, by its address and what its bytes are.
pub(super) fn sample_name(key: Key, url: &str, head: &[u8]) -> String {
    let key = key.to_string();
    format!("files/{}/{key}.{}", &key[..2], extension(url, head))
}

/// The usual extension of what begins like this, or that of the address, or `bin`.
fn extension(url: &str, head: &[u8]) -> String {
    if let Some(known) = kind::of(head) {
        return known.extension().to_owned();
    }
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.') {
        Some((_, e)) if (1..=5).contains(&e.len()) && e.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            e.to_ascii_lowercase()
        }
        _ => "bin".to_owned(),
    }
}

/// Why a path from outside may not be used under a folder of ours, if so.
pub(super) fn unsafe_path(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("its name is empty");
    }
    if path.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Some("its name has control characters");
    }
    if path.contains('\\') || path.contains(':') && cfg!(windows) {
        return Some("its name has a backslash or colon");
    }
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
    // Components leave out `.` and empty parts, which would name one file in two ways.
    let parts = path.split('/').count();
    if Path::new(path).components().filter(|&c| plain(c)).count() != parts {
        return Some("its name leads out of its folder");
    }
    if path.split('/').any(|part| part.len() > 255) { Some("its name is too long") } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percept_data::hash::hexadecimal;

    #[test]
    fn names_come_from_the_address_and_the_bytes() {
        let url = "http://a.example/x.PNG?size=1#top";
        let key = Key::of(url);
        let digest = hexadecimal(Sha256::digest(url));
        assert_eq!(key.to_string(), digest[..32]);
        let name = |head: &[u8]| sample_name(key, url, head);
        assert_eq!(name(b"\xff\xd8\xff\xe0"), format!("files/{}/{}.jpg", &digest[..2], &digest[..32]));
        assert!(name(b"<html>").ends_with(".png"));
        assert!(name(b"RIFF1234WEBPVP8 ").ends_with(".webp"));
        assert!(sample_name(key, "http://a.example/../..", b"").ends_with(".bin"));
        assert!(sample_name(key, "http://a.example/x.j/g", b"").ends_with(".bin"));
    }

    #[test]
    fn paths_stay_in_their_folder() {
        for good in ["a", "a/b.jpg", "Ä/ö .txt", "..a/b.."] {
            assert_eq!(unsafe_path(good), None, "{good}");
        }
        for bad in ["", "/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a/", "a\0b", "a\nb", "a\\b"] {
            assert!(unsafe_path(bad).is_some(), "{bad:?}");
        }
        assert!(unsafe_path(&"x".repeat(300)).is_some());
    }
}
