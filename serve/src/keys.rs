//! The keys of clients.

use subtle::{Choice, ConstantTimeEq as _};

/// Keys, compared in a time that does not tell how much of one was right.
pub(crate) struct Keys {
    keys: Vec<Vec<u8>>,
}

impl Keys {
    /// These keys; with none, everybody may ask.
    pub fn new(keys: &[String]) -> Self {
        Self { keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect() }
    }

    /// Whether clients must show one.
    pub fn are_asked_for(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether a client who shows this may ask.
    pub fn allow(&self, shown: Option<&[u8]>) -> bool {
        if self.keys.is_empty() {
            return true;
        }
        let Some(shown) = shown else { return false };
        let same = |key: &Vec<u8>| key.as_slice().ct_eq(shown);
        // All are compared, whichever is right.
        self.keys.iter().map(same).fold(Choice::from(0), |any, one| any | one).into()
    }
}

/// The keys of a file: one a line; empty lines and lines that begin with # are none.
pub fn read_keys(file: &str) -> Result<Vec<String>, String> {
    let lines = file.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let keys = lines.map(|(i, line)| {
        let plain = line.len() >= 8 && line.bytes().all(|byte| byte.is_ascii_graphic());
        plain.then(|| line.to_owned()).ok_or_else(|| {
            format!("line {}: a key has at least 8 letters, digits and signs of ASCII and no space", i + 1)
        })
    });
    let keys: Vec<String> = keys.collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err("it holds no key; write one a line, or leave the file out to ask for none".into());
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_of_the_file_whole() {
        let keys = Keys::new(&read_keys("# ours\nfirst-key\n\n second-key \n").unwrap());
        for (shown, right) in
            [("first-key", true), ("second-key", true), ("first", false), ("first-key2", false)]
        {
            assert_eq!(keys.allow(Some(shown.as_bytes())), right, "{shown}");
        }
        assert!(!keys.allow(None) && Keys::new(&[]).allow(None));
        assert!(
            read_keys("# none\n").is_err() && read_keys("abcdefgh\nshort\n").unwrap_err().contains("line 2")
        );
    }
}
