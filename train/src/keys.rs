//! The page of all keys, held to the configuration's own doc comments and defaults.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use toml::{Table, Value};

use crate::config::Config;
use crate::optimizer::ALL;

/// The files whose types a training file is made of.
const SOURCES: [&str; 3] = [
    include_str!("config.rs"),
    include_str!("../../data/src/augment.rs"),
    include_str!("../../data/src/leakage.rs"),
];

/// A file with what every one must say, and one of each table that can be left out.
const SMALLEST: &str = "out = 'runs/a'\nsteps = 1\nmodel.path = 'base'\nlora = { rank = 1, layers = ['a'] }\n\
    optimizer.group = [{ match = ['a'], rate = 1.0 }]\n[data]\nlength = 1\nrows = 1\ntrain = [{ path = 'a', augment = {} }]\n";

/// A struct or an enum of the sources.
#[derive(Default)]
struct Type {
    doc: String,
    /// Fields or variants.
    parts: Vec<Part>,
    is_enum: bool,
}

struct Part {
    name: String,
    doc: String,
    ty: String,
}

/// The types of a source, from the lines that rustfmt makes.
fn types(source: &str) -> BTreeMap<String, Type> {
    let mut found = BTreeMap::new();
    let mut open: Option<(String, Type)> = None;
    let (mut doc, mut renamed) = (String::new(), None);
    for line in source.lines().map(str::trim) {
        let quoted = |start: &str| line.split_once(start)?.1.split('"').next().map(str::to_string);
        if let Some(text) = line.strip_prefix("///") {
            doc += text;
            continue;
        }
        if line.starts_with("#[") {
            renamed = quoted("rename = \"").or(renamed);
            continue;
        }
        let item = line.strip_prefix("pub struct ").map(|l| (l, false));
        let item = item.or(line.strip_prefix("pub enum ").map(|l| (l, true)));
        match (item, &mut open) {
            (Some((rest, is_enum)), None) => {
                let name = rest.split([' ', '<', '(']).next().unwrap().to_string();
                open = Some((name, Type { doc: doc.trim().into(), is_enum, ..Type::default() }));
            }
            (None, Some(_)) if line == "}" => {
                let (name, ty) = open.take().unwrap();
                found.insert(name, ty);
            }
            (None, Some((_, ty))) => {
                let text = line.trim_start_matches("pub ").trim_end_matches(',');
                let (name, kind) = text.split_once(": ").unwrap_or((text, ""));
                let name = if ty.is_enum { name.to_lowercase() } else { name.to_string() };
                let name = renamed.take().unwrap_or(name);
                ty.parts.push(Part { name, doc: doc.trim().into(), ty: kind.into() });
            }
            _ => {}
        }
        (doc, renamed) = (String::new(), None);
    }
    found
}

/// The type inside `Option<...>` or `Vec<...>`.
fn inner(ty: &str) -> &str {
    let bare = ["Option<", "Vec<"].iter().find_map(|s| ty.strip_prefix(s)?.strip_suffix('>'));
    bare.map_or(ty, inner)
}

/// What a value of a type is, in words.
fn words(ty: &str, types: &BTreeMap<String, Type>) -> String {
    if let Some(ty) = ty.strip_prefix("Option<") {
        return words(ty.trim_end_matches('>'), types);
    }
    if let Some(ty) = ty.strip_prefix("Vec<").filter(|ty| *ty != "String>") {
        return format!("list of {}", words(ty.trim_end_matches('>'), types));
    }
    match ty {
        "bool" => "true or false".into(),
        "String" => "text".into(),
        "PathBuf" => "path".into(),
        "DType" => "dtype".into(),
        "Vec<String>" => "list of texts".into(),
        "u32" | "u64" | "usize" => "whole number".into(),
        "f32" | "f64" => "number".into(),
        "[f32; 2]" | "(f64, f64)" => "two numbers".into(),
        other => match types.get(other) {
            Some(choice) if choice.is_enum => {
                choice.parts.iter().map(|p| format!("`\"{}\"`", p.name)).collect::<Vec<_>>().join(", ")
            }
            _ => panic!("a value of type {other} has no words on the page of keys"),
        },
    }
}

/// One table of the page: the keys of `ty`, with the defaults that `whole` shows where `given` does not say
/// them.
fn table(
    page: &mut String,
    title: &str,
    ty: &str,
    types: &BTreeMap<String, Type>,
    given: &Table,
    whole: &Table,
) {
    let own = &types[ty];
    write!(page, "\n## {title}\n\n{}\n\n| key | value | default | |\n|---|---|---|---|\n", own.doc).unwrap();
    let mut nested = Vec::new();
    for part in &own.parts {
        let kind = inner(&part.ty);
        let is_table = types.get(kind).is_some_and(|t| !t.is_enum) || kind == "Table";
        if is_table {
            nested.push((part, kind));
        }
        let what = match (is_table, part.ty.contains("Vec<")) {
            (true, true) => "list of tables".to_string(),
            (true, false) => "table".to_string(),
            (false, _) => words(&part.ty, types),
        };
        let default = match (given.get(&part.name), whole.get(&part.name)) {
            (Some(_), _) if part.name == "steps" => "this or `epochs` is required".into(),
            (Some(_), _)
                if part.ty.starts_with("Option<")
                    || ["group", "train"].contains(&&part.name[..]) && ty != "DataConfig" =>
            {
                String::new()
            }
            (Some(Value::Table(_)), _) if part.name != "model" && part.name != "data" => String::new(),
            (Some(_), _) => "required".into(),
            (None, Some(_)) if is_table => String::new(),
            (None, Some(value)) => format!("`{value}`"),
            (None, None) => String::new(),
        };
        let mut doc = part.doc.clone();
        if let Some(choice) = types.get(kind).filter(|t| t.is_enum) {
            for p in &choice.parts {
                write!(doc, " `{}`: {}", p.name, p.doc).unwrap();
            }
        }
        writeln!(page, "| `{}` | {what} | {default} | {} |", part.name, doc.replace('|', "\\|")).unwrap();
    }
    let none = Table::new();
    for (part, kind) in nested.into_iter().filter(|(_, k)| *k != "Table") {
        let is_list = part.ty.contains("Vec<");
        let title = match (title, is_list) {
            ("At the top", true) => format!("`[[{}]]`", part.name),
            ("At the top", false) => format!("`[{}]`", part.name),
            (outer, _) => {
                // Of the two lists of corpora the first stands for both.
                let outer = outer.split(" and ").next().unwrap_or(outer).trim_matches(['`', '[', ']']);
                if is_list {
                    format!("`[[{outer}.{}]]`", part.name)
                } else {
                    format!("`[{outer}.{}]`", part.name)
                }
            }
        };
        // Both corpora have the same keys.
        if part.name == "held_out" {
            continue;
        }
        let one = |t: &Table| match t.get(&part.name) {
            Some(Value::Table(t)) => Some(t.clone()),
            Some(Value::Array(a)) => a.first().and_then(Value::as_table).cloned(),
            _ => None,
        };
        let title =
            if part.name == "train" { "`[[data.train]]` and `[[data.held_out]]`".into() } else { title };
        table(
            page,
            &title,
            kind,
            types,
            &one(given).unwrap_or(none.clone()),
            &one(whole).unwrap_or(none.clone()),
        );
    }
}

/// The whole page.
fn page() -> String {
    let mut types: BTreeMap<String, Type> = SOURCES.iter().flat_map(|s| types(s)).collect();
    // Optimizers are a table rather than an enum.
    let part = |o: &&dyn crate::optimizer::Optimizer| Part {
        name: o.name().into(),
        doc: o.about().into(),
        ty: String::new(),
    };
    let kinds = Type { parts: ALL.iter().map(part).collect(), is_enum: true, ..Type::default() };
    types.insert("OptimizerKind".into(), kinds);
    let given: Table = toml::from_str(SMALLEST).unwrap();
    let config = Config::parse(Path::new("smallest.toml"), SMALLEST, &[]).unwrap();
    // Through text, in which 0.9 in single precision is 0.9.
    let whole: Table = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    let mut page = String::from(
        "# The keys of a training file\n\nThis page is made from the doc comments and defaults of \
         [config.rs](../train/src/config.rs), and a test holds it to them;\n`PERCEPT_WRITE_PAGES=1 cargo test -p \
         percept-train keys` writes it anew. [Training](training.md) explains how they work together.\nA key can be set \
         on the command line with `--set optimizer.rate=3e-4`, and anew for every `[[stage]]`.\n",
    );
    table(&mut page, "At the top", "Config", &types, &given, &whole);
    page
}

#[test]
fn the_page_of_keys_is_that_of_the_doc_comments() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/training-keys.md");
    let made = page();
    if std::env::var_os("PERCEPT_WRITE_PAGES").is_some() {
        std::fs::write(&place, &made).unwrap();
    }
    let found = std::fs::read_to_string(&place).unwrap_or_default();
    let first = made.lines().zip(found.lines()).find(|(a, b)| a != b);
    assert!(
        made == found,
        "docs/training-keys.md is not what config.rs says, first here: {first:?}. Write it anew with \
         PERCEPT_WRITE_PAGES=1 cargo test -p percept-train keys"
    );
}

/// Every key that a whole configuration has is on the page, so that no type of it is overlooked.
#[test]
fn every_key_that_is_read_is_on_the_page() {
    fn keys(table: &Table, all: &mut Vec<String>) {
        for (key, value) in table {
            all.push(key.clone());
            match value {
                Value::Table(t) => keys(t, all),
                Value::Array(a) => a.iter().filter_map(Value::as_table).for_each(|t| keys(t, all)),
                _ => {}
            }
        }
    }
    let config = Config::parse(Path::new("smallest.toml"), SMALLEST, &[]).unwrap();
    let mut all = Vec::new();
    keys(&Table::try_from(&config).unwrap(), &mut all);
    let page = page();
    let missing: Vec<&String> = all.iter().filter(|k| !page.contains(&format!("| `{k}` |"))).collect();
    assert!(all.len() > 50 && missing.is_empty(), "{missing:?}");
}
