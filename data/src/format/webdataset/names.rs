//! Names of files in a shard: `KEY.EXT`, where the key is the path up to the first dot of its last part.

use crate::format::Fault;

/// A file's name taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Files with one key make a sample.
    pub key: String,
    /// What comes before the last dot after the key, as `0` in `a.0.png`; empty for most.
    pub place: String,
    /// The last extension, in lower case.
    pub extension: String,
}

/// Take a name apart, by the rules of Python's webdataset, which skips names without a key or an extension
/// and those with a part like `__this__`.
pub(super) fn split(name: &[u8]) -> Result<Option<Name>, Fault> {
    let Ok(name) = std::str::from_utf8(name) else {
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(Fault::Name { name, why: "is not UTF-8" });
    };
    let name = name.strip_prefix("./").unwrap_or(name);
    leads_nowhere(name).map_err(|why| Fault::Name { name: name.to_string(), why })?;
    let is_skipped = |part: &str| part.len() > 3 && part.starts_with("__") && part.ends_with("__");
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[base..].find('.').unwrap_or(0);
    if dot == 0 || name.split('/').any(is_skipped) {
        return Ok(None);
    }
    let (key, rest) = (&name[..base + dot], &name[base + dot + 1..]);
    let (place, extension) = rest.rsplit_once('.').unwrap_or(("", rest));
    let (key, place) = (key.to_string(), place.to_string());
    Ok(Some(Name { key, place, extension: extension.to_ascii_lowercase() }))
}

/// Hold a key to what can be read back: relative, without `..`, and without a dot in its last part.
pub(super) fn check_key(key: &str) -> Result<(), Fault> {
    let fault = |why| Fault::Name { name: key.to_string(), why };
    leads_nowhere(key).map_err(fault)?;
    let base = key.rsplit('/').next().unwrap_or(key);
    if base.is_empty() {
        return Err(fault("is empty"));
    }
    if base.contains('.') {
        return Err(fault("has a dot, where its extension would begin; replace it, as `shard_key` does"));
    }
    if key.split('/').any(|part| part.starts_with("__")) {
        return Err(fault("has a part that begins with two underscores, which readers skip"));
    }
    Ok(())
}

fn leads_nowhere(name: &str) -> Result<(), &'static str> {
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err("leads out of its folder by '..'");
    }
    if name.starts_with(['/', '\\']) || name.as_bytes().get(1) == Some(&b':') {
        return Err("is absolute");
    }
    if name.chars().any(char::is_control) {
        return Err("holds control characters");
    }
    Ok(())
}

/// A key that a shard can hold, from any text: what cannot stand in a key is written as `%` and two
/// hexadecimal digits per byte, so different texts have different keys.
///
/// ```
/// use percept_data::format::webdataset::shard_key;
/// assert_eq!(shard_key("album/cat"), "album/cat");
/// assert_eq!(shard_key("../v1.5 cat"), "%2E%2E/v1%2E5 cat");
/// ```
pub fn shard_key(text: &str) -> String {
    let mut key = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let opens = at == 0 || text[..at].ends_with('/');
        let misplaced = match c {
            '/' => at == 0 || at + 1 == text.len(),
            '_' => opens && text[at..].starts_with("__"),
            '.' | '%' | '\\' | ':' => true,
            _ => c.is_control(),
        };
        if misplaced {
            let mut bytes = [0; 4];
            key.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
        } else {
            key.push(c);
        }
    }
    if key.is_empty() { "%".to_string() } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart_as_in_pythons_webdataset() {
        let parts = |name: &str| {
            let name = split(name.as_bytes()).unwrap().unwrap();
            (name.key, name.place, name.extension)
        };
        let own = |a: &str, b: &str, c: &str| (a.to_string(), b.to_string(), c.to_string());
        assert_eq!(parts("a.png"), own("a", "", "png"));
        assert_eq!(parts("./x.y/a.0.JPG"), own("x.y/a", "0", "jpg"));
        assert_eq!(parts("x/a.left.rgb.png"), own("x/a", "left.rgb", "png"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let names = ["../a.png", "x/../../a.png", "/etc/a.png", "C:/a.png", "x\\..\\a.png", "a\n.png"];
        for name in names {
            assert!(matches!(split(name.as_bytes()), Err(Fault::Name { .. })), "{name}");
        }
        assert!(split(b"\xff.png").is_err());
        for name in ["README", "._a.png", "__index__/a.png", ".png"] {
            assert_eq!(split(name.as_bytes()), Ok(None));
        }
    }

    #[test]
    fn any_text_becomes_a_key_that_can_be_written() {
        let texts =
            ["", ".", "..", "/a/", "a.b", "__x__", "d/__x__", "a\0b", "Grüße/日本", "C:\\x", "100%", "//"];
        let keys: std::collections::HashSet<_> = texts.iter().map(|text| shard_key(text)).collect();
        assert_eq!(keys.len(), texts.len());
        for key in keys {
            check_key(&key).unwrap();
            assert_eq!(split(format!("{key}.png").as_bytes()).unwrap().unwrap().key, key);
        }
        assert_eq!(shard_key("Grüße"), "Grüße");
    }
}
