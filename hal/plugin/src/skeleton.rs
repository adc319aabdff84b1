//! Skeletons of plug-ins: each builds with one command, loads, and climbs the ladder's first rung.

use std::env::consts::DLL_SUFFIX;
use std::path::Path;
use std::str::FromStr;

/// The header that plug-ins are written against.
pub const HEADER: &str = include_str!("../../include/percept_plugin.h");

/// What a plug-in brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Functions for operations.
    Oplib,
    /// A compiler of kernels.
    Kernel,
    /// A compiler of graphs.
    Graph,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "oplib" => Ok(Kind::Oplib),
            "kernel" => Ok(Kind::Kernel),
            "graph" => Ok(Kind::Graph),
            _ => Err(format!("unknown kind '{name}'; known: oplib kernel graph")),
        }
    }
}

/// What a plug-in is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// C99.
    C,
    /// C++17.
    Cpp,
    /// Rust, by the macros of [`export`](crate::export).
    Rust,
}

impl FromStr for Language {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "c" => Ok(Language::C),
            "cpp" => Ok(Language::Cpp),
            "rust" => Ok(Language::Rust),
            _ => Err(format!("unknown language '{name}'; known: c cpp rust")),
        }
    }
}

/// A file of a skeleton: its path within the folder, and what it holds.
pub type SkeletonFile = (&'static str, String);

/// The files of a skeleton. `percept` is the folder of Percept's sources, which a plug-in in Rust depends on.
///
/// # Errors
/// When the name is none that a library can have, or `percept` holds no sources of Percept's.
pub fn skeleton(
    kind: Kind,
    language: Language,
    name: &str,
    percept: Option<&Path>,
) -> Result<Vec<SkeletonFile>, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(fits) {
        return Err(format!("'{name}' is no name for a plug-in: it is a-z first, then a-z, 0-9, _ and -"));
    }
    let fill = |text: &str| text.replace("NAME", name).replace("SUFFIX", DLL_SUFFIX);
    if language == Language::Rust {
        return rust(kind, percept, &fill);
    }
    let (part, tables) = match kind {
        Kind::Oplib => (include_str!("../skeleton/oplib.c"), "&oplib, NULL, NULL"),
        Kind::Kernel => (include_str!("../skeleton/kernel.c"), "NULL, &kernels, NULL"),
        Kind::Graph => (include_str!("../skeleton/graph.c"), "NULL, NULL, &graphs"),
    };
    let entry = include_str!("../skeleton/entry.c").replace("TABLES", tables);
    // The text is C99 and C++17 alike.
    let source = fill(&[include_str!("../skeleton/device.c"), part, &entry].concat());
    let (file, compiler) = match language {
        Language::Cpp => ("plugin.cpp", "$(CXX) -std=c++17"),
        _ => ("plugin.c", "$(CC) -std=c99"),
    };
    let makefile =
        fill(include_str!("../skeleton/Makefile")).replace("SOURCE", file).replace("COMPILER", compiler);
    Ok(vec![(file, source), ("Makefile", makefile), ("percept_plugin.h", HEADER.to_string())])
}

fn rust(
    kind: Kind,
    percept: Option<&Path>,
    fill: &dyn Fn(&str) -> String,
) -> Result<Vec<SkeletonFile>, String> {
    let percept = percept
        .ok_or("a plug-in in Rust depends on Percept's crates: say where its sources are, with --percept")?;
    let percept = percept.canonicalize().map_err(|e| format!("{}: {e}", percept.display()))?;
    if !percept.join("hal/plugin/Cargo.toml").is_file() {
        return Err(format!("{} does not hold Percept's sources", percept.display()));
    }
    let manifest = fill(include_str!("../skeleton/rust/manifest.toml"))
        .replace("PERCEPT", &format!("{}", percept.display()));
    let source = match kind {
        Kind::Oplib => include_str!("../skeleton/rust/oplib.rs"),
        Kind::Kernel => include_str!("../skeleton/rust/kernel.rs"),
        Kind::Graph => include_str!("../skeleton/rust/graph.rs"),
    };
    Ok(vec![("Cargo.toml", manifest), ("src/lib.rs", fill(source))])
}
