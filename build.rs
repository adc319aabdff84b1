//! Lists the tiny models of the ladder's families, so that one is added by one file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the folder"))
        .join("src/cli/device/families/tiny");
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut list = String::from(
        "/// Every tiny model: its family and the text of its file.\nconst TINY_FAMILIES: &[(&str, &str)] = &[\n",
    );
    for file in files {
        let name = file.file_stem().and_then(|n| n.to_str()).expect("names of families are plain");
        writeln!(list, "    ({name:?}, include_str!({:?})),", file.display().to_string())
            .expect("a text grows");
    }
    list += "];\n";
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names the folder"));
    std::fs::write(out.join("tiny_families.rs"), list).expect("the list is written");
}
