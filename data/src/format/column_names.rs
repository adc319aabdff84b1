//! Names of a table's columns.

use std::collections::{HashMap, HashSet};

/// Columns of one name under different ones, as pandas has it: `name`, `name.1`, `name.2`. Also the first name that is there
/// again, and what its second column is called.
pub(super) fn told_apart(names: Vec<String>) -> (Vec<String>, Option<(String, String)>) {
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let (mut seen, mut renamed) = (HashMap::<String, usize>::new(), None);
    let mut apart = Vec::with_capacity(names.len());
    for name in names {
        let count = seen.entry(name.clone()).or_default();
        if *count == 0 {
            *count = 1;
            apart.push(name);
            continue;
        }
        let mut new = format!("{name}.{count}");
        *count += 1;
        while !taken.insert(new.clone()) {
            new = format!("{name}.{count}");
            *count += 1;
        }
        renamed.get_or_insert_with(|| (name, new.clone()));
        apart.push(new);
    }
    (apart, renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_one_name_are_told_apart_as_by_pandas() {
        // What pandas 3.1 calls the columns of these headers.
        for (header, expected) in [
            ("a,a,b,a", "a,a.1,b,a.2"),
            ("a,a,a.1,a", "a,a.2,a.1,a.3"),
            ("a.1,a,a,a.1", "a.1,a,a.2,a.1.1"),
            ("a,a,a.1", "a,a.2,a.1"),
            ("a.1,a.1,a,a", "a.1,a.1.1,a,a.2"),
            ("id,text", "id,text"),
        ] {
            let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(told_apart(names(header)).0, names(expected), "{header}");
        }
        let renamed = told_apart(vec!["a".into(), "a".into(), "a".into()]).1;
        assert_eq!(renamed, Some(("a".to_owned(), "a.1".to_owned())));
    }
}
