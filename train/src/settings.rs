//! Settings as TOML: put over one another, and compared.

use toml::{Table, Value};

/// What is wrong with a TOML text, and for a key that is not known the nearest that is.
pub fn explained(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let quoted: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    let (true, Some((wrong, known))) = (error.message().starts_with("unknown "), quoted.split_first()) else {
        return text.trim_end().to_string();
    };
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(k, wrong), k)).min();
    match near {
        Some((distance, key)) if distance <= 2 + wrong.len() / 4 => {
            format!("{}\ndid you mean `{key}`?", text.trim_end())
        }
        _ => text.trim_end().to_string(),
    }
}

/// Set one value by its dotted key.
pub fn apply(table: &mut Table, setting: &str) -> Result<(), String> {
    let (key, text) =
        setting.split_once('=').ok_or_else(|| format!("--set {setting}: it needs the form key=value"))?;
    // What is no TOML value is a text.
    let value = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut t| t.remove("value"));
    let value = value.unwrap_or_else(|| Value::String(text.to_string()));
    let mut at = table;
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let next = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at =
            next.as_table_mut().ok_or_else(|| format!("--set {setting}: `{part}` holds a value, no keys"))?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

/// Where only one of steps and epochs is among the keys that are `new`, the other is forgotten.
pub fn one_length(table: &mut Table, new: impl Fn(&str) -> bool) {
    for (given, other) in [("steps", "epochs"), ("epochs", "steps")] {
        if new(given) && !new(other) {
            table.remove(other);
        }
    }
}

/// `over` laid over `table`; tables are merged, everything else is replaced.
pub fn overlay(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => overlay(old, new),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The keys in which two tables differ, with dots, and what each has there; in order of the keys.
pub fn differences(old: &Table, new: &Table) -> Vec<(String, Option<Value>, Option<Value>)> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut found = Vec::new();
    for key in keys {
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => {
                let inner = differences(a, b).into_iter();
                found.extend(inner.map(|(k, a, b)| (format!("{key}.{k}"), a, b)));
            }
            (a, b) if a == b => {}
            (a, b) => found.push((key.clone(), a.cloned(), b.cloned())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_their_keys() {
        let table = |text: &str| toml::from_str::<Table>(text).unwrap();
        let old =
            table("steps = 3\nout = 'a'\n[data]\nrows = 2\ntrain = [{ path = 'x' }]\n[lora]\nrank = 4\n");
        let new = table("steps = 5\nout = 'a'\n[data]\nrows = 2\ntrain = [{ path = 'y' }]\n");
        let found = differences(&old, &new);
        let keys: Vec<&str> = found.iter().map(|d| &d.0[..]).collect();
        assert_eq!(keys, ["data.train", "lora", "steps"]);
        assert_eq!(found[2].1, Some(Value::Integer(3)));
        assert_eq!(found[2].2, Some(Value::Integer(5)));
        assert!(differences(&old, &old).is_empty());
    }
}
