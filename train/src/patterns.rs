//! Names of parameters by patterns.

use wildmatch::WildMatch;

use crate::error::{Error, Result};

/// Patterns in which `*` stands for any characters.
#[derive(Debug, Clone)]
pub struct Patterns(Vec<(String, WildMatch)>);

impl Patterns {
    /// Patterns with the wildcards `*` and `?`.
    pub fn new(patterns: &[String]) -> Self {
        Self(patterns.iter().map(|p| (p.clone(), WildMatch::new(p))).collect())
    }

    /// The patterns as they were given.
    pub fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|(text, _)| text.as_str()).collect()
    }

    /// Whether one of them fits the whole name.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|(_, p)| p.matches(name))
    }

    /// An error naming a pattern that fits none of `names`, and the names most like it. `setting` is where it
    /// stands.
    ///
    /// # Errors
    /// When there is such a pattern.
    pub fn check<'a>(&self, setting: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let names: Vec<&str> = names.collect();
        for (text, pattern) in &self.0 {
            if names.iter().any(|n| pattern.matches(n)) {
                continue;
            }
            let mut near: Vec<(f64, &str)> =
                names.iter().map(|n| (strsim::normalized_damerau_levenshtein(n, text), *n)).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
            let near: Vec<&str> = near.into_iter().take(3).map(|n| n.1).collect();
            return Err(Error::Setting(format!(
                "{setting}: '{text}' matches nothing; the nearest names are {}",
                near.join(", ")
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        let p = Patterns::new(&["*.norm.weight".into(), "model.layers.*.q_proj".into()]);
        assert!(p.matches("model.norm.weight") && p.matches("model.layers.11.q_proj"));
        assert!(!p.matches("norm.weight") && !p.matches("model.layers.0.k_proj"));
        let e = p.check("lora.layers", ["a.norm.weight", "model.layers.0.k_proj"].into_iter()).unwrap_err();
        let e = e.to_string();
        assert!(
            e.contains("'model.layers.*.q_proj' matches nothing") && e.contains("layers.0.k_proj"),
            "{e}"
        );
    }
}
