//! Builds plug-ins for tests.

use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::needs;

/// A plug-in that was built, in a folder of its own.
pub struct Built {
    folder: TempDir,
    file: PathBuf,
}

impl Built {
    /// The id of its device, with these options behind it.
    pub fn id(&self, options: &str) -> String {
        format!("plugin:{}{options}", self.file.display())
    }

    /// The folder that it is in, which goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn is_there(compiler: &str) -> bool {
    let there = Command::new(compiler).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        needs::skip(&format!("there is no {compiler}; install a compiler of C and C++, and make"));
    }
    there
}

/// The plug-in of `tests/trial.c`, compiled with these definitions.
pub fn trial(definitions: &[&str]) -> Option<Built> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trial.c");
    compile(&source, definitions)
}

/// A plug-in of one C file.
pub fn compile(source: &Path, flags: &[&str]) -> Option<Built> {
    library("cc", "-std=c99", source, flags)
}

/// A plug-in of one C++ file.
pub fn compile_cpp(source: &Path, flags: &[&str]) -> Option<Built> {
    library("c++", "-std=c++17", source, flags)
}

fn library(compiler: &str, standard: &str, source: &Path, flags: &[&str]) -> Option<Built> {
    if !is_there(compiler) {
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(format!("plugin{DLL_SUFFIX}"));
    let output = Command::new(compiler)
        .args([standard, "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-pedantic", "-Werror"])
        .arg("-I")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../include"))
        .arg(source)
        .args(flags)
        .arg("-lm")
        .arg("-o")
        .arg(&file)
        .output()
        .expect("the compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(Built { folder, file })
}

/// A folder that is built with `make`.
pub fn make(folder: TempDir, name: &str) -> Option<Built> {
    if !["make", "cc", "c++"].into_iter().all(is_there) {
        return None;
    }
    let output = Command::new("make").current_dir(folder.path()).output().expect("make starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "a skeleton has warnings: {}", String::from_utf8_lossy(&output.stderr));
    let file = folder.path().join(format!("{name}{DLL_SUFFIX}"));
    Some(Built { folder, file })
}
